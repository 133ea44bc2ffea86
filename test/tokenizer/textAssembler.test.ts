import { expect } from 'chai';
import fc from 'fast-check';
import { TextAssembler } from '../../src/tokenizer/textAssembler.js';

/** Each token is one character. */
const characters = {
  decode: (ids: readonly number[]): string => String.fromCodePoint(...ids),
  isSpecial: (): boolean => false,
};

interface Run {
  text: string;
  taken: string[];
  stoppedAt: number | undefined;
}

function assemble(text: string, stop: string[]): Run {
  const assembler = new TextAssembler(characters, stop);
  const taken: string[] = [];
  let stoppedAt: number | undefined;
  const ids = [...text].map((character) => character.codePointAt(0)!);
  for (const [i, id] of ids.entries()) {
    if (assembler.push(id) === 'stop') stoppedAt = i;
    taken.push(assembler.take());
    if (stoppedAt !== undefined) break;
  }
  taken.push(assembler.end());
  return { text: taken.join(''), taken, stoppedAt };
}

describe('TextAssembler', () => {
  it('hands out text at once when nothing stops it', () => {
    expect(assemble('abc', []).taken).to.deep.equal(['a', 'b', 'c', '']);
  });

  it('ends before a stop string that spans tokens, and names the token that completed it', () => {
    const run = assemble('one STOP two', ['STOP']);
    expect(run.text).to.equal('one ');
    expect(run.stoppedAt).to.equal(7);
  });

  it('holds back what could be the beginning of a stop string, and lets it go when it was not', () => {
    const run = assemble('aSTx', ['STOP']);
    expect(run.taken).to.deep.equal(['a', '', '', 'STx', '']);
  });

  it('gives back at the end what it held', () => {
    expect(assemble('aST', ['STOP']).text).to.equal('aST');
  });

  it('takes the stop string that begins first', () => {
    expect(assemble('xxabcd', ['cd', 'bcd']).text).to.equal('xxa');
    expect(assemble('aab', ['ab', 'aab']).text).to.equal('');
  });

  it('equals cutting the whole text', () => {
    const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', 'b', 'c', 'd'), maxLength: 30 }),
        word,
        (text, stop) => {
          const at = text.indexOf(stop);
          const run = assemble(text, [stop]);
          expect(run.text).to.equal(at < 0 ? text : text.slice(0, at));
          expect(run.stoppedAt).to.equal(at < 0 ? undefined : at + stop.length - 1);
        },
      ),
    );
  });
});
