/** The page's script: the functions of this folder as text, and the call that starts them. */
import { mountBrowser, mountMoving, mountPage, put } from './app.js';
import { barRows, columns, lines, stackedRows, svg } from './charts.js';
import { escapeHtml, Html, htmlOf, inHtml } from './html.js';
import { colorOf, formatNumber, showToken, ticks } from './text.js';
import { depthsOf, maskDrawing, rowsOf, stepAt, treeDrawing } from './trees.js';
import * as views from './views.js';

const FUNCTIONS: readonly { toString(): string }[] = [
  Html,
  escapeHtml,
  htmlOf,
  inHtml,
  showToken,
  formatNumber,
  ticks,
  colorOf,
  svg,
  barRows,
  columns,
  lines,
  stackedRows,
  depthsOf,
  rowsOf,
  treeDrawing,
  maskDrawing,
  stepAt,
  ...Object.values(views),
  put,
  mountMoving,
  mountBrowser,
  mountPage,
];

/** All functions of the page, without the call. (Some compilers wrap functions in `__name`, which does nothing.) */
export function pageFunctions(): string {
  return ['const __name = (each) => each;', ...FUNCTIONS.map((each) => each.toString())].join('\n');
}

export function pageScript(): string {
  return `(() => {
"use strict";
${pageFunctions()}
const data = JSON.parse(document.getElementById('data').textContent);
mountPage(document, data, (redraw) => window.addEventListener('resize', redraw));
document.documentElement.dataset.ready = 'yes';
})();`.replace(/<\/script/gi, '<\\/script');
}
