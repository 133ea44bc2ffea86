/** Charts as SVG. Each takes its data and a width in pixels, so that text keeps its size on any screen. */
import { inHtml, type Html } from './html.js';
import { colorOf, formatNumber, ticks } from './text.js';

export interface BarValue {
  readonly value: number;
  readonly low?: number;
  readonly high?: number;
}

export interface Series {
  readonly name: string;
  /** Index of the run's colour. */
  readonly color: number;
  readonly values: readonly (BarValue | null)[];
}

/** Rows of horizontal bars with 95% whiskers, grouped by label. `mark` draws a line at a value of interest. */
export function barRows(
  labels: readonly string[],
  series: readonly Series[],
  width: number,
  options: { readonly unit: string; readonly mark?: number },
): Html {
  const bar = 13;
  const gap = 12;
  const left = Math.min(110, width * 0.28);
  const right = 48;
  const group = series.length * (bar + 2) + gap;
  const height = labels.length * group + 26;
  const tops = series.flatMap((each) => each.values.map((value) => (value ? value.high || value.value : 0)));
  const most = Math.max(options.mark || 0, ...tops.filter(Number.isFinite)) * 1.02 || 1;
  const x = (value: number): number => left + (value / most) * (width - left - right);
  const parts: Html[] = [];
  for (const tick of ticks(0, most, width > 500 ? 6 : 4)) {
    parts.push(
      inHtml`<line class="grid" x1="${x(tick)}" x2="${x(tick)}" y1="0" y2="${height - 20}"/>`,
      inHtml`<text class="tick" x="${x(tick)}" y="${height - 6}" text-anchor="middle">${tick}</text>`,
    );
  }
  labels.forEach((label, row) => {
    const top = row * group + gap / 2;
    const middle = top + (series.length * (bar + 2)) / 2;
    parts.push(
      inHtml`<text class="label${label === 'all' ? ' strong' : ''}" x="${left - 8}" y="${middle + 4}" text-anchor="end">${label}</text>`,
    );
    series.forEach((each, index) => {
      const value = each.values[row];
      if (!value || !Number.isFinite(value.value)) return;
      const y = top + index * (bar + 2);
      const end = x(value.value);
      let far = end;
      parts.push(
        inHtml`<rect x="${left}" y="${y}" width="${Math.max(0, end - left)}" height="${bar}" rx="2" fill="${colorOf(each.color)}"><title>${label}, ${each.name}: ${formatNumber(value.value)}${options.unit}</title></rect>`,
      );
      if (value.low !== undefined && value.high !== undefined && Number.isFinite(value.low)) {
        const [a, b, mid] = [x(value.low), x(value.high), y + bar / 2];
        far = Math.max(far, b);
        parts.push(inHtml`<path class="whisker" d="M${a} ${mid}H${b}M${a} ${mid - 3}v6M${b} ${mid - 3}v6"/>`);
      }
      parts.push(
        inHtml`<text class="value" x="${far + 5}" y="${y + bar - 3}">${formatNumber(value.value)}${options.unit}</text>`,
      );
    });
  });
  if (options.mark !== undefined) {
    parts.push(
      inHtml`<line class="mark" x1="${x(options.mark)}" x2="${x(options.mark)}" y1="0" y2="${height - 20}"/>`,
    );
  }
  return svg(width, height, parts);
}

/** Grouped columns of shares, 0 to 100%. */
export function columns(
  labels: readonly string[],
  series: readonly Series[],
  width: number,
  axis: string,
): Html {
  const [left, bottom, top, height] = [40, 36, 18, 240];
  const most = Math.max(
    0.01,
    ...series.flatMap((each) => each.values.map((value) => (value ? value.value : 0))),
  );
  const y = (value: number): number => top + (1 - value / most) * (height - top - bottom);
  const slot = (width - left - 8) / labels.length;
  const bar = Math.min(46, (slot * 0.8) / series.length);
  const percent = (share: number): string => `${Math.round(share * 100)}%`;
  const parts = levels(ticks(0, most, 4), y, [left, width], percent);
  labels.forEach((label, row) => {
    const start = left + row * slot + (slot - bar * series.length) / 2;
    parts.push(
      inHtml`<text class="label" x="${left + (row + 0.5) * slot}" y="${height - bottom + 16}" text-anchor="middle">${label}</text>`,
    );
    series.forEach((each, index) => {
      const value = each.values[row];
      if (!value) return;
      const [x, from] = [start + index * bar, y(value.value)];
      parts.push(
        inHtml`<rect x="${x + 1}" y="${from}" width="${bar - 2}" height="${Math.max(0, y(0) - from)}" rx="2" fill="${colorOf(each.color)}"><title>${each.name}: ${(value.value * 100).toFixed(1)}%</title></rect>`,
      );
      if (bar >= 30) {
        parts.push(
          inHtml`<text class="value" x="${x + bar / 2}" y="${from - 4}" text-anchor="middle">${Math.round(value.value * 100)}</text>`,
        );
      }
    });
  });
  parts.push(
    inHtml`<text class="axis" x="${(left + width) / 2}" y="${height - 4}" text-anchor="middle">${axis}</text>`,
  );
  return svg(width, height, parts);
}

export interface Line {
  readonly name: string;
  readonly color: number;
  readonly dashed?: boolean;
  readonly dots?: boolean;
  readonly points: readonly {
    readonly x: number;
    readonly y: number;
    readonly low?: number;
    readonly high?: number;
  }[];
}

/** Lines over a linear or logarithmic x axis. `labels` replaces the x ticks. */
export function lines(
  series: readonly Line[],
  width: number,
  options: {
    readonly xAxis: string;
    readonly yAxis: string;
    readonly log?: boolean;
    readonly fromZero?: boolean;
    readonly labels?: readonly string[];
  },
): Html {
  // Half of a label stands beyond the points at both ends.
  const room = 4 + widthOf(options.labels ?? []) / 2;
  const [left, right, top, bottom, height] = [Math.max(44, room), Math.max(14, room), 22, 38, 270];
  const all = series.flatMap((each) => each.points);
  if (all.length === 0) return inHtml``;
  const place = (value: number): number => (options.log ? Math.log2(Math.max(value, 1e-9)) : value);
  const xs = all.map((point) => place(point.x));
  const ys = all
    .flatMap((point) => [point.y, point.low, point.high])
    .filter((y): y is number => Number.isFinite(y));
  const [xLow, xHigh] = [Math.min(...xs), Math.max(...xs)];
  const yHigh = Math.max(...ys) * 1.04;
  const yLow = options.fromZero ? 0 : Math.min(...ys) * 0.96;
  const x = (value: number): number =>
    left + ((place(value) - xLow) / (xHigh - xLow || 1)) * (width - left - right);
  const y = (value: number): number =>
    top + (1 - (value - yLow) / (yHigh - yLow || 1)) * (height - top - bottom);
  const parts = levels(ticks(yLow, yHigh, 5), y, [left, width - right], String);
  const xTicks = options.log
    ? [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024].filter((n) => place(n) >= xLow && place(n) <= xHigh)
    : ticks(xLow, xHigh, width > 500 ? 8 : 4).filter(
        xs.every(Number.isInteger) ? Number.isInteger : () => true,
      );
  for (const tick of options.labels ? options.labels.map((_, index) => index) : xTicks) {
    const text = options.labels ? options.labels[tick] : String(tick);
    parts.push(
      inHtml`<text class="tick" x="${x(tick)}" y="${height - bottom + 16}" text-anchor="middle">${text}</text>`,
    );
  }
  for (const each of series) {
    const color = colorOf(each.color);
    const path = each.points.map(
      (point, index) => `${index ? 'L' : 'M'}${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`,
    );
    parts.push(
      inHtml`<path class="line${each.dashed ? ' dashed' : ''}" d="${path.join('')}" stroke="${color}"><title>${each.name}</title></path>`,
    );
    for (const point of each.points) {
      if (point.low !== undefined && point.high !== undefined && Number.isFinite(point.low)) {
        parts.push(
          inHtml`<path d="M${x(point.x)} ${y(point.low)}V${y(point.high)}" stroke="${color}" stroke-width="1.5" opacity="0.6"/>`,
        );
      }
      if (each.dots || each.points.length === 1) {
        parts.push(
          inHtml`<circle cx="${x(point.x)}" cy="${y(point.y)}" r="3.5" fill="${color}"><title>${each.name}: ${formatNumber(point.y)}</title></circle>`,
        );
      }
    }
  }
  parts.push(
    inHtml`<text class="axis" x="${(left + width) / 2}" y="${height - 4}" text-anchor="middle">${options.xAxis}</text>`,
    inHtml`<text class="axis" x="4" y="12">${options.yAxis}</text>`,
  );
  return svg(width, height, parts);
}

/** One bar a run, made of its stages. */
export function stackedRows(
  rows: readonly {
    readonly name: string;
    readonly parts: readonly { readonly name: string; readonly value: number }[];
  }[],
  width: number,
  unit: string,
): Html {
  const [bar, gap] = [26, 30];
  const totals = rows.map((row) => row.parts.reduce((sum, part) => sum + part.value, 0));
  const total = (row: number): string => `${formatNumber(totals[row])} ${unit}`;
  const right = 10 + widthOf(rows.map((_, row) => total(row)));
  const most = Math.max(...totals) || 1;
  const parts: Html[] = [];
  rows.forEach((row, index) => {
    const y = index * (bar + gap) + 18;
    let x = 0;
    parts.push(inHtml`<text class="label strong" x="0" y="${y - 5}">${row.name}</text>`);
    row.parts.forEach((part, stage) => {
      const length = (part.value / most) * (width - right);
      parts.push(
        inHtml`<rect x="${x}" y="${y}" width="${Math.max(0, length - 0.5)}" height="${bar}" fill="var(--stage-${stage})"><title>${part.name}: ${formatNumber(part.value)} ${unit}</title></rect>`,
      );
      if (length > 46) {
        parts.push(
          inHtml`<text class="inside" x="${x + length / 2}" y="${y + bar / 2 + 4}" text-anchor="middle">${formatNumber(part.value)}</text>`,
        );
      }
      x += length;
    });
    parts.push(inHtml`<text class="value" x="${x + 6}" y="${y + bar / 2 + 4}">${total(index)}</text>`);
  });
  return svg(width, rows.length * (bar + gap), parts);
}

/** Pixels that the longest of some texts takes at the most, in the size of ticks and values. */
function widthOf(texts: readonly string[]): number {
  return 7 * Math.max(0, ...texts.map((text) => text.length));
}

/** Horizontal lines of the grid, with their values left of them. */
function levels(
  values: readonly number[],
  y: (value: number) => number,
  [left, right]: readonly [number, number],
  show: (value: number) => string,
): Html[] {
  return values.flatMap((value) => [
    inHtml`<line class="grid" x1="${left}" x2="${right}" y1="${y(value)}" y2="${y(value)}"/>`,
    inHtml`<text class="tick" x="${left - 6}" y="${y(value) + 4}" text-anchor="end">${show(value)}</text>`,
  ]);
}

export function svg(width: number, height: number, parts: readonly Html[]): Html {
  return inHtml`<svg width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">${parts}</svg>`;
}
