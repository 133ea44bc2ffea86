import { ContextIndex, longestMatch } from './contextIndex.js';

/**
 * [K + 1, longestMatch] how much of a candidate distribution is a copy from the context: row k for the candidates of
 * head k, the last row for those beyond the heads; column l - 1 for a match of l tokens. Each at least 0, below 1.
 */
export type LookupWeights = readonly (readonly number[])[];

/** Whether a row of weights is what it must be. */
export function isWeightRow(row: readonly number[]): boolean {
  return row.length === longestMatch && row.every((weight) => weight >= 0 && weight < 1);
}

/** Deepest node that a tree may copy: a step adds at most one token more. */
export const deepestCopy = 16;

/** The text so far and how far its repeats are to be believed: what a search needs to copy from the context. */
export class ContextLookup {
  readonly index = new ContextIndex();

  /** @throws RangeError when a weight is no share */
  constructor(private readonly weights: LookupWeights) {
    for (const [level, row] of weights.entries()) {
      if (isWeightRow(row)) continue;
      throw new RangeError(
        `The lookup weights of level ${level} must be ${longestMatch} numbers from 0 to below 1, not ${row.join(', ')}.`,
      );
    }
  }

  /** The share of the copy among candidates at `level` after a match of `length` tokens. */
  weight(level: number, length: number): number {
    return this.weights[Math.min(level, this.weights.length - 1)][length - 1];
  }
}
