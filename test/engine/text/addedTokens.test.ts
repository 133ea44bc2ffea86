import { expect } from 'chai';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { IncrementalDetokenizer } from '../../../src/engine/text/incrementalDetokenizer.js';
import { Tokenizer, type Segment } from '../../../src/engine/text/tokenizer.js';
import { readJson, tinyFolder } from '../../support/tinyModel.js';

interface Model {
  tokenizer: Record<string, unknown>;
  /** Even parts of several are control text, odd ones plain. */
  cases: { parts: string[]; control: number[]; plain: number[]; decoded: string }[];
}

/** Written by test/fixtures/tokenizer/write_added_tokens.py with the reference library. */
const models = JSON.parse(
  readFileSync(new URL('../../fixtures/tokenizer/addedTokens.json', import.meta.url), 'utf8'),
) as Record<string, Model>;

describe('Added tokens', () => {
  let tiny: Record<string, unknown>;
  before(async () => {
    tiny = await readJson(join(tinyFolder, 'tokenizer.json'));
  });

  for (const [name, { tokenizer: document, cases }] of Object.entries(models)) {
    const load = (): Tokenizer =>
      new Tokenizer({
        tokenizer: document.base === 'tiny' ? { ...tiny, ...document } : document,
        config: {},
      });

    it(`are found as the reference finds them (${name})`, () => {
      const tokenizer = load();
      for (const { parts, control, plain } of cases) {
        const text = parts.join('');
        const label = JSON.stringify(text);
        expect(tokenizer.encode([{ kind: 'control', text }]), label).to.deep.equal(control);
        expect(tokenizer.encode([{ kind: 'plain', text }]), label).to.deep.equal(plain);
      }
    });

    it(`are found in chats of control and plain stretches (${name})`, () => {
      const tokenizer = load();
      const chats = cases.filter(({ parts }) => parts.length > 1);
      expect(chats).to.have.length.above(20);
      for (const { parts, control } of chats) {
        const segments = parts.map((text, i): Segment => ({ kind: i % 2 === 0 ? 'control' : 'plain', text }));
        expect(tokenizer.encode(segments), JSON.stringify(parts)).to.deep.equal(control);
      }
    });

    it(`are decoded, at once and token by token (${name})`, () => {
      const tokenizer = load();
      for (const { plain, decoded } of cases) {
        expect(tokenizer.decode(plain)).to.equal(decoded);
        const detokenizer = new IncrementalDetokenizer(tokenizer);
        const pieces = plain.map((id) => detokenizer.push(id));
        expect(pieces.join('') + detokenizer.flush()).to.equal(decoded);
      }
    });
  }

  it('that are special are found everywhere, though a normalizer would hide them', () => {
    const { tokenizer: document } = models['pieces, space before each section'];
    const special = { id: 2, content: '</s>', special: true, normalized: true };
    const tokenizer = new Tokenizer({ tokenizer: { ...document, added_tokens: [special] }, config: {} });
    const ids = tokenizer.encode([{ kind: 'control', text: 'word</s>word' }]);
    expect(ids.filter((id) => id !== 2).length).to.equal(ids.length - 1);
    expect(ids[0]).to.equal(ids[2]);
  });
});
