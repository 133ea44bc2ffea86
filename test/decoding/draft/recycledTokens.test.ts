import { expect } from 'chai';
import fc from 'fast-check';
import { RecycledTokens, recycledWidth } from '../../../src/decoding/draft/recycledTokens.js';

const token = fc.integer({ min: 0, max: 11 });
const observations = fc.array(fc.tuple(fc.integer({ min: -1, max: 3 }), fc.nat(3), token), {
  maxLength: 200,
});

interface Known {
  list: number[];
  streak: number;
}

/** The same by the definition: the latest continuations first, the first one's repeats counted. */
function bruteForce(all: readonly (readonly [number, number, number])[]): Map<string, Known> {
  const known = new Map<string, Known>();
  const enter = (key: string, next: number): void => {
    const { list, streak } = known.get(key) ?? { list: [], streak: 0 };
    known.set(key, {
      list: [next, ...list.filter((each) => each !== next)].slice(0, recycledWidth),
      streak: list[0] === next ? Math.min(3, streak + 1) : 0,
    });
  };
  for (const [before, last, next] of all) {
    if (before >= 0) enter(`${before} ${last}`, next);
    enter(`-1 ${last}`, next);
  }
  return known;
}

function lookUp(tokens: RecycledTokens, before: number, last: number): Known | undefined {
  const at = tokens.find(before, last);
  if (at === -1) return undefined;
  const list = Array.from({ length: recycledWidth }, (_, rank) => tokens.token(at, rank));
  return { list: list.filter((each) => each !== -1), streak: tokens.streak(at) };
}

describe('recycled tokens', () => {
  it('are the latest continuations of each pair and each token, also after being stored', () => {
    fc.assert(
      fc.property(observations, (all) => {
        const tokens = new RecycledTokens();
        all.forEach((each) => tokens.observe(...each));
        const restored = new RecycledTokens();
        restored.restore(tokens.entries());
        const known = bruteForce(all);
        for (let before = -1; before <= 3; before++) {
          for (let last = 0; last <= 3; last++) {
            const expected = known.get(`${before} ${last}`);
            expect(lookUp(tokens, before, last)).to.deep.equal(expected);
            expect(lookUp(restored, before, last)).to.deep.equal(expected);
          }
        }
      }),
      { numRuns: 500 },
    );
  });

  it('stay within their table: what was not written for long makes room', () => {
    const capacity = 64;
    const tokens = new RecycledTokens(capacity);
    for (let last = 0; last < 1000; last++) tokens.observe(-1, last, last + 1);
    const found = Array.from({ length: 1000 }, (_, last) => tokens.find(-1, last)).filter((at) => at !== -1);
    expect(new Set(found).size).to.equal(found.length);
    expect(found.length).to.be.within(capacity / 2, capacity);
    expect(tokens.entries().length / (3 + recycledWidth)).to.equal(found.length);
    // The latest is there; of those that share its place, it is the oldest that went.
    expect(lookUp(tokens, -1, 999)).to.deep.equal({ list: [1000], streak: 0 });
  });
});
