import { expect } from 'chai';
import fc from 'fast-check';
import {
  createAcceptance,
  greedyAcceptance,
  samplingAcceptance,
  typicalAcceptance,
} from '../../src/decoding/acceptance.js';
import { buildTree } from '../../src/decoding/tree/candidateTree.js';
import { argmax } from '../../src/decoding/distribution.js';
import { createRandom } from '../../src/decoding/random.js';
import type { CandidateTree, VerifiedRows } from '../../src/decoding/types.js';
import { proposalsOf, softmax } from '../support/reference.js';

/** Rows: 0 = root; 1 = token 1, 2 = token 2 below it; 3 = token 1 and 4 = token 2 below row 1; 5 = token 1 below row 2. */
const tree: CandidateTree = {
  size: 6,
  tokens: Int32Array.of(3, 1, 2, 1, 2, 1),
  parents: Int32Array.of(-1, 0, 0, 1, 1, 2),
  depths: Int32Array.of(0, 1, 1, 2, 2, 2),
  ranks: Int32Array.of(-1, 0, 1, 0, 1, 0),
  probabilities: Float32Array.of(1, 0.6, 0.4, 0.3, 0.2, 0.2),
};

/** Verified rows with the given probabilities for the next token. */
function verified(...rows: number[][]): VerifiedRows {
  const vocabSize = rows[0].length;
  const logits = Float32Array.from(rows.flatMap((row) => row.map((probability) => Math.log(probability))));
  const nextTokens = Int32Array.from(rows, (row) => argmax(row));
  return { rows: rows.length, nextTokens, logits, vocabSize };
}

const certain = (token: number): number[] => [0, 1, 2, 3].map((each) => (each === token ? 1 : 0));

describe('greedyAcceptance', () => {
  const cases: [string, number[], number[], number][] = [
    ['stops at the root when no child is the argmax', [0, 1, 1, 1, 1, 1], [0], 0],
    ['descends to a leaf and takes the bonus after it', [1, 2, 0, 0, 3, 0], [0, 1, 4], 3],
    ['takes the second child', [2, 0, 1, 0, 0, 0], [0, 2, 5], 0],
    ['stops where the argmax is a child of another node only', [2, 2, 2, 2, 2, 2], [0, 2], 2],
    ['takes token 0 after a leaf for a token like any other', [1, 1, 0, 0, 0, 0], [0, 1, 3], 0],
  ];
  for (const [what, next, rows, bonus] of cases) {
    it(what, () => {
      const result = { rows: 6, nextTokens: Int32Array.from(next), vocabSize: 4 };
      expect(greedyAcceptance().accept(tree, result)).to.deep.equal({ rows, bonus });
    });
  }

  it('reads no logits', () => {
    expect(greedyAcceptance().needsLogits).to.equal(false);
  });
});

describe('samplingAcceptance', () => {
  const sampling = (temperature: number, topP?: number, seed = 1) =>
    samplingAcceptance({ temperature, topP, random: createRandom(seed) });

  it('follows certain tokens like greedy decoding', () => {
    const result = verified(certain(1), certain(2), certain(0), certain(0), certain(3), certain(0));
    expect(sampling(1).accept(tree, result)).to.deep.equal({ rows: [0, 1, 4], bonus: 3 });
  });

  it('approaches greedy decoding as the temperature falls, without overflow', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -500, max: 500 }), { minLength: 24, maxLength: 24 }),
        (values) => {
          const logits = Float32Array.from(values, (value, i) => value + i / 100);
          const nextTokens = Int32Array.from({ length: 6 }, (_, row) => argmax(logits, row * 4, 4));
          const result = { rows: 6, nextTokens, logits, vocabSize: 4 };
          const greedy = greedyAcceptance().accept(tree, result);
          expect(sampling(1e-6).accept(tree, result)).to.deep.equal(greedy);
          expect(sampling(1e-300).accept(tree, result)).to.deep.equal(greedy);
        },
      ),
    );
  });

  it('draws once for each visited node', () => {
    let draws = 0;
    const random = (): number => {
      draws++;
      return 0.5;
    };
    const result = verified(certain(1), certain(2), certain(0), certain(0), certain(3), certain(0));
    samplingAcceptance({ temperature: 1, random }).accept(tree, result);
    expect(draws).to.equal(3);
  });

  it('never draws a masked token', () => {
    const result = verified([0, 0.5, 0, 0.5]);
    const acceptance = sampling(1);
    const drawn = new Set(Array.from({ length: 200 }, () => acceptance.firstToken(result)));
    expect([...drawn].sort()).to.deep.equal([1, 3]);
    for (const edge of [0, 1 - 2 ** -53]) {
      expect([1, 3]).to.include(
        samplingAcceptance({ temperature: 1, random: () => edge }).firstToken(result),
      );
    }
  });

  it('gives the same tokens for the same seed', () => {
    const result = verified(...new Array<number[]>(6).fill([0.25, 0.25, 0.25, 0.25]));
    const draw = (seed: number): unknown => {
      const acceptance = sampling(1, 1, seed);
      return Array.from({ length: 20 }, () => acceptance.accept(tree, result));
    };
    expect(draw(5)).to.deep.equal(draw(5));
    expect(draw(5)).to.not.deep.equal(draw(6));
  });

  it('keeps the nucleus with the crossing token, ties by ascending id', () => {
    const support = (topP: number, row: number[]): number[] => {
      const acceptance = sampling(1, topP);
      const drawn = new Set(Array.from({ length: 400 }, () => acceptance.firstToken(verified(row))));
      return [...drawn].sort((a, b) => a - b);
    };
    expect(support(0.4, [0.1, 0.5, 0.3, 0.1])).to.deep.equal([1]);
    expect(support(0.6, [0.1, 0.5, 0.3, 0.1])).to.deep.equal([1, 2]);
    expect(support(0.85, [0.1, 0.5, 0.3, 0.1])).to.deep.equal([0, 1, 2]);
    expect(support(1, [0.1, 0.5, 0.3, 0.1])).to.deep.equal([0, 1, 2, 3]);
    expect(support(0.3, [0.25, 0.25, 0.25, 0.25])).to.deep.equal([0, 1]);
    expect(support(1e-9, [0.25, 0.25, 0.25, 0.25])).to.deep.equal([0]);
  });

  it('finds the nucleus of a wide flat distribution too', () => {
    const flat = Float32Array.from({ length: 5000 }, (_, i) => -i / 1e4);
    const result = { rows: 1, nextTokens: Int32Array.of(0), logits: flat, vocabSize: 5000 };
    const sorted = softmax([...flat]);
    let mass = 0;
    const size = sorted.findIndex((probability) => (mass += probability) > 0.8) + 1;
    const draw = (at: number): number =>
      samplingAcceptance({ temperature: 1, topP: 0.8, random: () => at }).firstToken(result);
    expect(draw(0)).to.equal(0);
    expect(draw(1 - 2 ** -53)).to.equal(size - 1);
  });

  it('says so when logits are missing or not finite', () => {
    const { nextTokens, vocabSize } = verified([1, 0]);
    expect(() => sampling(1).firstToken({ rows: 1, nextTokens, vocabSize })).to.throw(
      RangeError,
      /logits: true/,
    );
    for (const bad of [NaN, Infinity]) {
      const logits = Float32Array.of(bad, 0);
      expect(() => sampling(1).firstToken({ rows: 1, nextTokens, vocabSize, logits })).to.throw(
        RangeError,
        /row 0/,
      );
      const late = Float32Array.of(0, bad);
      expect(() => sampling(1).firstToken({ rows: 1, nextTokens, vocabSize, logits: late })).to.throw(
        RangeError,
      );
    }
  });
});

describe('typicalAcceptance', () => {
  /** The definition, on probabilities in double precision. */
  function threshold(row: number[], epsilon = 0.09, alpha = 0.3): number {
    const entropy = -row.reduce((sum, p) => sum + (p > 0 ? p * Math.log(p + 1e-5) : 0), 0);
    return Math.min(epsilon, alpha * Math.exp(-entropy));
  }

  it('accepts the longest path of tokens above the threshold', () => {
    // The root prefers token 2, but the path through token 1 is longer.
    const row = [0.05, 0.35, 0.6, 0];
    const result = verified(
      row,
      [0.02, 0.49, 0.49, 0],
      [0.99, 0.01, 0, 0],
      certain(0),
      certain(3),
      certain(0),
    );
    expect(0.35).to.be.above(threshold(row));
    expect(0.01).to.be.below(threshold([0.99, 0.01, 0, 0]));
    expect(typicalAcceptance({ temperature: 1 }).accept(tree, result)).to.deep.equal({
      rows: [0, 1, 3],
      bonus: 0,
    });
  });

  it('breaks ties of length by the probability of the path', () => {
    const result = verified(
      [0, 0.4, 0.6, 0],
      [0, 0.3, 0.7, 0],
      [0.5, 0.5, 0, 0],
      certain(0),
      certain(3),
      certain(1),
    );
    // Paths 1,1: 0.12; 1,2: 0.28; 2,1: 0.30.
    expect(typicalAcceptance({ temperature: 1 }).accept(tree, result)).to.deep.equal({
      rows: [0, 2, 5],
      bonus: 1,
    });
  });

  it('accepts nothing below the threshold and gives the argmax after the root', () => {
    const result = verified([0.98, 0.01, 0.01, 0], ...new Array<number[]>(5).fill(certain(1)));
    expect(typicalAcceptance({ temperature: 1 }).accept(tree, result)).to.deep.equal({ rows: [0], bonus: 0 });
  });

  it('follows the definition of the threshold at any temperature', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -80, max: 80 }), { minLength: 4, maxLength: 4 }),
        fc.double({ min: 0.2, max: 2, noNaN: true }),
        (tenths, temperature) => {
          const logits = tenths.map((value) => value / 10);
          const probabilities = softmax(logits, temperature);
          const limit = threshold(probabilities);
          fc.pre(Math.abs(probabilities[1] - limit) > 1e-6);
          const chain = buildTree(
            0,
            { ...proposalsOf([[0.9]]), ids: Int32Array.of(1) },
            { nodes: 2, depth: 1 },
          );
          const result = {
            rows: 2,
            nextTokens: Int32Array.of(argmax(logits), 0),
            logits: Float32Array.from([...logits, 0, 0, 0, 0]),
            vocabSize: 4,
          };
          const accepted = typicalAcceptance({ temperature }).accept(chain, result).rows.length === 2;
          expect(accepted).to.equal(probabilities[1] > limit);
        },
      ),
    );
  });
});

describe('createAcceptance', () => {
  it('is greedy at temperature 0, whatever the name', () => {
    for (const name of ['greedy', 'sampling', 'typical', 'nucleus'] as const) {
      expect(createAcceptance({ name, temperature: 0 }).name).to.equal('greedy');
      expect(createAcceptance({ name, temperature: 0.7 }).name).to.equal(name);
    }
  });

  it('cuts at 0.8 for nucleus and not at all for sampling, unless told otherwise', () => {
    const result = verified([0.5, 0.31, 0.1, 0.09]);
    const drawn = (options: Parameters<typeof createAcceptance>[0]): number => {
      const acceptance = createAcceptance(options);
      return new Set(Array.from({ length: 300 }, () => acceptance.firstToken(result))).size;
    };
    expect(drawn({ name: 'nucleus', temperature: 1 })).to.equal(2);
    expect(drawn({ name: 'sampling', temperature: 1 })).to.equal(4);
    expect(drawn({ name: 'sampling', temperature: 1, topP: 0.85 })).to.equal(3);
  });

  it('refuses values out of range, by name', () => {
    const create = (options: object) => () =>
      createAcceptance({ name: 'typical', temperature: 1, ...options });
    expect(create({ temperature: -1 })).to.throw(RangeError, /temperature is -1/);
    expect(create({ temperature: NaN })).to.throw(RangeError, /temperature is NaN/);
    expect(create({ epsilon: 0 })).to.throw(RangeError, /epsilon is 0/);
    expect(create({ alpha: 2 })).to.throw(RangeError, /alpha is 2/);
    expect(create({ name: 'nucleus', topP: 0 })).to.throw(RangeError, /topP is 0/);
    expect(create({ name: 'sampling', seed: 0.5 })).to.throw(RangeError, /seed/);
  });
});
