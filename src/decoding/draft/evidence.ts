import { longestRun, longestStreak } from './runIndex.js';
import { recycledWidth } from './recycledTokens.js';

/**
 * What speaks for or against a candidate token, as cells: each has a weight, a logarithm of odds, and those of a candidate are
 * added up (logistic regression). Others decide in the same way how far such candidates are believed beside those of a head.
 */
const streakCount = longestStreak + 1;
const matches = longestRun + 1;
const copies = 2 * longestRun * streakCount;

let cells = 0;
const block = (size: number): number => (cells += size) - size;

const lookupMatch = block(matches);
const lookupCopy = block(copies);
const earlierMatch = block(matches);
const earlierCopy = block(copies);
const pairKnown = block(1 + streakCount);
const pairRank = block(recycledWidth * streakCount);
const singleKnown = block(2 + streakCount);
const singleRank = block(recycledWidth * (streakCount + 1));
const anyCandidate = block(1);
/** Heads that have cells of their own; deeper ones share the last. */
const mostHeads = 16;
const shareHead = block(mostHeads);
const shareMatch = block(matches * streakCount);
const sharePair = block(1 + streakCount);
/** Equal steps in which a head's best probability is told apart. */
const bestSteps = 8;
const shareBest = block(bestSteps);

/** Each gives the index of a cell. */
export const cell = {
  /** Every candidate of a node where the text so far has a match of `length` tokens (0: none). */
  matched: (length: number, isEarlier: boolean): number => (isEarlier ? earlierMatch : lookupMatch) + length,

  /** The token that followed the latest run of `length`; `isLongest`: no longer one matches. */
  copied: (length: number, isLongest: boolean, streak: number, isEarlier: boolean): number => {
    const kind = (isLongest ? longestRun : 0) + length - 1;
    return (isEarlier ? earlierCopy : lookupCopy) + kind * streakCount + streak;
  },

  /** Every candidate of a node: whether its pair of tokens is known, and the streak of its first continuation. */
  pair: (streak: number | undefined): number => pairKnown + (streak === undefined ? 0 : 1 + streak),

  /** The continuation of the pair at `rank`. */
  afterPair: (rank: number, streak: number): number => pairRank + rank * streakCount + streak,

  /** The same for the last token alone, which says less where the pair is known. */
  single: (streak: number | undefined, isPairKnown: boolean): number =>
    singleKnown + (streak === undefined ? 0 : isPairKnown ? 1 : 2 + streak),

  afterSingle: (rank: number, streak: number, isPairKnown: boolean): number =>
    singleRank + rank * (streakCount + 1) + (isPairKnown ? 0 : 1 + streak),

  /** Every candidate of any node. */
  any: anyCandidate,

  /** The share of the sources beside head `head`. */
  shareOfHead: (head: number): number => shareHead + Math.min(head, mostHeads - 1),
  /** The same where the text has a match of `length` (0: none), whose continuation has that streak. */
  shareOfMatch: (length: number, streak: number): number => shareMatch + length * streakCount + streak,
  /** The same where the pair is known, or is not. */
  shareOfPair: (streak: number | undefined): number => sharePair + (streak === undefined ? 0 : 1 + streak),
  /** @param best the probability of the head's best candidate */
  shareByBest: (best: number): number => shareBest + Math.min(bestSteps - 1, Math.floor(best * bestSteps)),
};

const cellCount = cells;

/** The weights, learnt with each accepted token by gradient ascent on the likelihood. A few tokens change little. */
export class Evidence {
  /** [cells] logarithms of odds. */
  readonly weights: Float64Array;
  /** [cells] sums of squared gradients (AdaGrad): what was seen often changes less. */
  private readonly seen = new Float64Array(cellCount);

  constructor(weights?: ArrayLike<number>) {
    this.weights = weights?.length === cellCount ? Float64Array.from(weights) : initialWeights();
  }

  /**
   * @param cell -1 is none
   * @param gradient 1 - p for a candidate that was right, -p for one that was not
   */
  learn(cell: number, gradient: number): void {
    if (cell === -1) return;
    this.seen[cell] += gradient * gradient;
    this.weights[cell] += (learningRate * gradient) / Math.sqrt(priorSeen + this.seen[cell]);
  }
}

const learningRate = 0.16;
const priorSeen = 10;

/**
 * What is learnt on answers of the default model to prompts of ten kinds, in round numbers: weights to begin with. They hold
 * for other models roughly, and are learnt further in any case.
 */
function initialWeights(): Float64Array {
  const weights = new Float64Array(cellCount);
  const set = (at: number, weight: number): void => void (weights[at] = weight);
  set(anyCandidate, -3);
  for (const isEarlier of [false, true]) {
    for (let length = 0; length <= longestRun; length++)
      set(cell.matched(length, isEarlier), 0.5 - 0.1 * length);
    for (let length = 1; length <= longestRun; length++) {
      for (let streak = 0; streak < streakCount; streak++) {
        set(cell.copied(length, true, streak, isEarlier), 0.4 + 0.6 * length + 0.2 * streak);
        set(cell.copied(length, false, streak, isEarlier), -0.4 + 0.3 * length + 0.2 * streak);
      }
    }
  }
  set(cell.pair(undefined), 0.35);
  set(cell.single(undefined, false), 0.9);
  set(cell.single(0, true), -0.45);
  for (let streak = 0; streak < streakCount; streak++) {
    set(cell.pair(streak), -0.25 * streak);
    set(cell.single(streak, false), -0.25);
    for (let rank = 0; rank < recycledWidth; rank++) {
      set(cell.afterPair(rank, streak), rank === 0 ? 1 + 0.9 * streak : 0.9 - 0.3 * rank);
      set(cell.afterSingle(rank, streak, true), 0.5 - 0.25 * rank);
      set(cell.afterSingle(rank, streak, false), rank === 0 && streak > 0 ? 1 : 0.1 - 0.3 * rank);
    }
    for (let length = 0; length <= longestRun; length++) {
      const believed = length === 0 ? -2.4 : length === 1 ? -0.9 + 0.5 * streak : 0.5 + 0.35 * length;
      set(cell.shareOfMatch(length, streak), believed);
    }
    set(cell.shareOfPair(streak), streak === 0 ? -0.4 : 0.3 + 0.2 * streak);
  }
  for (let head = 0; head < mostHeads; head++) set(cell.shareOfHead(head), -1.1);
  for (let step = 0; step < bestSteps; step++)
    set(cell.shareByBest((step + 0.5) / bestSteps), 1.5 - 0.45 * step);
  return weights;
}
