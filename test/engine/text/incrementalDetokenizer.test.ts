import { expect } from 'chai';
import fc from 'fast-check';
import { IncrementalDetokenizer } from '../../../src/engine/text/incrementalDetokenizer.js';
import type { Tokenizer } from '../../../src/engine/text/tokenizer.js';
import { tinyFolder, tokenizerOf } from '../../support/tinyModel.js';

describe('IncrementalDetokenizer', () => {
  let tokenizer: Tokenizer;
  before(async () => {
    ({ tokenizer } = await tokenizerOf(tinyFolder));
  });

  const pieces = (ids: readonly number[]): string[] => {
    const detokenizer = new IncrementalDetokenizer(tokenizer);
    return [...ids.map((id) => detokenizer.push(id)), detokenizer.flush()];
  };

  it('gives the text of any tokens, valid UTF-8 or not', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 511 }), { maxLength: 40 }), (ids) => {
        expect(pieces(ids).join('')).to.equal(tokenizer.decode(ids));
      }),
      { numRuns: 500 },
    );
  });

  it('hands out complete characters only', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 30 }), (text) => {
        const ids = tokenizer.encode([{ kind: 'plain', text }]);
        const given = pieces(ids);
        expect(given.join('')).to.equal(text);
        if (!text.includes('\ufffd')) expect(given.some((piece) => piece.includes('\ufffd'))).to.equal(false);
      }),
      { numRuns: 300 },
    );
  });

  it('waits for the last byte of an emoji', () => {
    const ids = tokenizer.encode([{ kind: 'plain', text: 'a🫠b' }]);
    expect(ids.length).to.be.greaterThan(3);
    const given = pieces(ids).filter((piece) => piece !== '');
    expect(given).to.deep.equal(['a', '🫠', 'b']);
  });

  it('decodes a few tokens each time, however many replacement characters come', () => {
    let decoded = 0;
    const counting = {
      decode: (ids: readonly number[]) => ((decoded += ids.length), tokenizer.decode(ids)),
      isSpecial: () => false,
    };
    const ids = tokenizer.encode([{ kind: 'plain', text: '\ufffd'.repeat(1000) }]);
    const detokenizer = new IncrementalDetokenizer(counting);
    const given = ids.map((id) => detokenizer.push(id));
    expect(given.join('') + detokenizer.flush()).to.equal('\ufffd'.repeat(1000));
    expect(given.slice(0, ids.length / 2).join('')).to.have.length.above(490);
    expect(decoded).to.be.below(16 * ids.length);
  });

  it('ends with replacement characters when the text ends inside a character', () => {
    const ids = tokenizer.encode([{ kind: 'plain', text: '🫠' }]);
    expect(pieces(ids.slice(0, -1)).join('')).to.match(/^\ufffd+$/);
  });

  it('leaves special tokens out', () => {
    const ids = tokenizer.encode([{ kind: 'control', text: 'a<|im_end|>b' }]);
    expect(pieces(ids).join('')).to.equal('ab');
  });
});
