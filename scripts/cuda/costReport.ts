import type { DeviceSteps } from '../../src/runtime/index.js';

/** What `cost` measures, and what it makes of it: no runtime, no clock, so that it can be tested with made-up times. */

export interface StepCost {
  readonly nodes: number;
  /** Median of a verification of so many nodes. */
  readonly milliseconds: number;
  /** Bytes over PCIe in a step of so many nodes, heads and compaction included. */
  readonly toDevice: number;
  readonly fromDevice: number;
}

/** A decoding step of 64 nodes, heads to compaction: medians in milliseconds. */
export interface WholeStep {
  readonly heads: number;
  readonly tree: number;
  readonly backbone: number;
  readonly accept: number;
  readonly keep: number;
  readonly total: number;
  /** Of the total, inside ONNX Runtime's runs; undefined where the runtime does not say. */
  readonly runs?: number;
}

export interface PastCost {
  readonly past: number;
  readonly steps: readonly StepCost[];
  /** Bytes that a step of one node must read: all weights, and the past's keys and values. */
  readonly bytesRead: number;
  readonly whole?: WholeStep;
}

export interface CostMeasurement {
  readonly model: string;
  readonly provider: string;
  readonly precision: string;
  readonly steps: DeviceSteps;
  /** Bytes per second of a copy within the device, read and written bytes counted. */
  readonly copyRate?: number;
  /** MiB in use on the first GPU before and with the model. */
  readonly memoryBefore?: number;
  readonly memoryAfter?: number;
  readonly table: readonly PastCost[];
}

export interface Target {
  readonly name: string;
  readonly limit: string;
  readonly found: string;
  readonly state: 'met' | 'not met' | 'not measured';
}

/** The targets are set for a Llama-2-7B-shaped model at this past. */
const TARGET_PAST = 1024;
const MOST_COST_RATIO = 1.1;
const LEAST_COPY_SHARE = 0.8;
const MOST_PCIE_BYTES = 1e6;
const MOST_OVERHEAD = 0.02;

export function costRatio({ steps }: PastCost, nodes: number): number | undefined {
  const [one, many] = [1, nodes].map((wanted) => steps.find((step) => step.nodes === wanted)?.milliseconds);
  return one && many ? many / one : undefined;
}

/** Bytes per second that a step of one node reads. */
export function readRate({ steps, bytesRead }: PastCost): number | undefined {
  const one = steps.find(({ nodes }) => nodes === 1)?.milliseconds;
  return one ? (bytesRead / one) * 1000 : undefined;
}

/** The share of a whole step spent outside ONNX Runtime's runs: bindings, copies, trees, acceptance, bookkeeping. */
export function loopOverhead({ whole }: PastCost): number | undefined {
  return whole?.runs === undefined ? undefined : 1 - whole.runs / whole.total;
}

export function judgeTargets({ table, copyRate }: CostMeasurement): Target[] {
  const at = table.find(({ past }) => past === TARGET_PAST);
  const rate = at && readRate(at);
  const bytes = table.flatMap(({ steps }) => steps.map(({ toDevice, fromDevice }) => toDevice + fromDevice));
  return [
    judge(
      `cost(64)/cost(1) at past ${TARGET_PAST}`,
      at && costRatio(at, 64),
      [MOST_COST_RATIO, 'most'],
      fixed,
    ),
    judge(
      `read rate at n = 1, past ${TARGET_PAST}, of the copy rate`,
      rate && copyRate && rate / copyRate,
      [LEAST_COPY_SHARE, 'least'],
      percent,
    ),
    judge(
      'bytes over PCIe in a step, largest',
      bytes.length > 0 ? Math.max(...bytes) : undefined,
      [MOST_PCIE_BYTES, 'most'],
      (n) => `${(n / 1e6).toFixed(3)} MB`,
    ),
    judge(
      `time outside ONNX Runtime's runs, 64 nodes, past ${TARGET_PAST}`,
      at && loopOverhead(at),
      [MOST_OVERHEAD, 'most'],
      percent,
    ),
  ];
}

const fixed = (value: number): string => value.toFixed(3);
const percent = (value: number): string => `${(100 * value).toFixed(1)}%`;

function judge(
  name: string,
  value: number | undefined,
  [limit, kind]: readonly [number, 'most' | 'least'],
  show: (value: number) => string,
): Target {
  const wanted = `${kind === 'most' ? 'at most' : 'at least'} ${show(limit)}`;
  if (value === undefined || !Number.isFinite(value)) {
    return { name, limit: wanted, found: '', state: 'not measured' };
  }
  const isMet = kind === 'most' ? value <= limit : value >= limit;
  return { name, limit: wanted, found: show(value), state: isMet ? 'met' : 'not met' };
}

/** The measurement as Markdown. */
export function renderCost(measurement: CostMeasurement): string {
  const { model, provider, precision, steps, table, copyRate, memoryBefore, memoryAfter } = measurement;
  const sizes = [...new Set(table.flatMap((each) => each.steps.map(({ nodes }) => nodes)))];
  const lines = [
    `# Cost of a step: ${model}, ${precision}, ${provider}, steps ${steps}`,
    '',
    'Milliseconds, medians.',
    '',
    tableRow(['past', ...sizes.map((n) => `n = ${n}`), 'cost(64)/cost(1)', 'read rate', 'of copy rate']),
    tableRow(Array.from({ length: sizes.length + 4 }, () => '---')),
  ];
  for (const each of table) {
    const rate = readRate(each);
    lines.push(
      tableRow([
        String(each.past),
        ...sizes.map((n) => each.steps.find(({ nodes }) => nodes === n)?.milliseconds.toFixed(2) ?? ''),
        costRatio(each, 64)?.toFixed(3) ?? '',
        rate === undefined ? '' : `${(rate / 1e9).toFixed(0)} GB/s`,
        rate === undefined || copyRate === undefined ? '' : percent(rate / copyRate),
      ]),
    );
  }
  lines.push('', '## Whole steps of 64 nodes', '');
  const stages = ['heads', 'tree', 'backbone', 'accept', 'keep', 'total', 'runs'] as const;
  lines.push(tableRow(['past', ...stages, 'outside the backbone', 'outside runs']));
  lines.push(tableRow(Array.from({ length: stages.length + 3 }, () => '---')));
  for (const each of table) {
    const { past, whole } = each;
    if (whole === undefined) continue;
    const overhead = loopOverhead(each);
    const times = stages.map((stage) => whole[stage]?.toFixed(3) ?? '');
    lines.push(
      tableRow([
        String(past),
        ...times,
        percent(1 - whole.backbone / whole.total),
        overhead === undefined ? '' : percent(overhead),
      ]),
    );
  }
  if (memoryBefore !== undefined && memoryAfter !== undefined) {
    lines.push('', `GPU memory: ${memoryAfter - memoryBefore} MiB with the model open.`);
  }
  lines.push('', '## Targets (set for the Llama-2-7B shape)', '', tableRow(['', 'limit', 'found', '']));
  lines.push(tableRow(['---', '---', '---', '---']));
  for (const { name, limit, found, state } of judgeTargets(measurement)) {
    lines.push(tableRow([name, limit, found, `**${state}**`]));
  }
  return `${lines.join('\n')}\n`;
}

function tableRow(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}
