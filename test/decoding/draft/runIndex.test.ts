import { expect } from 'chai';
import fc from 'fast-check';
import { longestRun, longestStreak, RunIndex } from '../../../src/decoding/draft/runIndex.js';

/** Few tokens, so that texts repeat. */
const token = fc.integer({ min: 0, max: 4 });
const texts = fc.array(token, { minLength: 1, maxLength: 60 });

interface Found {
  readonly token: number;
  readonly streak: number;
}

/** By run length - 1: what followed the last `run` tokens of `path` in `text`, by looking at every place. */
function bruteForce(text: readonly number[], path: readonly number[]): Found[] {
  const found: Found[] = [];
  for (let run = 1; run <= Math.min(longestRun, path.length); run++) {
    const suffix = path.slice(-run).join();
    const followers: number[] = [];
    for (let at = run; at < text.length; at++) {
      if (text.slice(at - run, at).join() === suffix) followers.push(text[at]);
    }
    if (followers.length === 0) break;
    const last = followers.at(-1)!;
    const streak = followers.length - 1 - followers.findLastIndex((each) => each !== last);
    found.push({ token: last, streak: Math.min(longestStreak, streak - 1) });
  }
  return found;
}

function lookUp(index: RunIndex, path: readonly number[]): Found[] {
  const count = index.find(path.toReversed(), path.length);
  return Array.from({ length: count }, (_, i) => ({ token: index.found[i], streak: index.streaks[i] }));
}

const indexOf = (text: readonly number[]): RunIndex => {
  const index = new RunIndex();
  text.forEach((each) => index.append(each));
  return index;
};

describe('run index', () => {
  it('finds what followed each run last and how often in a row, as a search through the text does', () => {
    fc.assert(
      fc.property(texts, texts, fc.nat(8), (text, path, own) => {
        const whole = [...text.slice(Math.max(0, text.length - own)), ...path];
        expect(lookUp(indexOf(text), whole)).to.deep.equal(bruteForce(text, whole));
        expect(lookUp(indexOf(text), text)).to.deep.equal(bruteForce(text, text));
      }),
      { numRuns: 1000 },
    );
  });

  it('grows past its first size, and begins again when it is cleared', () => {
    const text = Array.from({ length: 5000 }, (_, i) => (i * i) % 2048);
    const index = indexOf(text);
    expect(index.size).to.equal(5000);
    for (const end of [4000, 4321, 5000]) {
      expect(lookUp(index, text.slice(0, end))).to.deep.equal(bruteForce(text, text.slice(0, end)));
    }
    expect([...index.tokensFrom(4998)]).to.deep.equal(text.slice(4998));
    expect(index.commonWith([...text.slice(0, 70), -1])).to.equal(70);
    index.clear();
    expect(index.find([1], 1)).to.equal(0);
    [1, 2, 1].forEach((each) => index.append(each));
    expect(lookUp(index, [1])).to.deep.equal([{ token: 2, streak: 0 }]);
  });
});
