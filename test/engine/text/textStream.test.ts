import { expect } from 'chai';
import fc from 'fast-check';
import { StopStrings } from '../../../src/engine/text/stopStrings.js';
import { TextStream } from '../../../src/engine/text/textStream.js';

/** Each token is one character. */
const characters = {
  decode: (ids: readonly number[]): string => String.fromCodePoint(...ids),
  isSpecial: (): boolean => false,
  specialTokens: [],
};

const control = { id: 1, content: '<|end|>' };
const withControl = {
  decode: (ids: readonly number[]): string => characters.decode(ids.filter((id) => id !== control.id)),
  isSpecial: (id: number): boolean => id === control.id,
  specialTokens: [control],
};

interface Run {
  text: string;
  taken: string[];
  stoppedAt: number | undefined;
}

function assemble(text: string, stop: string[]): Run {
  const stream = new TextStream(characters, stop);
  const criteria = new StopStrings(characters, stop);
  const taken: string[] = [];
  let stoppedAt: number | undefined;
  const ids = [...text].map((character) => character.codePointAt(0)!);
  for (const [i, id] of ids.entries()) {
    if (criteria.push(id) === 'stop') stoppedAt = i;
    taken.push(stream.push([id]));
    if (stoppedAt !== undefined) break;
  }
  taken.push(stream.end());
  return { text: taken.join(''), taken, stoppedAt };
}

describe('TextStream and StopStrings', () => {
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

  for (const [stop, tokens, text] of [
    ['<|end|>', [97, 98, 1], 'ab'],
    ['<|end|>\n', [97, 1, 98, 1, 10], 'ab'],
    ['b<|end|>', [97, 1, 98, 1], 'a'],
    ['<|end|>', [97, ...Buffer.from('<|end|>')], 'a'],
  ] as const) {
    it(`stops at ${JSON.stringify(stop)}, a control token, in ${tokens.join(' ')}`, () => {
      const criteria = new StopStrings(withControl, [stop]);
      const states = tokens.map((token) => criteria.push(token));
      expect(states.indexOf('stop')).to.equal(tokens.length - 1);
      const stream = new TextStream(withControl, [stop]);
      expect(stream.push(tokens) + stream.end()).to.equal(text);
    });
  }

  it('leaves control tokens out that a stop string begins with, and emoji beside them whole', () => {
    const stream = new TextStream(withControl, ['<|end|>x']);
    const taken = [0x1f600, 1, 0x1f400, 1, 97].map((token) => stream.push([token]));
    expect(taken.join('') + stream.end()).to.equal('\u{1f600}\u{1f400}a');
  });

  it('streams a run of replacement characters, and stops in it', () => {
    const run = assemble('\ufffd'.repeat(60) + 'a', []);
    expect(run.taken.slice(1, 60).every((piece) => piece === '\ufffd')).to.equal(true);
    expect(assemble('a' + '\ufffd'.repeat(60), ['\ufffd'.repeat(5)])).to.include({ text: 'a', stoppedAt: 6 });
  });

  it('finds a stop string that only the end completes', () => {
    expect(assemble('a\ufffd', ['\ufffd']).text).to.equal('a');
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
          const whole = new TextStream(characters, [stop]);
          // Tokens behind the stop string are not text, in one push or in many.
          expect(whole.push([...text].map((each) => each.codePointAt(0)!)) + whole.end()).to.equal(run.text);
          expect(run.text).to.equal(at < 0 ? text : text.slice(0, at));
          expect(run.stoppedAt).to.equal(at < 0 ? undefined : at + stop.length - 1);
        },
      ),
    );
  });
});
