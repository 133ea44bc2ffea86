/** Puts the charts into the page and keeps them as wide as their boxes. Needs no library and no network. */
import { htmlOf, type Html } from './html.js';
import type { PageData } from './types.js';
import {
  contextView,
  costView,
  depthView,
  draftingRuns,
  histogramView,
  movingView,
  speedView,
  stagesView,
  stepsView,
  stepView,
  sweepView,
} from './views.js';

/** The little of the DOM that is used: the types of browsers are not part of this project. */
export interface PageElement {
  innerHTML: string;
  textContent: string | null;
  value: string;
  max: string;
  clientWidth: number;
  addEventListener(type: string, listener: () => void): void;
}
export interface PageDocument {
  getElementById(id: string): PageElement | null;
}

/** Alone writes into the page. */
export function put(element: PageElement, content: readonly Html[]): void {
  element.innerHTML = htmlOf(content);
}

export function mountPage(page: PageDocument, data: PageData, onResize: (redraw: () => void) => void): void {
  const box = (id: string, draw: (width: number) => Html): void => {
    const element = page.getElementById(id);
    if (!element) return;
    let drawn = 0;
    const redraw = (): void => {
      const width = Math.max(240, Math.floor(element.clientWidth));
      if (width === drawn) return;
      drawn = width;
      put(element, [draw(width)]);
    };
    redraw();
    onResize(redraw);
  };
  box('chart-steps', (width) => stepsView(data, width));
  box('chart-speed', (width) => speedView(data, width));
  box('chart-histogram', (width) => histogramView(data, width));
  box('chart-depth', (width) => depthView(data, width));
  box('chart-stages', (width) => stagesView(data, width));
  box('chart-cost', (width) => costView(data, width));
  box('chart-sweep-steps', (width) => sweepView(data, 'tokens_per_step', width));
  box('chart-sweep-speed', (width) => sweepView(data, 'tokens_per_second', width));
  mountMoving(page, data, onResize);
  mountBrowser(page, data, onResize);
}

export function mountMoving(
  page: PageDocument,
  data: PageData,
  onResize: (redraw: () => void) => void,
): void {
  const chart = page.getElementById('chart-moving');
  const choice = page.getElementById('moving-choice');
  const window = page.getElementById('moving-window');
  if (!chart || !choice || !window || data.generations.length === 0) return;
  const draw = (): void => {
    const generation = data.generations[Number(choice.value) || 0];
    const width = Math.max(240, chart.clientWidth);
    put(chart, [movingView(data, generation, Number(window.value) || 16, width)]);
  };
  choice.addEventListener('change', draw);
  window.addEventListener('change', draw);
  onResize(draw);
  draw();
}

export function mountBrowser(
  page: PageDocument,
  data: PageData,
  onResize: (redraw: () => void) => void,
): void {
  const choice = page.getElementById('step-choice');
  const slider = page.getElementById('step-slider');
  const label = page.getElementById('step-label');
  const context = page.getElementById('step-context');
  const trees = page.getElementById('step-trees');
  const back = page.getElementById('step-back');
  const forth = page.getElementById('step-forth');
  if (!choice || !slider || !label || !context || !trees || !back || !forth || data.traces.length === 0)
    return;
  const names = draftingRuns(data).filter((name) => data.traces.some((trace) => trace.steps[name]));
  /** Positions at which some run begins a step. */
  const positions = (): number[] => {
    const trace = data.traces[Number(choice.value) || 0];
    const all = names.flatMap((name) => (trace.steps[name] || []).map((step) => step.position));
    return Array.from(new Set(all)).sort((a, b) => a - b);
  };
  const draw = (): void => {
    const trace = data.traces[Number(choice.value) || 0];
    const places = positions();
    const position = places[Math.min(Number(slider.value) || 0, places.length - 1)] || 0;
    const width = trees.clientWidth;
    const side = width > 900 ? (width - 40 * names.length) / Math.min(2, names.length) : width - 36;
    label.textContent = 'token ' + (position + 1);
    put(context, [contextView(trace, position)]);
    put(
      trees,
      names.map((name) => stepView(data, trace, name, position, Math.max(240, side))),
    );
  };
  const restart = (): void => {
    slider.max = String(Math.max(0, positions().length - 1));
    slider.value = '0';
    draw();
  };
  const move = (by: number): void => {
    slider.value = String(Math.max(0, Math.min(Number(slider.max), Number(slider.value) + by)));
    draw();
  };
  choice.addEventListener('change', restart);
  slider.addEventListener('input', draw);
  back.addEventListener('click', () => move(-1));
  forth.addEventListener('click', () => move(1));
  onResize(draw);
  restart();
}
