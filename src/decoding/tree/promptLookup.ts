import { LookupIndex, longestMatch } from './lookupIndex.js';

/**
 * [K + 1, longestMatch] how far a lookup is trusted, as its share of the candidate distribution: row k for the candidates
 * of head k, the last row for depths beyond the heads; column l - 1 for a match of l tokens. Each at least 0, below 1.
 */
export type LookupWeights = readonly (readonly number[])[];

/** Whether a row of weights is what it must be. */
export function isWeightRow(row: readonly number[]): boolean {
  return row.length === longestMatch && row.every((weight) => weight >= 0 && weight < 1);
}

/** Depth of the deepest node that a lookup may add: a step emits at most one token more. */
export const deepestLookup = 16;

/** Prompt lookup: the text so far, and how far what followed in it is to be believed. */
export class PromptLookup {
  readonly index = new LookupIndex();

  /** @throws RangeError when a weight is no share */
  constructor(private readonly weights: LookupWeights) {
    for (const [depth, row] of weights.entries()) {
      if (isWeightRow(row)) continue;
      throw new RangeError(
        `Row ${depth} of the lookup weights must be ${longestMatch} numbers from 0 to below 1, not ${row.join(', ')}.`,
      );
    }
  }

  /** The share of the token found, among the candidates of depth `depth` + 1, after a match of `length` tokens. */
  weight(depth: number, length: number): number {
    return this.weights[Math.min(depth, this.weights.length - 1)][length - 1];
  }
}
