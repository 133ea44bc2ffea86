import { expect } from 'chai';
import {
  BOOTSTRAP,
  estimateQuotient,
  estimateRatio,
  pooledRatio,
  quantile,
  randomNumbers,
  type Part,
} from '../../../src/bench/compare/statistics.js';
import { sum } from '../../../src/util/numbers.js';

const parts = (...pairs: [number, number][]): Part[] =>
  pairs.map(([numerator, denominator]) => ({ numerator, denominator }));

describe('statistics', () => {
  it('pools sums before it divides', () => {
    // The mean of the ratios would be 1.5.
    expect(pooledRatio(parts([10, 10], [2, 1]))).to.equal(12 / 11);
    expect(pooledRatio([])).to.be.NaN;
  });

  it('takes quantiles as R does (type 7)', () => {
    expect(quantile([1, 2, 3, 4], 0.5)).to.equal(2.5);
    expect(quantile([1, 2, 3, 4], 0.25)).to.equal(1.75);
    expect(quantile([10], 0.9)).to.equal(10);
    expect(quantile([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0.975)).to.be.closeTo(9.75, 1e-12);
  });

  it('has random numbers that are the same for a seed and uniform', () => {
    const [a, b] = [randomNumbers(7), randomNumbers(7)];
    const values = Array.from({ length: 20_000 }, a);
    expect(values.slice(0, 50)).to.deep.equal(Array.from({ length: 50 }, b));
    expect(sum(values) / values.length).to.be.closeTo(0.5, 0.01);
    const deciles = Array<number>(10).fill(0);
    for (const value of values) deciles[Math.floor(value * 10)]++;
    const chiSquare = sum(deciles.map((count) => (count - 2000) ** 2 / 2000));
    expect(chiSquare).to.be.below(27.9); // 99.9% of chi-square with 9 degrees of freedom
  });

  it('gives the interval that theory gives for a mean', () => {
    const random = randomNumbers(3);
    const data = Array.from({ length: 200 }, () => sum(Array.from({ length: 12 }, random)) - 6);
    const { value, low, high } = estimateRatio(data.map((numerator) => ({ numerator, denominator: 1 })));
    const mean = sum(data) / data.length;
    const error = Math.sqrt(sum(data.map((each) => (each - mean) ** 2)) / data.length / data.length);
    expect(value).to.be.closeTo(mean, 1e-12);
    expect(low).to.be.closeTo(mean - 1.96 * error, 0.15 * error);
    expect(high).to.be.closeTo(mean + 1.96 * error, 0.15 * error);
  });

  it('covers the truth in about 95 of 100 cases', () => {
    const random = randomNumbers(11);
    let covered = 0;
    for (let trial = 0; trial < 400; trial++) {
      const data = Array.from({ length: 80 }, () => ({ numerator: 1 + random() * 2, denominator: 1 }));
      const { low, high } = estimateRatio(data, { ...BOOTSTRAP, resamples: 400, seed: trial });
      if (low <= 2 && 2 <= high) covered++;
    }
    expect(covered / 400).to.be.within(0.91, 0.98);
  });

  it('pairs: what two runs have in common cancels', () => {
    const random = randomNumbers(5);
    const base = Array.from({ length: 80 }, () => ({ numerator: 1 + 5 * random(), denominator: 1 }));
    const twice = base.map(({ numerator }) => ({ numerator: 2 * numerator, denominator: 1 }));
    const { value, low, high } = estimateQuotient(twice, base);
    expect([value, low, high].map((each) => Math.round(each * 1e9) / 1e9)).to.deep.equal([2, 2, 2]);
    expect(estimateRatio(base).high - estimateRatio(base).low).to.be.above(0.4);
  });

  it('is the same each time', () => {
    const data = parts([3, 2], [5, 3], [1, 1], [7, 2]);
    expect(estimateRatio(data)).to.deep.equal(estimateRatio(data));
  });

  it('gives no interval where there is nothing to resample', () => {
    expect(estimateRatio(parts([3, 2]))).to.deep.equal({ value: 1.5, low: NaN, high: NaN });
    expect(estimateRatio([]).value).to.be.NaN;
    expect(() => estimateQuotient(parts([1, 1]), [])).to.throw(RangeError);
  });
});
