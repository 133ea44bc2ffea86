import { expect } from 'chai';
import { EosCriteria, MaxNewTokens, StoppingCriteriaList } from '../../src/decoding/stopping.js';
import type { StoppingCriteria } from '../../src/decoding/types.js';

const reasons = (criteria: StoppingCriteria, tokens: number[]): unknown[] =>
  tokens.map((token) => criteria.push(token));

describe('EosCriteria', () => {
  it('ends at any of its ids, and never without some', () => {
    expect(reasons(new EosCriteria([2, 0]), [5, 0, 2])).to.deep.equal([undefined, 'eos', 'eos']);
    expect(reasons(new EosCriteria([]), [0, 2])).to.deep.equal([undefined, undefined]);
  });
});

describe('MaxNewTokens', () => {
  it('ends at the exact number of tokens, and knows how many may follow', () => {
    const three = new MaxNewTokens(3);
    expect(reasons(three, [5])).to.deep.equal([undefined]);
    expect(three.remaining).to.equal(2);
    expect(reasons(three, [5, 5])).to.deep.equal([undefined, 'length']);
    expect(reasons(new MaxNewTokens(1), [5])).to.deep.equal(['length']);
  });

  it('refuses a maximum that is no whole number from 1', () => {
    for (const most of [0, -1, 0.5, NaN, Infinity]) {
      expect(() => new MaxNewTokens(most)).to.throw(RangeError, /maxNewTokens/);
    }
  });
});

describe('StoppingCriteriaList', () => {
  it('gives the first reason, and asks no further', () => {
    const shown: number[] = [];
    const stop: StoppingCriteria = {
      push: (token) => (shown.push(token), token === 7 ? ('stop' as const) : undefined),
    };
    const list = (most: number): StoppingCriteria =>
      new StoppingCriteriaList([new EosCriteria([2]), stop, new MaxNewTokens(most)]);
    expect(reasons(list(2), [5, 7])).to.deep.equal([undefined, 'stop']);
    expect(reasons(list(2), [6, 2])).to.deep.equal([undefined, 'eos']);
    expect(reasons(list(2), [8, 8])).to.deep.equal([undefined, 'length']);
    expect(shown).to.deep.equal([5, 7, 6, 8, 8]);
  });
});
