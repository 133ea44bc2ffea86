import { measuredPast } from '../decoding/policy/costCurve.js';
import { prefill } from '../decoding/prefill.js';
import { pathTo, rootTree } from '../decoding/tree/candidateTree.js';
import type { CandidateTree, DraftingModel } from '../decoding/types.js';
import { median } from '../util/numbers.js';

export interface MeasureOptions {
  /** Cached positions to measure at; the context may allow fewer. Default 256, and fewer where a step takes long. */
  readonly pastLength?: number;
  /**
   * Sizes that are timed behind a longer past too, of up to `LONGER_PAST` positions, where reading it takes a few seconds at
   * most. Default none.
   */
  readonly behindLonger?: readonly number[];
  /** Timed runs of each size, after one untimed. Default 7. */
  readonly repeats?: number;
  /** Sizes above the first that takes so many times the first size's time are left out. Default: none are. */
  readonly mostCost?: number;
  /** No round is begun after so many milliseconds, but for the first. Default: all are. */
  readonly budget?: number;
  /** Told how much is done, from 0 to 1. */
  readonly onProgress?: (done: number) => void;
  /** Ends the measurement after the run under way; it rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

const GREEDY = { logits: false };
const WITH_LOGITS = { logits: true };
const DEFAULT_PAST = measuredPast;
/** Positions of the longer past, and how many more than the shorter one it must have for the difference to tell. */
const LONGER_PAST = 1024;
const LEAST_LONGER = 192;
/** Milliseconds that reading the longer past may take. */
const LONGER_BUDGET = 4000;
/** Of the past, at least; a step that takes as long as this at most is measured behind all of it. */
const LEAST_PAST = 16;
const QUICK_STEP = 20;
/** A step of more milliseconds than this is looked at less closely. */
const SLOW_STEP = 100;
const DEFAULT_REPEATS = 7;

/** What verifying a tree of one size took: the median of its rounds, and the least of them. */
export interface MeasuredPoint {
  readonly nodes: number;
  readonly milliseconds: number;
  readonly least: number;
  /** Milliseconds that each further cached position adds; absent where it was not looked at. */
  readonly perPosition?: number;
}

/**
 * T(n): the time of verifying a random tree, for each number of nodes. The sizes take turns, so that a slow moment of
 * the machine spreads over all of them. Leaves the cache as long as it was (`propose` needs a new prefill).
 *
 * @param sizes numbers of nodes, each >= 1; those the context has no room for are left out
 * @returns milliseconds by size, in the order of `sizes`
 */
export async function measureStepCost(
  model: DraftingModel,
  sizes: readonly number[],
  options: MeasureOptions = {},
): Promise<MeasuredPoint[]> {
  return withPast(model, options, async (positionTime) => {
    const past = model.cachedLength;
    const measured = await measureSizes(model, sizes, options);
    const more = Math.min(longestPast(model, LONGER_PAST) - past, Math.floor(LONGER_BUDGET / positionTime));
    const again = measured.map(({ nodes }) => nodes).filter((nodes) => options.behindLonger?.includes(nodes));
    if (again.length === 0 || more < LEAST_LONGER) return measured;
    await prefill(model, randomTokens(more, model.vocabSize), { ...GREEDY, signal: options.signal });
    const longer = await measureSizes(model, again, { ...options, onProgress: undefined });
    // The machine may be another than seconds ago: what the past adds is the difference to a look right after it.
    model.truncate(past);
    const shorter = await measureSizes(model, again, { ...options, onProgress: undefined });
    return measured.map((point) => {
      const i = again.indexOf(point.nodes);
      if (longer[i] === undefined || shorter[i] === undefined) return point;
      return { ...point, perPosition: Math.max(0, longer[i].milliseconds - shorter[i].milliseconds) / more };
    });
  });
}

async function measureSizes(
  model: DraftingModel,
  sizes: readonly number[],
  options: MeasureOptions,
): Promise<MeasuredPoint[]> {
  const room = model.contextLength - model.cachedLength;
  const trees = sizes.filter((nodes) => nodes <= room).map((nodes) => randomTree(nodes, model.vocabSize));
  const times = await inTurns(
    trees.map((tree) => () => model.verify(tree, GREEDY)),
    options,
  );
  return times.map((_, i) => ({
    nodes: trees[i].size,
    milliseconds: median(times[i]),
    least: Math.min(...times[i]),
  }));
}

/** Sizes of the trees whose rows are compared with single ones: a pair, and trees in which kernels take other ways. */
const comparedSizes = [2, 9, 33];

/**
 * Whether a row gives the same bits alone and among the rows of a tree on this machine: the logits along one path of
 * each of a few random trees, against the same tokens run one by one. Leaves the cache as long as it was.
 */
export async function measureRowExactness(
  model: DraftingModel,
  options: MeasureOptions = {},
): Promise<boolean> {
  return withPast(model, options, async () => {
    const start = model.cachedLength;
    const room = model.contextLength - start;
    const isSlow = (await stepTime(model)) > SLOW_STEP;
    const sizes = comparedSizes.filter((nodes) => nodes <= room && !(isSlow && nodes > comparedSizes[1]));
    for (const size of sizes) {
      const tree = randomTree(size, model.vocabSize);
      const { logits } = await model.verify(tree, WITH_LOGITS);
      for (const row of pathTo(tree, size - 1)) {
        options.signal?.throwIfAborted();
        const alone = await model.verify(rootTree(tree.tokens[row]), WITH_LOGITS);
        const among = logits!.subarray(row * model.vocabSize, (row + 1) * model.vocabSize);
        if (!among.every((value, token) => Object.is(value, alone.logits![token]))) return false;
        await model.keep([0]);
      }
      model.truncate(start);
    }
    return true;
  });
}

/**
 * The median time of running the heads once, between verification runs as in decoding: alone they would find their
 * weights in the processor's caches. Undefined without heads.
 */
export async function measureHeads(
  model: DraftingModel,
  topM: number,
  options: MeasureOptions = {},
): Promise<number | undefined> {
  if (model.headCount === 0) return undefined;
  return withPast(model, options, async () => {
    const tree = randomTree(4, model.vocabSize);
    const start = model.cachedLength;
    const times: number[] = [];
    for (let i = 0; i <= (options.repeats ?? DEFAULT_REPEATS); i++) {
      options.signal?.throwIfAborted();
      const { nextTokens } = await model.verify(tree, GREEDY);
      await model.keep([0]);
      const begin = performance.now();
      await model.propose(topM, nextTokens[0]);
      if (i > 0) times.push(performance.now() - begin);
      model.truncate(start);
    }
    return median(times);
  });
}

/**
 * Extends the cache with random tokens to the length wanted, works, and takes them away again.
 *
 * @param work told how long reading each of them took, in milliseconds
 */
async function withPast<T>(
  model: DraftingModel,
  options: MeasureOptions,
  work: (positionTime: number) => Promise<T>,
): Promise<T> {
  const original = model.cachedLength;
  const { signal } = options;
  try {
    if (original === 0) await prefill(model, randomTokens(1, model.vocabSize), { ...GREEDY, signal });
    const wanted = longestPast(model, options.pastLength ?? affordablePast(await stepTime(model)));
    const missing = Math.max(0, wanted - model.cachedLength);
    const begin = performance.now();
    if (missing > 0) await prefill(model, randomTokens(missing, model.vocabSize), { ...GREEDY, signal });
    const time = performance.now() - begin;
    signal?.throwIfAborted();
    return await work(missing > 0 ? time / missing : 0);
  } finally {
    model.truncate(original);
  }
}

/** At most so many positions: half of the context, so that there is room for trees. */
function longestPast(model: DraftingModel, wanted: number): number {
  return Math.min(wanted, Math.floor(model.contextLength / 2));
}

/** Milliseconds of a plain step, once the memory for it is there. */
async function stepTime(model: DraftingModel): Promise<number> {
  const step = rootTree(0);
  await model.verify(step, GREEDY);
  const begin = performance.now();
  await model.verify(step, GREEDY);
  return performance.now() - begin;
}

/** Where a step takes long, most of it goes into the weights, and reading a long prompt would take minutes. */
function affordablePast(plain: number): number {
  return Math.max(LEAST_PAST, Math.min(DEFAULT_PAST, Math.round((DEFAULT_PAST * QUICK_STEP) / plain)));
}

/**
 * Runs all works once untimed, then in turn, each round, there and back: a run that always followed the largest one would find
 * nothing of its own in the processor's caches. Returns [works][rounds] milliseconds.
 */
async function inTurns(
  works: readonly (() => Promise<unknown>)[],
  { repeats = DEFAULT_REPEATS, mostCost = Infinity, budget = Infinity, signal, onProgress }: MeasureOptions,
): Promise<number[][]> {
  const timed = async (work: () => Promise<unknown>): Promise<number> => {
    signal?.throwIfAborted();
    const begin = performance.now();
    await work();
    return performance.now() - begin;
  };
  const begin = performance.now();
  const left: (() => Promise<unknown>)[] = [];
  let first = 0;
  for (const [i, work] of works.entries()) {
    if (i === 0) await timed(work);
    const time = await timed(work);
    if (i === 0) first = time;
    left.push(work);
    onProgress?.((i + 1) / works.length / (repeats + 1));
    if (time > mostCost * first) break;
  }
  const times = left.map((): number[] => []);
  for (let round = 0; round < repeats && (round === 0 || performance.now() - begin < budget); round++) {
    for (let done = 1; done <= left.length; done++) {
      const i = round % 2 === 0 ? left.length - done : done - 1;
      times[i].push(await timed(left[i]));
      onProgress?.((round + 1 + done / left.length) / (repeats + 1));
    }
  }
  return times;
}

/** A tree of random tokens in which each node hangs below a random earlier one. */
export function randomTree(size: number, vocabSize: number): CandidateTree {
  const parents = Int32Array.from({ length: size }, (_, row) => (row === 0 ? -1 : randomBelow(row)));
  const depths = new Int32Array(size);
  for (let row = 1; row < size; row++) depths[row] = depths[parents[row]] + 1;
  return {
    size,
    tokens: randomTokens(size, vocabSize),
    parents,
    depths,
    ranks: new Int32Array(size),
    probabilities: new Float32Array(size).fill(1),
  };
}

export function randomTokens(count: number, vocabSize: number): Int32Array {
  return Int32Array.from({ length: count }, () => randomBelow(vocabSize));
}

function randomBelow(limit: number): number {
  return Math.floor(Math.random() * limit);
}
