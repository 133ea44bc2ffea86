import type { VerifiedRows } from './types.js';

/** A model gave NaN or an infinity where there must be numbers: damaged weights, or an overflow. */
export class NotFiniteError extends RangeError {
  constructor(
    /** Which graph computed them. */
    readonly part: 'backbone' | 'heads',
    message: string,
  ) {
    super(message);
    this.name = 'NotFiniteError';
  }
}

/**
 * Looks at the logits of a row, which must be there. One sum: a NaN or +Infinity makes it NaN. -Infinity is a masked token.
 *
 * @throws NotFiniteError
 */
export function checkLogits(result: VerifiedRows, row: number): void {
  const { vocabSize } = result;
  const logits = result.logits ?? result.logitsOf?.(row);
  if (logits === undefined) return;
  const from = result.logits ? row * vocabSize : 0;
  let sum = 0;
  for (let i = from; i < from + vocabSize; i++) {
    const value = logits[i];
    sum += value === -Infinity ? 0 : value - value;
  }
  if (sum !== 0) throw new NotFiniteError('backbone', `The logits of row ${row} are not finite numbers.`);
}

/** Whether all of `values` from `from` to `to` are finite. */
export function areFinite(values: Float32Array, from = 0, to = values.length): boolean {
  let sum = 0;
  for (let i = from; i < to; i++) sum += values[i] - values[i];
  return sum === 0;
}
