import { expect } from 'chai';
import fc from 'fast-check';
import type { TableActivation } from '../../../src/decoding/tree/conditionalTable.js';
import { createRandom } from '../../../src/decoding/random.js';
import { ScoreKernel } from '../../../src/decoding/tree/scoreKernel.js';
import { kernelSource } from '../../../src/decoding/tree/scoreKernelBytes.js';
import { sourceHash } from '../../support/kernelSource.js';

interface Level {
  readonly terms: readonly Float32Array[];
  readonly rows: readonly (Float32Array | undefined)[];
  readonly probabilities: Float32Array;
  readonly bias?: Float32Array;
  readonly gain?: Float32Array;
}

/** The definition in float64. */
function expected(level: Level, rank: number, activation: TableActivation): number[] {
  const context = Array.from({ length: rank }, (_, i) => {
    const sum = level.terms.reduce((total, term) => total + term[i], level.bias?.[i] ?? 0);
    return (activation === 'silu' ? sum / (1 + Math.exp(-sum)) : sum) * (level.gain?.[i] ?? 1);
  });
  return level.rows.map((row, y) => {
    const score = row?.reduce((sum, value, i) => sum + value * context[i], 0) ?? 0;
    return level.probabilities[y] * Math.exp(Math.max(-60, Math.min(60, score)));
  });
}

describe('the score kernel', () => {
  it('is compiled from the source beside it (else: npm run kernel)', () => {
    expect(kernelSource).to.equal(sourceHash());
  });

  it('weighs as the definition does, whatever the sizes, and when it is used again', () => {
    const sizes = fc.record({
      rank: fc.integer({ min: 1, max: 70 }),
      levels: fc.integer({ min: 1, max: 4 }),
      widths: fc.array(fc.integer({ min: 1, max: 35 }), { minLength: 1, maxLength: 4 }),
      terms: fc.integer({ min: 0, max: 4 }),
      hasOwn: fc.boolean(),
      activation: fc.constantFrom('none' as const, 'silu' as const),
      seed: fc.nat(1e6),
    });
    fc.assert(
      fc.property(sizes, ({ rank, levels, widths, terms, hasOwn, activation, seed }) => {
        const random = createRandom(seed);
        const values = (count: number, size = 1): Float32Array =>
          Float32Array.from({ length: count }, () => size * (2 * random() - 1));
        const own = hasOwn ? { biases: values(levels * rank), gains: values(levels * rank, 2) } : undefined;
        const kernel = new ScoreKernel(rank, activation, terms, own);
        for (const width of widths) {
          kernel.reserve(levels, width);
          const all = Array.from({ length: levels }, (_, level): Level => {
            const slice = (of?: Float32Array): Float32Array | undefined =>
              of?.subarray(level * rank, (level + 1) * rank);
            return {
              terms: Array.from({ length: terms }, () => values(rank)),
              rows: Array.from({ length: width }, () => (random() < 0.2 ? undefined : values(rank))),
              probabilities: Float32Array.from({ length: width }, random),
              bias: slice(own?.biases),
              gain: slice(own?.gains),
            };
          });
          all.forEach(({ rows, probabilities }, level) =>
            rows.forEach((row, slot) =>
              kernel.setCandidate(level, slot, probabilities[slot], row ?? new Float32Array(0), row ? 0 : -1),
            ),
          );
          all.forEach((given, level) => {
            for (const term of given.terms) kernel.addTerm(term, 0);
            kernel.weigh(level);
            expected(given, rank, activation).forEach((weight, slot) => {
              expect(kernel.weights[slot] / weight).to.be.closeTo(1, 1e-4);
            });
          });
        }
      }),
      { numRuns: 300 },
    );
  });

  /** Weights of candidates with the given scores and the probability 1. */
  const weightsOf = (scores: readonly number[]): Float32Array => {
    const kernel = new ScoreKernel(1, 'none', 1);
    kernel.reserve(1, scores.length);
    scores.forEach((score, slot) => kernel.setCandidate(0, slot, 1, Float32Array.of(score), 0));
    kernel.addTerm(Float32Array.of(1), 0);
    kernel.weigh(0);
    return kernel.weights;
  };

  it('takes exponentials to a few units in the last place, and exactly at 0', () => {
    const scores = Array.from({ length: 20_001 }, (_, i) => Math.fround((i - 10_000) / 167));
    const weights = weightsOf(scores);
    scores.forEach((score, i) => expect(weights[i] / Math.exp(score)).to.be.closeTo(1, 4 * 2 ** -24));
    expect(weightsOf([0, -0])[0]).to.equal(1);
    expect(weightsOf([0, -0])[1]).to.equal(1);
  });

  it('limits scores to 60 either way, and takes NaN for the least', () => {
    const [high, low, infinite, least, none] = weightsOf([61, -61, Infinity, -Infinity, NaN]);
    expect(high / Math.exp(60)).to.be.closeTo(1, 1e-6);
    expect([infinite, low, least, none]).to.deep.equal([high, low, low, low]);
    expect(low / Math.exp(-60)).to.be.closeTo(1, 1e-6);
  });

  it('bears contexts beyond the range of exp', () => {
    for (const context of [1e4, -1e4, Infinity, -Infinity, NaN]) {
      const kernel = new ScoreKernel(2, 'silu', 1);
      kernel.reserve(1, 2);
      for (const slot of [0, 1]) kernel.setCandidate(0, slot, 0.5, Float32Array.of(slot, 1), 0);
      kernel.addTerm(Float32Array.of(context, 1), 0);
      kernel.weigh(0);
      expect([...kernel.weights.subarray(0, 2)].every((weight) => weight > 0 && weight < 1e27)).to.equal(
        true,
      );
    }
  });
});
