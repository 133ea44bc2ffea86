import { expect } from 'chai';
import { TokenStopping } from '../../src/decoding/stopping.js';

describe('TokenStopping', () => {
  const reasons = (options: ConstructorParameters<typeof TokenStopping>[0], tokens: number[]): unknown[] => {
    const stopping = new TokenStopping(options);
    return tokens.map((token) => stopping.push(token));
  };

  it('ends at the exact number of tokens', () => {
    expect(reasons({ maxNewTokens: 3 }, [5, 5, 5])).to.deep.equal([undefined, undefined, 'length']);
    expect(reasons({ maxNewTokens: 1 }, [5])).to.deep.equal(['length']);
  });

  it('ends at any of the EOS ids, also on the last token', () => {
    expect(reasons({ maxNewTokens: 9, eosTokenIds: [2, 0] }, [5, 0])).to.deep.equal([undefined, 'eos']);
    expect(reasons({ maxNewTokens: 2, eosTokenIds: [2] }, [5, 2])).to.deep.equal([undefined, 'eos']);
  });

  it('asks the text check about everything but EOS', () => {
    const shown: number[] = [];
    const text = {
      push: (token: number) => (shown.push(token), token === 7 ? ('stop' as const) : undefined),
    };
    expect(reasons({ maxNewTokens: 2, text }, [5, 7])).to.deep.equal([undefined, 'stop']);
    expect(reasons({ maxNewTokens: 9, text, eosTokenIds: [2] }, [6, 2])).to.deep.equal([undefined, 'eos']);
    expect(shown).to.deep.equal([5, 7, 6]);
  });

  it('knows how many tokens may follow', () => {
    const stopping = new TokenStopping({ maxNewTokens: 3 });
    stopping.push(1);
    expect(stopping.remaining).to.equal(2);
  });

  it('refuses a maximum that is no whole number from 1', () => {
    for (const maxNewTokens of [0, -1, 0.5, NaN, Infinity]) {
      expect(() => new TokenStopping({ maxNewTokens })).to.throw(RangeError, /maxNewTokens/);
    }
  });
});
