import { cpus } from 'node:os';
import { join } from 'node:path';
import type { CostPoint } from '../decoding/policy/costCurve.js';
import { deepestSourced } from '../decoding/tree/candidateTree.js';
import type { Report } from '../util/progressReport.js';
import type { OpenOptions } from '../runtime/spec.js';
import type { ChosenGraphs } from './choose.js';
import { readSwitch, readVariable } from '../util/environment.js';
import { takeLock } from '../util/lock.js';
import { availableProcessors, physicalCores } from '../util/processors.js';
import type { Manifest } from './manifestSchema.js';
import { readTunings, tuningName, writeTunings, type Tuning } from './tuningFile.js';

/** Node counts that are measured: close together where automatic trees live. */
const measuredNodes = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64];
/** Those that numbers of threads are compared at. */
const searchedNodes = [1, 2, 4, 8];
/** Those that are looked at behind a longer past too. */
const longerNodes = [1, 4, 16];
/** Rounds of a measurement; on a calm machine the least time of each size counts: whatever disturbs a step makes it longer. */
const rounds = 5;
const searchRounds = 3;
/** Plain steps that a step is worth at most: a tree is at most 16 deep, and a bonus token follows. */
const mostWorthwhile = deepestSourced + 1;
/** Milliseconds after which no further round of a measurement is begun. */
const budget = 12_000;
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
  /** False: with `threads` given nothing is measured; what is known is used. Default true. */
  readonly measure?: boolean;
}

export interface TuningResult {
  readonly threads: number;
  readonly costs: readonly CostPoint[];
  /** What they cost with other numbers of threads, where that is known. */
  readonly curves: Tuning['curves'];
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
  if (result && !isDoubtful(first, result.threads)) return result;
  if (wishes.measure === false && wishes.threads !== undefined)
    return result ?? { threads: wishes.threads, costs: [], curves: {}, exactRows: first.exactRows };

  const release = await takeMeasurersLock(subject);
  try {
    // Another process may have measured meanwhile.
    const latest = wishes.measureAgain ? first : await known();
    const fromOther = resultOf(latest, wishes.threads);
    if (fromOther && !(result && busyCount(latest, fromOther.threads) === busyCount(first, result.threads)))
      return fromOther;
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
  return { threads, costs, curves: tuning.curves, exactRows: tuning.exactRows };
}

function isDoubtful(tuning: Tuning, threads: number): boolean {
  const busy = busyCount(tuning, threads);
  return busy > 0 && busy < mostBusyMeasurements;
}

const busyCount = ({ busyMeasurements }: Tuning, threads: number): number => busyMeasurements?.[threads] ?? 0;

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
  const before = asked ?? known.threads;
  const isRepeated = before !== undefined && isDoubtful(known, before);
  const why = isRepeated ? 'again, since it was busy' : '(once)';
  const progress = new Progress(subject.report, `Measuring what a step costs on this machine ${why}`);
  const found =
    asked === undefined ? await searchThreads(subject, progress) : { threads: asked, isBusy: false };
  const { threads } = found;
  const measured = await measureWith(subject, threads, progress.part(1), 'all');
  const curves = { ...known.curves, [threads]: leastOf(known.curves[threads], measured.curve) };
  const exactRows =
    measured.exactRows === undefined ? known.exactRows : measured.exactRows && known.exactRows !== false;
  const isBusy = measured.isBusy || found.isBusy;
  const { [threads]: earlier = 0, ...others } = known.busyMeasurements ?? {};
  const busyMeasurements = isBusy ? { ...others, [threads]: earlier + 1 } : others;
  const tuned = { ...known, curves, exactRows, busyMeasurements };
  return asked === undefined ? { ...tuned, threads } : tuned;
}

/** Shows how far a measurement is, in parts whose number is not known at first. */
class Progress {
  private hasBegun = false;
  private done = 0;

  constructor(
    private readonly report: Report,
    private readonly title: string,
  ) {}

  /** The next part, which is `share` of what is left. Its steps are told from 0 to 1; the first says that it has begun. */
  part(share: number): (done: number) => void {
    const from = this.done;
    this.done += share * (1 - from);
    const to = this.done;
    return (done) => {
      if (!this.hasBegun) this.report.begin(this.title);
      this.hasBegun = true;
      this.report.progress(from + done * (to - from));
    };
  }
}

/**
 * The number of threads with the best score at a few sizes. Cores are tried first, then half of them and so on as long as
 * that is not slower, then all threads of the processor: more threads than cores mostly get in each other's way.
 *
 * @returns whether the machine was busy at one of them too: then another number might have won
 */
async function searchThreads(
  subject: TuningSubject,
  progress: Progress,
): Promise<{ threads: number; isBusy: boolean }> {
  if (subject.spec.provider === 'cuda') return { threads: 1, isBusy: false };
  const all = availableProcessors();
  const cores = Math.min(all, physicalCores() ?? all);
  if (all === 1) return { threads: 1, isBusy: false };
  let isBusy = false;
  const score = async (threads: number): Promise<number> => {
    const measured = await measureWith(subject, threads, progress.part(0.3), 'few');
    isBusy ||= measured.isBusy;
    return millisecondsPerToken(measured.curve, subject.graphs);
  };
  let best = { threads: cores, score: await score(cores) };
  for (let threads = Math.floor(cores / 2); threads >= 1; threads = Math.floor(threads / 2)) {
    const found = { threads, score: await score(threads) };
    if (found.score > best.score) break;
    best = found;
  }
  // Where fewer threads than cores are better, more than cores are not.
  if (all > cores && best.threads === cores && (await score(all)) < best.score)
    return { threads: all, isBusy };
  return { threads: best.threads, isBusy };
}

/**
 * @param onProgress told how much is done, the first time when the model could be opened: only then is there something
 *   to wait for
 * @param scope `few` sizes, to compare, or `all`, with a look at whether rows are exact
 */
async function measureWith(
  { spec, signal }: TuningSubject,
  threads: number,
  onProgress: (done: number) => void,
  scope: 'few' | 'all',
): Promise<{ curve: CostPoint[]; exactRows: boolean | undefined; isBusy: boolean }> {
  signal?.throwIfAborted();
  const { measureRowExactness, measureStepCost, openModel } = await import('../runtime/index.js');
  const model = await openModel({ ...spec, threads });
  onProgress(0);
  try {
    const isWhole = scope === 'all';
    const exactRows =
      isWhole && spec.provider === 'cpu' ? await measureRowExactness(model, { signal }) : undefined;
    const begin = performance.now();
    const cpu = process.cpuUsage();
    const points = await measureStepCost(model, isWhole ? measuredNodes : searchedNodes, {
      repeats: isWhole ? rounds : searchRounds,
      mostCost: mostWorthwhile,
      behindLonger: isWhole ? longerNodes : [],
      budget,
      signal,
      onProgress,
    });
    const { user, system } = process.cpuUsage(cpu);
    const share = (user + system) / 1000 / (performance.now() - begin) / threads;
    const spread = points.reduce((sum, { milliseconds, least }) => sum + milliseconds / least, 0);
    // More threads than are of use do not fill their processors, busy machine or not: that says nothing in a search.
    const isShared = isWhole && share < calmShare;
    const isBusy = spec.provider === 'cpu' && (isShared || spread / points.length > calmSpread);
    // Beside another program the least times are strokes of luck, of some sizes and not of others; medians have the curve's shape.
    const curve = points.map(({ nodes, milliseconds, least, perPosition }) => ({
      nodes,
      milliseconds: isBusy ? milliseconds : least,
      perPosition,
    }));
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
  const before = new Map(known?.map((point) => [point.nodes, point]));
  let least = Infinity;
  return [...measured]
    .reverse()
    .map(({ nodes, milliseconds, perPosition }) => {
      const earlier = before.get(nodes);
      least = Math.min(least, milliseconds, earlier?.milliseconds ?? Infinity);
      return { nodes, milliseconds: least, perPosition: perPosition ?? earlier?.perPosition };
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
    `${availableProcessors()} threads`,
    // A processor's name does not tell its kernels: virtual machines hide instruction sets.
    onCuda ? undefined : `int8 products ${await int8Products()}`,
    manifest.exporter,
    ...graphs.backbone.files.map((file) => file.sha256.slice(0, 16)),
  ];
  return parts.filter((part) => part !== undefined).join(' | ');
}
