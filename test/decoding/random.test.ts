import { expect } from 'chai';
import { createRandom } from '../../src/decoding/random.js';
import { chiSquareScore } from '../support/reference.js';

describe('createRandom', () => {
  it('repeats itself for the same seed on every machine', () => {
    const random = createRandom(42);
    const again = createRandom(42);
    const numbers = Array.from({ length: 1000 }, random);
    expect(numbers).to.deep.equal(Array.from({ length: 1000 }, again));
    expect(numbers.every((number) => number >= 0 && number < 1)).to.equal(true);
  });

  it('differs between seeds, neighbouring, negative and large ones', () => {
    const seeds = [0, 1, 2, -1, 2 ** 32, 2 ** 32 + 1, 2 ** 40, Number.MAX_SAFE_INTEGER];
    expect(new Set(seeds.map((seed) => createRandom(seed)())).size).to.equal(seeds.length);
  });

  it('is uniform, also in pairs', () => {
    const random = createRandom(1);
    const singles = new Array<number>(64).fill(0);
    const pairs = new Array<number>(256).fill(0);
    for (let i = 0; i < 50000; i++) {
      const [a, b] = [random(), random()];
      singles[Math.floor(64 * a)]++;
      pairs[16 * Math.floor(16 * a) + Math.floor(16 * b)]++;
    }
    expect(Math.abs(chiSquareScore(singles, new Array<number>(64).fill(1 / 64)))).to.be.below(3.29);
    expect(Math.abs(chiSquareScore(pairs, new Array<number>(256).fill(1 / 256)))).to.be.below(3.29);
  });

  it('refuses seeds that are no whole numbers', () => {
    for (const seed of [0.5, NaN, Infinity, 2 ** 60])
      expect(() => createRandom(seed)).to.throw(RangeError, /seed/);
  });
});
