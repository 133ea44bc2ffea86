import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import type { CostPoint } from '../decoding/policy/costCurve.js';
import type { Report } from '../util/progressReport.js';
import type { OpenOptions } from '../runtime/spec.js';
import type { ChosenGraphs } from './choose.js';
import { readSwitch, readVariable } from '../util/environment.js';
import { takeLock } from '../util/lock.js';
import type { Manifest } from './manifestSchema.js';
import { readTunings, tuningName, writeTunings, type Tuning } from './tuningFile.js';

/** Node counts that are measured: close together where automatic trees live. */
const measuredNodes = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64];
/** Rounds of a measurement; the least time of each size counts, since whatever disturbs a step makes it longer. */
const rounds = 5;
/** A measurement on a busy machine is repeated at later starts, up to this many times in all. */
const mostBusyMeasurements = 3;
/** Share of the processor time that calm steps take of what their threads could. */
const calmShare = 0.85;
/** A calm step's median over its least time. */
const calmSpread = 1.25;

export interface TuningSubject {
  readonly folder: string;
  readonly manifest: Manifest;
  readonly graphs: ChosenGraphs;
  readonly spec: OpenOptions;
  readonly report: Report;
  readonly signal?: AbortSignal;
}

export interface TuningWishes {
  /** As asked; measured otherwise. */
  readonly threads?: number;
  /** Measure even what is known. */
  readonly measureAgain?: boolean;
}

export interface TuningResult {
  readonly threads: number;
  readonly costs: readonly CostPoint[];
  /** Whether a row gives the same bits alone and in a tree; undefined on CUDA. */
  readonly exactRows: boolean | undefined;
}

/** The number of threads (as asked, else measured), what steps cost with it, and whether rows are exact. */
export async function ensureTuning(subject: TuningSubject, wishes: TuningWishes): Promise<TuningResult> {
  const key = await measurementKey(subject);
  const known = async (): Promise<Tuning> =>
    (await readTunings(subject.folder, subject.report))[key] ?? { curves: {} };
  const first = wishes.measureAgain ? { curves: {} } : await known();
  const result = resultOf(first, wishes.threads);
  if (result && !isDoubtful(first)) return result;

  const release = await takeMeasurersLock(subject);
  try {
    // Another process may have measured meanwhile.
    const latest = wishes.measureAgain ? first : await known();
    const isNew = !result || latest.busyMeasurements !== first.busyMeasurements;
    const fromOther = isNew && resultOf(latest, wishes.threads);
    if (fromOther) return fromOther;
    const tuned = await measure(subject, latest, wishes.threads);
    await keep(subject, key, tuned);
    return resultOf(tuned, wishes.threads)!;
  } finally {
    await release();
  }
}

function resultOf(tuning: Tuning, asked: number | undefined): TuningResult | undefined {
  const threads = asked ?? tuning.threads;
  const costs = threads === undefined ? undefined : tuning.curves[threads];
  if (threads === undefined || costs === undefined) return undefined;
  return { threads, costs, exactRows: tuning.exactRows };
}

function isDoubtful({ busyMeasurements = 0 }: Tuning): boolean {
  return busyMeasurements > 0 && busyMeasurements < mostBusyMeasurements;
}

/** One process measures at a time, since two would disturb each other. Where no lock can be made, it measures all the same. */
async function takeMeasurersLock({ folder, report, signal }: TuningSubject): Promise<() => Promise<void>> {
  const onWait = (holder: number): void =>
    report.note(`Process ${holder} is measuring what a step costs: waiting for it.`);
  try {
    return await takeLock(join(folder, `${tuningName}.lock`), { signal, onWait });
  } catch (error) {
    if (signal?.aborted) throw error;
    return () => Promise.resolve();
  }
}

async function keep({ folder, report }: TuningSubject, key: string, tuned: Tuning): Promise<void> {
  try {
    await writeTunings(folder, { ...(await readTunings(folder, report)), [key]: tuned });
  } catch (error) {
    report.note(
      `The measurement could not be kept (${(error as Error).message}); it will be repeated next time.`,
    );
  }
}

async function measure(subject: TuningSubject, known: Tuning, asked: number | undefined): Promise<Tuning> {
  const candidates = asked === undefined ? threadCandidates(subject.spec) : [asked];
  const curves: Record<string, readonly CostPoint[]> = { ...known.curves };
  const why = isDoubtful(known) ? 'again, since it was busy' : '(once)';
  let exactRows = known.exactRows;
  let isBusy = false;
  for (const [i, threads] of candidates.entries()) {
    if (curves[threads] === undefined || isDoubtful(known)) {
      const measured = await measureWith(subject, threads, () => {
        if (i === 0) subject.report.begin(`Measuring what a step costs on this machine ${why}`);
      });
      curves[threads] = leastOf(curves[threads], measured.curve);
      if (measured.exactRows !== undefined) exactRows = measured.exactRows && exactRows !== false;
      isBusy ||= measured.isBusy;
    }
    subject.report.progress((i + 1) / candidates.length);
  }
  const busyMeasurements = isBusy ? (known.busyMeasurements ?? 0) + 1 : undefined;
  const tuned = { ...known, curves, exactRows, busyMeasurements };
  if (asked !== undefined) return tuned;
  const score = (threads: number): number => millisecondsPerToken(curves[threads], subject.graphs);
  const threads = candidates.reduce((best, each) => (score(each) < score(best) ? each : best));
  return { ...tuned, threads };
}

/** 1, 2, 4, ... and all: more threads than cores only get in each other's way, and fewer may be faster. */
function threadCandidates(spec: OpenOptions): number[] {
  if (spec.provider === 'cuda') return [1];
  const all = availableParallelism();
  const candidates = [all];
  for (let threads = 1; threads < all && threads <= 16; threads *= 2) candidates.push(threads);
  return candidates.sort((a, b) => a - b);
}

/** @param onOpened told when the model could be opened: only then is there something to wait for */
async function measureWith(
  { spec, signal }: TuningSubject,
  threads: number,
  onOpened: () => void,
): Promise<{ curve: CostPoint[]; exactRows: boolean | undefined; isBusy: boolean }> {
  signal?.throwIfAborted();
  const { measureRowExactness, measureStepCost, openModel } = await import('../runtime/index.js');
  const model = await openModel({ ...spec, threads });
  onOpened();
  try {
    const exactRows = spec.provider === 'cpu' ? await measureRowExactness(model, { signal }) : undefined;
    const begin = performance.now();
    const cpu = process.cpuUsage();
    const points = await measureStepCost(model, measuredNodes, { repeats: rounds, signal });
    const { user, system } = process.cpuUsage(cpu);
    const share = (user + system) / 1000 / (performance.now() - begin) / threads;
    const spread = points.reduce((sum, { milliseconds, least }) => sum + milliseconds / least, 0);
    const isBusy = spec.provider === 'cpu' && (share < calmShare || spread / points.length > calmSpread);
    const curve = points.map(({ nodes, least }) => ({ nodes, milliseconds: least }));
    return { curve: leastOf(undefined, curve), exactRows, isBusy };
  } finally {
    await model.dispose();
  }
}

/**
 * The lesser time of each size that both have. No run takes longer than one of more nodes, which could hold it: a time
 * above a later one was disturbed.
 */
function leastOf(known: readonly CostPoint[] | undefined, measured: readonly CostPoint[]): CostPoint[] {
  const before = new Map(known?.map(({ nodes, milliseconds }) => [nodes, milliseconds]));
  let least = Infinity;
  return [...measured]
    .reverse()
    .map(({ nodes, milliseconds }) => {
      least = Math.min(least, milliseconds, before.get(nodes) ?? Infinity);
      return { nodes, milliseconds: least };
    })
    .reverse();
}

/** How often a head's first candidates are right when nothing is known about the heads. */
const usualAccuracies = [0.55, 0.3, 0.2, 0.15];

/**
 * The score of a curve: the time of a token with the best tree the curve allows, when nodes come in the order of a
 * chain of the heads' first candidates. Rough, but threads are compared on equal terms.
 */
function millisecondsPerToken(curve: readonly CostPoint[], { heads }: ChosenGraphs): number {
  if (heads === undefined) return curve[0].milliseconds;
  const accuracies =
    heads.accuracies.length > 0 ? heads.accuracies.map((ranks) => ranks[0]) : usualAccuracies;
  const times = curve.map(({ nodes, milliseconds }) => {
    let path = 1;
    const tokens = accuracies.slice(0, nodes - 1).reduce((sum, accuracy) => sum + (path *= accuracy), 1);
    return milliseconds / tokens;
  });
  return Math.min(...times);
}

/** What the measurement depends on. */
async function measurementKey({ manifest, graphs, spec }: TuningSubject): Promise<string> {
  const { nodeRuntimeVersion } = await import('../runtime/cpu/facts.js');
  const { int8Products } = await import('../runtime/index.js');
  const onCuda = spec.provider === 'cuda';
  const parts = [
    spec.provider,
    onCuda
      ? (spec.ortLibrary ?? readVariable('MEDUSA_PLUS_ORT_LIBRARY'))
      : `ONNX Runtime ${nodeRuntimeVersion()}`,
    onCuda && readSwitch('MEDUSA_PLUS_CUDA_GRAPHS') ? 'CUDA graphs' : undefined,
    cpus()[0]?.model.trim() ?? process.arch,
    `${availableParallelism()} threads`,
    // A processor's name does not tell its kernels: virtual machines hide instruction sets.
    onCuda ? undefined : `int8 products ${await int8Products()}`,
    manifest.exporter,
    ...graphs.backbone.files.map((file) => file.sha256.slice(0, 16)),
  ];
  return parts.filter((part) => part !== undefined).join(' | ');
}
