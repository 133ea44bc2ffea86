import type { HeadProposals } from '../../src/decoding/types.js';

/** One path of the brute-force search. */
export interface ScoredPath {
  readonly ranks: number[];
  readonly probability: number;
  readonly flat: number;
}

/**
 * All m + m^2 + ... + m^K paths with float32 products, left-associated, most probable first, ties by flat index: the
 * specification, taken literally.
 */
export function allPaths(marginals: readonly (readonly number[])[]): ScoredPath[] {
  const width = marginals[0]?.length ?? 0;
  const paths: ScoredPath[] = [{ ranks: [], probability: 1, flat: 0 }];
  let level = paths;
  let offset = 1;
  for (const probabilities of marginals) {
    const deeper = level.flatMap((parent, i) =>
      probabilities.map((probability, rank) => ({
        ranks: [...parent.ranks, rank],
        probability: Math.fround(parent.probability * Math.fround(probability)),
        flat: offset + i * width + rank,
      })),
    );
    paths.push(...deeper);
    offset += deeper.length;
    level = deeper;
  }
  return paths.sort((a, b) => b.probability - a.probability || a.flat - b.flat);
}

/** Proposals with the given marginals; head k lists the tokens 100 k + rank, so that tokens tell where they are from. */
export function proposalsOf(marginals: readonly (readonly number[])[]): HeadProposals {
  const topM = marginals[0].length;
  return {
    heads: marginals.length,
    topM,
    ids: Int32Array.from(marginals.flatMap((level, head) => level.map((_, rank) => 100 * (head + 1) + rank))),
    probabilities: Float32Array.from(marginals.flat()),
  };
}

/** Softmax in double precision. */
export function softmax(logits: readonly number[], temperature = 1): number[] {
  const largest = Math.max(...logits);
  const weights = logits.map((logit) => Math.exp((logit - largest) / temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

/**
 * Pearson's statistic of observed counts against expected probabilities, with cells of few expected counts merged.
 *
 * @returns the z-score of the statistic (Wilson-Hilferty), about standard normal when the probabilities are right
 */
export function chiSquareScore(observed: readonly number[], expected: readonly number[]): number {
  const total = observed.reduce((sum, count) => sum + count, 0);
  const cells = expected
    .map((probability, i) => ({ expected: probability * total, observed: observed[i] }))
    .sort((a, b) => b.expected - a.expected);
  const kept = cells.filter((cell) => cell.expected >= 5);
  const rest = cells.filter((cell) => cell.expected < 5);
  const merged = rest.reduce(
    (sum, cell) => ({ expected: sum.expected + cell.expected, observed: sum.observed + cell.observed }),
    { expected: 0, observed: 0 },
  );
  if (merged.expected >= 1) kept.push(merged);
  const statistic = kept.reduce((sum, cell) => sum + (cell.observed - cell.expected) ** 2 / cell.expected, 0);
  const freedom = kept.length - 1;
  if (freedom < 1) throw new Error('Too few cells for a chi-square test.');
  const variance = 2 / (9 * freedom);
  return (Math.cbrt(statistic / freedom) - (1 - variance)) / Math.sqrt(variance);
}
