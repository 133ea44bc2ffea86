/** Ratios of pooled sums, and paired bootstrap intervals over questions. */

/** A point estimate with a 95% interval. */
export interface Estimate {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** One question's part of a ratio: sums that are pooled before dividing. */
export interface Part {
  readonly numerator: number;
  readonly denominator: number;
}

export interface BootstrapOptions {
  readonly resamples: number;
  readonly seed: number;
  /** Share of resamples inside the interval. */
  readonly level: number;
}

export const BOOTSTRAP: BootstrapOptions = { resamples: 10_000, seed: 20240613, level: 0.95 };

/** A small, well mixed generator (mulberry32); seeded, so that a report is the same each time it is made. */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Sum of numerators / sum of denominators; NaN when there is nothing to divide by. */
export function pooledRatio(parts: readonly Part[]): number {
  let numerator = 0;
  let denominator = 0;
  for (const part of parts) {
    numerator += part.numerator;
    denominator += part.denominator;
  }
  return denominator === 0 ? NaN : numerator / denominator;
}

/** A pooled ratio with its bootstrap interval: questions are drawn with replacement. */
export function estimateRatio(parts: readonly Part[], options = BOOTSTRAP): Estimate {
  return interval(pooledRatio(parts), parts.length, options, (draw) => {
    let numerator = 0;
    let denominator = 0;
    for (const index of draw) {
      numerator += parts[index].numerator;
      denominator += parts[index].denominator;
    }
    return numerator / denominator;
  });
}

/**
 * How many times larger the pooled ratio of `a` is than that of `b`. Paired: a resample takes the same questions from
 * both, so that what questions have in common cancels.
 */
export function estimateQuotient(a: readonly Part[], b: readonly Part[], options = BOOTSTRAP): Estimate {
  if (a.length !== b.length) throw new RangeError(`Paired samples of ${a.length} and ${b.length} questions`);
  return interval(pooledRatio(a) / pooledRatio(b), a.length, options, (draw) => {
    let [an, ad, bn, bd] = [0, 0, 0, 0];
    for (const index of draw) {
      an += a[index].numerator;
      ad += a[index].denominator;
      bn += b[index].numerator;
      bd += b[index].denominator;
    }
    return an / ad / (bn / bd);
  });
}

/** The percentile interval of `statistic` over resampled indices. */
function interval(
  value: number,
  size: number,
  options: BootstrapOptions,
  statistic: (draw: Uint32Array) => number,
): Estimate {
  // One question says nothing about how questions vary.
  if (size < 2 || !Number.isFinite(value)) return { value, low: NaN, high: NaN };
  const random = randomNumbers(options.seed);
  const draw = new Uint32Array(size);
  const values = new Float64Array(options.resamples);
  for (let resample = 0; resample < options.resamples; resample++) {
    for (let index = 0; index < size; index++) draw[index] = Math.floor(random() * size);
    values[resample] = statistic(draw);
  }
  const finite = values.filter(Number.isFinite).sort();
  const tail = (1 - options.level) / 2;
  return { value, low: quantile(finite, tail), high: quantile(finite, 1 - tail) };
}

/** Quantile of sorted values, linear between neighbours (type 7). */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  if (sorted.length === 0) return NaN;
  const position = (sorted.length - 1) * share;
  const below = Math.floor(position);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (position - below);
}
