import { NotFiniteError } from './notFinite.js';
import type { Random } from './random.js';
import type { VerifiedRows } from './types.js';

/**
 * The next-token distribution of one row, computed in float64. One instance is a workspace: it allocates when the
 * vocabulary grows and never per row.
 */
export class NextTokenDistribution {
  /** [vocabSize] unnormalised probabilities; 0 for tokens that were cut off. */
  private weights = new Float64Array(0);
  private total = 0;

  /**
   * Loads softmax(logits[row] / temperature).
   *
   * @param temperature > 0
   * @throws RangeError when there are no logits, NotFiniteError when a logit is NaN or +Infinity (-Infinity is a masked token)
   */
  load(result: VerifiedRows, row: number, temperature: number): this {
    const { vocabSize } = result;
    const logits = result.logits ?? result.logitsOf?.(row);
    if (!logits) throw new RangeError("Sampling needs logits: verify with { logits: true }, or 'by row'.");
    if (this.weights.length !== vocabSize) this.weights = new Float64Array(vocabSize);
    const from = result.logits ? row * vocabSize : 0;
    const largest = maximum(logits, from, vocabSize);
    let total = 0;
    for (let token = 0; token < vocabSize; token++) {
      // The largest logit is subtracted first: no temperature, however small, can overflow.
      total += this.weights[token] = Math.exp((logits[from + token] - largest) / temperature);
    }
    // The largest weight is 1, so anything else than a finite total >= 1 comes from a NaN or an infinity.
    if (!(total >= 1 && total < Infinity))
      throw new NotFiniteError('backbone', `The logits of row ${row} are not finite numbers.`);
    this.total = total;
    return this;
  }

  probability(token: number): number {
    return this.weights[token] / this.total;
  }

  /** Medusa's entropy in nats: -sum p log(p + 1e-5). */
  entropy(): number {
    const { weights, total } = this;
    let entropy = 0;
    for (const weight of weights) {
      if (weight > 0) entropy -= (weight / total) * Math.log(weight / total + 1e-5);
    }
    return entropy;
  }

  /** Draws one token. */
  sample(random: Random): number {
    const { weights } = this;
    let left = random() * this.total;
    let last = 0;
    for (let token = 0; token < weights.length; token++) {
      if (weights[token] === 0) continue;
      left -= weights[token];
      if (left < 0) return token;
      last = token;
    }
    return last; // rounding used up the total: the last possible token
  }

  /**
   * Keeps the nucleus: the most probable tokens until their cumulative probability exceeds `topP`, the crossing one
   * included; equal ones by ascending id. Everything else gets probability 0 and the rest is renormalised.
   */
  keepNucleus(topP: number): this {
    if (topP >= 1) return this;
    const { weights } = this;
    const nucleus = this.nucleus(topP * this.total);
    const kept = Float64Array.from(nucleus, (token) => weights[token]);
    weights.fill(0);
    nucleus.forEach((token, i) => (weights[token] = kept[i]));
    this.total = kept.reduce((sum, weight) => sum + weight, 0);
    return this;
  }

  /** The fewest most probable tokens whose weights exceed `mass` in sum; all tokens when rounding prevents that. */
  private nucleus(mass: number): number[] {
    const { weights } = this;
    // Sorting a whole vocabulary takes longer than a small model's step. The likeliest few nearly always suffice.
    let threshold = 1e-2;
    let likely = this.atLeast(threshold);
    while (threshold > 0 && this.sumOf(likely) <= mass * (1 + 1e-9)) {
      threshold = threshold < 1e-12 ? 0 : threshold / 100;
      likely = this.atLeast(threshold);
    }
    likely.sort((a, b) => weights[b] - weights[a] || a - b);
    let sum = 0;
    const end = likely.findIndex((token) => (sum += weights[token]) > mass);
    return end === -1 ? likely : likely.slice(0, end + 1);
  }

  /** The possible tokens with at least this weight, by ascending id. */
  private atLeast(threshold: number): number[] {
    const tokens: number[] = [];
    this.weights.forEach((weight, token) => {
      if (weight >= threshold && weight > 0) tokens.push(token);
    });
    return tokens;
  }

  private sumOf(tokens: readonly number[]): number {
    return tokens.reduce((sum, token) => sum + this.weights[token], 0);
  }
}

/** The lowest index of the largest of `count` values from `from` on. NaN is never the largest. */
export function argmax(values: ArrayLike<number>, from = 0, count = values.length - from): number {
  let best = 0;
  for (let i = 1; i < count; i++) {
    if (values[from + i] > values[from + best]) best = i;
  }
  return best;
}

function maximum(values: Float32Array, from: number, count: number): number {
  return values[from + argmax(values, from, count)];
}
