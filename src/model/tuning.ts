import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import type { CostPoint } from '../decoding/costCurve.js';
import type { Report } from '../report.js';
import type { OpenOptions } from '../runtime/spec.js';
import type { ChosenGraphs } from './choose.js';
import type { Manifest } from './manifest.js';

/** What was measured for one machine, runtime and graph. */
interface Tuning {
  /** The best number of threads, once it was chosen. */
  readonly threads?: number;
  /** The cost of a step against the number of nodes, by number of threads. */
  readonly curves: Readonly<Record<string, readonly CostPoint[]>>;
}

/**
 * tuning.json, beside the model: measurements by what they depend on. They are made again when the machine, ONNX
 * Runtime or the graph is another.
 */
interface TuningFile {
  readonly format: typeof tuningFormat;
  readonly measured: Readonly<Record<string, Tuning>>;
}

const tuningFormat = 2;
const tuningName = 'tuning.json';

/** Node counts that are measured: close together where automatic trees live. */
const measuredNodes = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64];

export interface TuningSubject {
  readonly folder: string;
  readonly manifest: Manifest;
  readonly graphs: ChosenGraphs;
  readonly spec: OpenOptions;
  readonly report: Report;
  readonly signal?: AbortSignal;
}

export interface TuningResult {
  readonly threads: number;
  readonly costs: readonly CostPoint[];
}

/** The number of threads (as asked, else measured) and what steps cost with it. */
export async function ensureTuning(
  subject: TuningSubject,
  asked: { threads?: number },
): Promise<TuningResult> {
  const key = await measurementKey(subject);
  const file = await readTuning(subject.folder);
  const known = file.measured[key] ?? { curves: {} };
  const threads = asked.threads ?? known.threads;
  const costs = threads === undefined ? undefined : known.curves[threads];
  if (threads !== undefined && costs !== undefined) return { threads, costs };
  const tuned = await measure(subject, known, asked.threads);
  await writeTuning(subject.folder, { ...file, measured: { ...file.measured, [key]: tuned } }).catch(
    (error: Error) => {
      subject.report.note(
        `The measurement could not be kept (${error.message}); it will be repeated next time.`,
      );
    },
  );
  const chosen = asked.threads ?? tuned.threads!;
  return { threads: chosen, costs: tuned.curves[chosen] };
}

async function measure(subject: TuningSubject, known: Tuning, asked: number | undefined): Promise<Tuning> {
  const candidates = asked === undefined ? threadCandidates(subject.spec) : [asked];
  const curves: Record<string, readonly CostPoint[]> = { ...known.curves };
  for (const [i, threads] of candidates.entries()) {
    curves[threads] ??= await measureCurve(subject, threads, () => {
      if (i === 0) subject.report.begin('Measuring what a step costs on this machine (once)');
    });
    subject.report.progress((i + 1) / candidates.length);
  }
  if (asked !== undefined) return { ...known, curves };
  const score = (threads: number): number => millisecondsPerToken(curves[threads], subject.graphs);
  const threads = candidates.reduce((best, each) => (score(each) < score(best) ? each : best));
  return { ...known, threads, curves };
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
async function measureCurve(
  { spec, signal }: TuningSubject,
  threads: number,
  onOpened: () => void,
): Promise<CostPoint[]> {
  signal?.throwIfAborted();
  const { measureStepCost, openModel } = await import('../runtime/index.js');
  const model = await openModel({ ...spec, threads });
  onOpened();
  try {
    return await measureStepCost(model, measuredNodes, { repeats: 5, signal });
  } finally {
    await model.dispose();
  }
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
  const { nodeRuntimeFacts } = await import('../runtime/facts.js');
  const runtime = spec.provider === 'cuda' ? spec.ortLibrary : `ONNX Runtime ${nodeRuntimeFacts().version}`;
  const parts = [
    spec.provider,
    runtime ?? process.env.MEDUSA_ORT_LIBRARY,
    cpus()[0]?.model.trim() ?? process.arch,
    `${availableParallelism()} threads`,
    manifest.exporter,
    ...graphs.backbone.files.map((file) => file.sha256.slice(0, 16)),
  ];
  return parts.join(' | ');
}

/** What is missing or damaged is measured again. */
async function readTuning(folder: string): Promise<TuningFile> {
  const none: TuningFile = { format: tuningFormat, measured: {} };
  try {
    const value = JSON.parse(await readFile(join(folder, tuningName), 'utf8')) as Partial<TuningFile>;
    if (value.format !== tuningFormat) return none;
    const sound = Object.entries(value.measured ?? {}).filter(([, tuning]) => isCurves(tuning?.curves));
    return { format: tuningFormat, measured: Object.fromEntries(sound) };
  } catch {
    return none;
  }
}

function isCurves(curves: unknown): boolean {
  if (typeof curves !== 'object' || curves === null) return false;
  return Object.values(curves as Record<string, unknown>).every(
    (curve) =>
      Array.isArray(curve) &&
      curve.length > 0 &&
      (curve as CostPoint[]).every(({ nodes, milliseconds }) => nodes >= 1 && milliseconds > 0),
  );
}

async function writeTuning(folder: string, tuning: TuningFile): Promise<void> {
  const partial = join(folder, `${tuningName}.partial-${process.pid}`);
  try {
    await writeFile(partial, `${JSON.stringify(tuning, null, 1)}\n`);
    await rename(partial, join(folder, tuningName));
  } finally {
    await rm(partial, { force: true });
  }
}
