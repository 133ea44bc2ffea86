/** HTML and SVG, in the page and in Node.js. Attributes must stand in double quotes. */
import { Escaping, EscapedText, type Content } from '../../../util/escapedText.js';

export class Html extends EscapedText {}

export type HtmlContent = Content<Html>;

const html = new Escaping(Html, escapeHtml);
export const inHtml = html.template;
export const htmlOf = html.textOf;

function escapeHtml(text: string): string {
  return text
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
    .replace(/"/g, '&quot;')
    .replace(/'/g, '&#39;');
}
