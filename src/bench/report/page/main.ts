/** The page's script: puts the charts into their boxes and keeps them as wide as these. Needs no library and no network. */
import type { PageData } from '../pageData.js';
import { htmlOf, type Html, type HtmlContent } from './html.js';
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

const charts: Readonly<Record<string, (data: PageData, width: number) => Html>> = {
  'chart-steps': stepsView,
  'chart-speed': speedView,
  'chart-histogram': histogramView,
  'chart-depth': depthView,
  'chart-stages': stagesView,
  'chart-cost': costView,
  'chart-sweep-steps': (data, width) => sweepView(data, 'tokens_per_step', width),
  'chart-sweep-speed': (data, width) => sweepView(data, 'tokens_per_second', width),
};

const data = JSON.parse(document.getElementById('data')!.textContent) as PageData;
mountCharts();
mountMoving();
mountStepBrowser();
document.documentElement.dataset.ready = 'yes';

/** Alone writes into the page. */
function put(element: HTMLElement, content: HtmlContent): void {
  element.innerHTML = htmlOf(content);
}

function widthOf(element: HTMLElement): number {
  return Math.max(240, Math.floor(element.clientWidth));
}

function mountCharts(): void {
  for (const [id, draw] of Object.entries(charts)) {
    const box = document.getElementById(id);
    if (!box) continue;
    let drawn = 0;
    const redraw = (): void => {
      const width = widthOf(box);
      if (width !== drawn) put(box, draw(data, width));
      drawn = width;
    };
    redraw();
    window.addEventListener('resize', redraw);
  }
}

/** The moving average along one generation, of the choices above it. */
function mountMoving(): void {
  const chart = document.getElementById('chart-moving');
  if (!chart) return;
  const choice = document.getElementById('moving-choice') as HTMLSelectElement;
  const averaged = document.getElementById('moving-window') as HTMLSelectElement;
  const draw = (): void => {
    const generation = data.generations[Number(choice.value)];
    put(chart, movingView(data, generation, Number(averaged.value), widthOf(chart)));
  };
  choice.addEventListener('change', draw);
  averaged.addEventListener('change', draw);
  window.addEventListener('resize', draw);
  draw();
}

function mountStepBrowser(): void {
  const trees = document.getElementById('step-trees');
  if (!trees) return;
  const choice = document.getElementById('step-choice') as HTMLSelectElement;
  const slider = document.getElementById('step-slider') as HTMLInputElement;
  const label = document.getElementById('step-label')!;
  const context = document.getElementById('step-context')!;
  const names = draftingRuns(data).filter((name) => data.traces.some((trace) => trace.steps[name]));
  const trace = (): PageData['traces'][number] => data.traces[Number(choice.value)];
  /** Positions at which some run begins a step. */
  const positions = (): number[] => {
    const all = names.flatMap((name) => (trace().steps[name] ?? []).map((step) => step.position));
    return [...new Set(all)].sort((a, b) => a - b);
  };
  const draw = (): void => {
    const position = positions()[Number(slider.value)] ?? 0;
    const width = trees.clientWidth;
    const side = width > 900 ? (width - 40 * names.length) / Math.min(2, names.length) : width - 36;
    label.textContent = `token ${position + 1}`;
    put(context, contextView(trace(), position));
    put(
      trees,
      names.map((name) => stepView(data, trace(), name, position, Math.max(240, side))),
    );
  };
  const moveTo = (place: number): void => {
    slider.max = String(Math.max(0, positions().length - 1));
    slider.value = String(Math.max(0, Math.min(Number(slider.max), place)));
    draw();
  };
  const moveBy = (places: number) => (): void => moveTo(Number(slider.value) + places);
  choice.addEventListener('change', () => moveTo(0));
  slider.addEventListener('input', draw);
  document.getElementById('step-back')!.addEventListener('click', moveBy(-1));
  document.getElementById('step-forth')!.addEventListener('click', moveBy(1));
  window.addEventListener('resize', draw);
  moveTo(0);
}
