import fc from 'fast-check';
import { createRandom } from '../../src/decoding/random.js';
import { rowsInMemory, type ConditionalTable } from '../../src/decoding/tree/conditionalTable.js';
import type { HeadProposals } from '../../src/decoding/types.js';
import type { ScoredPath } from './reference.js';

export interface MadeTable {
  readonly vocabSize: number;
  readonly rank: number;
  readonly distances: number;
  readonly activation?: ConditionalTable['activation'];
  readonly usesHidden?: boolean;
  /** Heads with a bias and a gain of their own; 0: none. */
  readonly levels?: number;
  /** Of the scores' factors; 0 makes all scores 0. */
  readonly spread?: number;
  /** Every how-manieth token has no row. */
  readonly gap?: number;
  readonly seed?: number;
}

/** A table of random numbers. */
export function madeTable(options: MadeTable): ConditionalTable {
  const {
    vocabSize,
    rank,
    distances,
    activation = 'none',
    usesHidden = false,
    spread = 1.5,
    levels = 0,
  } = options;
  const random = createRandom(options.seed ?? 1);
  const values = (count: number): Float32Array => {
    const all = new Float32Array(count);
    for (let i = 0; i < count; i++) all[i] = spread * (2 * random() - 1);
    return all;
  };
  const outputRows = new Int32Array(vocabSize);
  let rows = 0;
  for (let token = 0; token < vocabSize; token++) {
    outputRows[token] = options.gap !== undefined && token % options.gap === 0 ? -1 : rows++;
  }
  return {
    rank,
    distances,
    activation,
    usesHidden,
    perHead: levels === 0 ? undefined : { biases: values(levels * rank), gains: values(levels * rank) },
    vocabSize,
    inputs: rowsInMemory(values(distances * vocabSize * rank), vocabSize, rank),
    outputs: values(rows * rank),
    outputRows,
  };
}

/** Tables for `vocabSize` tokens. */
export function anyTable(vocabSize: number): fc.Arbitrary<MadeTable> {
  return fc.record({
    vocabSize: fc.constant(vocabSize),
    rank: fc.integer({ min: 1, max: 9 }),
    distances: fc.integer({ min: 1, max: 3 }),
    activation: fc.constantFrom('none' as const, 'silu' as const),
    usesHidden: fc.boolean(),
    levels: fc.constantFrom(0, 5),
    spread: fc.constantFrom(0.3, 1.5, 4),
    gap: fc.constantFrom(undefined, 2, 5),
    seed: fc.integer({ min: 0, max: 1e6 }),
  });
}

/** Adds the hidden terms that a table wants to proposals that have none. */
export function withContexts(
  proposals: HeadProposals,
  { rank }: Pick<ConditionalTable, 'rank'>,
  seed = 3,
): HeadProposals {
  const random = createRandom(seed);
  return {
    ...proposals,
    hiddenTerms: Float32Array.from({ length: proposals.heads * rank }, () => 2 * random() - 1),
  };
}

/** A path, and what float32 may make of its probability. */
export interface BoundedPath extends ScoredPath {
  /** Bound on the relative error of the probability by the rounding of scores. */
  readonly rounding: number;
}

/**
 * All m + m^2 + ... + m^K paths with their conditional probabilities, most probable first: the definition, taken
 * literally, in float64.
 */
export function allConditionalPaths(
  root: number,
  proposals: HeadProposals,
  table: ConditionalTable,
  options: { readonly renormalised?: boolean; readonly correction?: readonly number[] } = {},
): BoundedPath[] {
  const { heads, topM } = proposals;
  const paths: (BoundedPath & { tokens: number[] })[] = [
    { ranks: [], tokens: [root], probability: 1, flat: 0, rounding: 0 },
  ];
  let level = paths;
  for (let head = 0; head < heads; head++) {
    level = level.flatMap((parent) => {
      const { children, rounding } = childProbabilities(parent.tokens, head, proposals, table, options);
      return children.map((probability, rank) => ({
        ranks: [...parent.ranks, rank],
        tokens: [...parent.tokens, proposals.ids[head * topM + rank]],
        probability: Math.fround(parent.probability * Math.fround(probability)),
        flat: 0,
        rounding: parent.rounding + rounding,
      }));
    });
    paths.push(...level);
  }
  return paths.sort(
    (a, b) => b.probability - a.probability || a.ranks.length - b.ranks.length || compare(a.ranks, b.ranks),
  );
}

/** [m] q of each candidate of `head` after the tokens of a path, and a bound on their relative error in float32. */
function childProbabilities(
  path: readonly number[],
  head: number,
  { ids, probabilities, topM, hiddenTerms }: HeadProposals,
  table: ConditionalTable,
  { renormalised = false, correction }: { renormalised?: boolean; correction?: readonly number[] },
): { children: number[]; rounding: number } {
  const { rank: length, distances, inputs, outputs, outputRows } = table;
  // Sizes of the context's terms: what cancels in a sum leaves its rounding behind.
  const sizes = new Array<number>(length).fill(0);
  const context = Array.from({ length }, (_, i) => {
    let sum = table.usesHidden ? hiddenTerms![head * length + i] : 0;
    sizes[i] += Math.abs(sum);
    for (let d = 1; d <= Math.min(distances, path.length); d++) {
      const term = inputs.values[inputs.find(d - 1, path[path.length - d]) + i];
      sum += term;
      sizes[i] += Math.abs(term);
    }
    const bias = table.perHead?.biases[head * length + i] ?? 0;
    sum += bias;
    sizes[i] += Math.abs(bias);
    const gain = table.perHead?.gains[head * length + i] ?? 1;
    sizes[i] *= Math.abs(gain);
    return (table.activation === 'silu' ? sum / (1 + Math.exp(-sum)) : sum) * gain;
  });
  let largest = 0;
  const marginals = [...probabilities.subarray(head * topM, (head + 1) * topM)];
  const total = marginals.reduce((sum, p) => sum + p, 0);
  const weights = marginals.map((p, rank) => {
    const row = outputRows[ids[head * topM + rank]];
    const score = row < 0 ? 0 : context.reduce((sum, c, i) => sum + c * outputs[row * length + i], 0);
    const size = row < 0 ? 0 : sizes.reduce((sum, c, i) => sum + c * Math.abs(outputs[row * length + i]), 0);
    largest = Math.max(largest, size);
    // Random tables reach scores where the limit of `ConditionalSearch` binds.
    return p * Math.exp(Math.max(-60, Math.min(60, score)));
  });
  const rest = renormalised ? 0 : Math.max(0, 1 - total);
  const normaliser = weights.reduce((sum, weight) => sum + weight, rest);
  return {
    children: weights.map((weight) => Math.min(1, ((correction?.[head] ?? 1) * weight) / normaliser)),
    // Of a product's score, and of the others' in the sum that divides it; each step of a sum rounds once.
    rounding: 2 * largest * (length + distances + 8) * 2 ** -24,
  };
}

function compare(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((rank, level) => rank !== b[level]);
  return at === -1 ? 0 : a[at] - b[at];
}
