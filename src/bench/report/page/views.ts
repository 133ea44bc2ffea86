/** From the report's data to charts: what the page shows in each of its boxes. */
import type { PageData, PageGeneration, PageTrace } from '../pageData.js';
import { barRows, columns, lines, stackedRows, type Line, type Series } from './charts.js';
import { inHtml, type Html } from './html.js';
import { showToken } from './text.js';
import { maskDrawing, stepAt, treeDrawing } from './trees.js';

export function runOf(data: PageData, name: string): PageData['report']['runs'][number] {
  return data.report.runs.find((run) => run.name === name)!;
}

/** Runs with a tree, those that have a colour in the page. */
export function draftingRuns(data: PageData): string[] {
  return data.runs.filter((name) => runOf(data, name).decoding.tree !== 'none');
}

export function categoryLabels(data: PageData): string[] {
  return [...data.report.runs[0].categories.map((row) => row.category), 'all'];
}

export function stepsView(data: PageData, width: number): Html {
  const series: Series[] = draftingRuns(data).map((name) => {
    const run = runOf(data, name);
    const values = [...run.categories.map((row) => row.tokens_per_step), run.ratios.tokens_per_step];
    return { name, color: data.runs.indexOf(name), values };
  });
  return barRows(categoryLabels(data), series, width, { unit: '', mark: 1 });
}

export function speedView(data: PageData, width: number): Html {
  const series: Series[] = data.runs.flatMap((name) => {
    const run = runOf(data, name);
    if (!run.over_base) return [];
    const values = [...run.categories.map((row) => row.speed_up), run.over_base.tokens_per_second];
    return [{ name, color: data.runs.indexOf(name), values }];
  });
  return barRows(categoryLabels(data), series, width, { unit: 'x', mark: 1 });
}

export function histogramView(data: PageData, width: number): Html {
  const names = draftingRuns(data);
  const longest = Math.max(1, ...names.map((name) => runOf(data, name).accept_histogram.length - 1));
  const labels = Array.from({ length: longest }, (_, index) => String(index + 1));
  const series = names.map((name) => ({
    name,
    color: data.runs.indexOf(name),
    values: labels.map((_, index) => ({ value: runOf(data, name).accept_histogram[index + 1] || 0 })),
  }));
  return columns(labels, series, width, 'tokens added by a step');
}

export function depthView(data: PageData, width: number): Html {
  const names = draftingRuns(data);
  const deepest = Math.max(1, ...names.map((name) => runOf(data, name).depths.length));
  const labels = Array.from({ length: deepest }, (_, index) => String(index + 1));
  const series = names.map((name) => ({
    name,
    color: data.runs.indexOf(name),
    values: labels.map((_, index) => {
      const row = runOf(data, name).depths[index];
      return row ? { value: row.reached } : null;
    }),
  }));
  return columns(labels, series, width, 'depth of the accepted node');
}

export function stagesView(data: PageData, width: number): Html {
  const rows = data.runs.map((name) => ({
    name,
    parts: runOf(data, name).stages.map((stage) => ({ name: stage.stage, value: stage.per_token_ms })),
  }));
  return stackedRows(rows, width, 'ms/token');
}

/** Mean accept length over the last `window` steps, at the position in the text where the last of them ended. */
export function movingAverage(lengths: string, window: number): { x: number; y: number }[] {
  const points: { x: number; y: number }[] = [];
  const values = Array.from(lengths, (digit) => parseInt(digit, 36));
  let position = 1;
  let total = 0;
  values.forEach((value, step) => {
    position += value;
    total += value - (step >= window ? values[step - window] : 0);
    if (step >= Math.min(window, values.length) - 1) {
      points.push({ x: position, y: total / Math.min(window, step + 1) });
    }
  });
  return points;
}

export function movingView(data: PageData, generation: PageGeneration, window: number, width: number): Html {
  const series: Line[] = draftingRuns(data).map((name) => ({
    name,
    color: data.runs.indexOf(name),
    points: movingAverage(generation.lengths[name] || '', window),
  }));
  return lines(series, width, {
    xAxis: 'new tokens so far',
    yAxis: 'tokens per step, last ' + window + ' steps',
  });
}

/**
 * Cost of a verification by its nodes: as measured before the run (dashed), and as the runs saw it. Of runs with another
 * precision, provider or number of threads than the baseline's, nothing is drawn.
 */
export function costView(data: PageData, width: number): Html {
  const base = runOf(data, data.runs[0]);
  const settingOf = ({ model, machine }: typeof base): string =>
    [model.precision, model.provider, machine.threads].join();
  const seen = new Map<number, { steps: number; total: number }>();
  for (const run of data.report.runs.filter((each) => settingOf(each) === settingOf(base))) {
    for (const { nodes, steps, backbone_ms } of run.cost) {
      const sum = seen.get(nodes) ?? { steps: 0, total: 0 };
      seen.set(nodes, { steps: sum.steps + steps, total: sum.total + backbone_ms * steps });
    }
  }
  const points = [...seen]
    .filter(([, { steps }]) => steps >= 5)
    .sort(([a], [b]) => a - b)
    .map(([nodes, { steps, total }]) => ({ x: nodes, y: total / steps }));
  const measured = (base.cost_curve ?? []).map(({ nodes, milliseconds }) => ({ x: nodes, y: milliseconds }));
  const series: Line[] = [
    { name: 'measured before the run', color: 7, dashed: true, points: measured },
    { name: 'backbone run, as the runs saw it', color: 1, dots: true, points },
  ].filter((line) => line.points.length > 0);
  return lines(series, width, { xAxis: 'nodes', yAxis: 'ms', log: true, fromZero: true });
}

/** A metric of a sweep's runs against the swept value, one line a tree; the baseline is a level. */
export function sweepView(
  data: PageData,
  metric: 'tokens_per_step' | 'tokens_per_second',
  width: number,
): Html {
  const sweep = data.report.sweep;
  if (!sweep) return inHtml``;
  const values = Array.from(new Set(sweep.points.map((point) => point.value)));
  const numeric = values.every((value) => Number.isFinite(Number(value)));
  const place = (value: string): number => (numeric ? Number(value) : values.indexOf(value));
  const names = Array.from(new Set(sweep.points.map((point) => point.series)));
  const series: Line[] = names.map((name, index) => ({
    name,
    color: index + 1,
    dots: true,
    points: sweep.points
      .filter((point) => point.series === name)
      .map((point) => {
        const estimate = runOf(data, point.run).ratios[metric];
        return { x: place(point.value), y: estimate.value, low: estimate.low, high: estimate.high };
      }),
  }));
  const level = runOf(data, data.report.base).ratios[metric].value;
  const xs = values.map(place);
  const ends = [Math.min(...xs), Math.max(...xs)].map((x) => ({ x, y: level }));
  series.push({ name: data.report.base, color: 0, dashed: true, points: ends });
  return lines(series, width, {
    xAxis: sweep.parameter,
    yAxis: metric === 'tokens_per_step' ? 'tokens per step' : 'tokens per second',
    log: numeric,
    labels: numeric ? undefined : values,
    fromZero: metric === 'tokens_per_second',
  });
}

/** The text around a position; what each run's step added there is underlined in its colour. */
export function contextView(trace: PageTrace, position: number): Html {
  const from = Math.max(0, position - 24);
  const shown = trace.tokens.slice(from, position + 20);
  return inHtml`${shown.map((token, index) => {
    const text = token.replace(/\n/g, '⏎\n');
    return from + index === position ? inHtml`<mark>${text || '∅'}</mark>` : inHtml`<span>${text}</span>`;
  })}`;
}

/** One run's tree at a position, with what it accepted and its mask. */
export function stepView(
  data: PageData,
  trace: PageTrace,
  name: string,
  position: number,
  width: number,
): Html {
  const steps = trace.steps[name] || [];
  const step = stepAt(steps, position);
  const color = '--own:var(--run-' + (data.runs.indexOf(name) % 8) + ')';
  if (!step)
    return inHtml`<div class="tree" style="${color}"><h3>${name}</h3><p class="quiet">No tree kept here.</p></div>`;
  const texts = data.texts;
  const nodes = step.tokens.length;
  const text = (token: number): string => showToken(texts[String(token)] || '#' + token, 18);
  const path = step.accepted
    .slice(1)
    .map((row, index) => inHtml`${index > 0 ? ' ' : ''}<b>${text(step.tokens[row])}</b>`);
  const outcome = [
    inHtml`root <i>${text(step.tokens[0])}</i>, accepted ${path.length ? path : 'none'}, `,
    inHtml`then bonus <i>${text(step.bonus)}</i>: ${step.accepted.length} token${step.accepted.length > 1 ? 's' : ''}`,
  ];
  return inHtml`<div class="tree" style="${color}">${[
    inHtml`<h3>${name} <small>step ${steps.indexOf(step) + 1}, ${nodes} nodes</small></h3>`,
    inHtml`<p class="outcome">${outcome}</p><div class="scroll">${treeDrawing(step, texts, width)}</div>`,
    inHtml`<details open><summary>Mask, ${nodes} x ${nodes}: which nodes a node attends to</summary>`,
    inHtml`<div class="mask">${maskDrawing(step, Math.min(width, 420))}</div></details>`,
  ]}</div>`;
}
