import { expect } from 'chai';
import { readFileSync } from 'node:fs';
import type { ChatTemplate } from '../../src/engine/text/chatTemplate.js';
import { IncrementalDetokenizer } from '../../src/engine/text/incrementalDetokenizer.js';
import type { Tokenizer } from '../../src/engine/text/tokenizer.js';

interface Reference {
  texts: Record<string, string>;
  models: Record<
    string,
    Record<string, { control: number[]; plain: number[]; chat: number[]; decoded: string }>
  >;
}

/** Written by test/fixtures/tokenizer/write_reference.py with the reference libraries. */
const reference = JSON.parse(
  readFileSync(new URL('../fixtures/tokenizer/reference.json', import.meta.url), 'utf8'),
) as Reference;

/** Declares the tests of one tokenizer against the reference ids of all hard texts. */
export function testAgainstReference(
  model: string,
  load: () => { tokenizer: Tokenizer; chatTemplate: ChatTemplate },
): void {
  for (const [name, expected] of Object.entries(reference.models[model])) {
    const text = reference.texts[name];

    it(`encodes ${name}`, () => {
      const { tokenizer } = load();
      expect(tokenizer.encode([{ kind: 'plain', text }])).to.deep.equal(expected.plain);
      expect(tokenizer.encode([{ kind: 'control', text }])).to.deep.equal(expected.control);
    });

    it(`decodes ${name}, at once and token by token`, () => {
      const { tokenizer } = load();
      expect(tokenizer.decode(expected.plain)).to.equal(expected.decoded);
      const detokenizer = new IncrementalDetokenizer(tokenizer);
      const pieces = expected.plain.map((id) => detokenizer.push(id));
      expect(pieces.join('') + detokenizer.flush()).to.equal(expected.decoded);
    });

    it(`puts ${name} into the chat template`, () => {
      const { tokenizer, chatTemplate } = load();
      const special = tokenizer.specialTokens;
      const messages = [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: text },
      ];
      const ids = tokenizer.encode(
        chatTemplate.render(
          messages,
          special.map((token) => token.content),
        ),
      );
      if (!special.some((token) => text.includes(token.content))) {
        expect(ids).to.deep.equal(expected.chat);
        return;
      }
      // The reference takes control tokens in the message for real ones; here the template's own are the only ones.
      const controls = ids.filter((id) => tokenizer.isSpecial(id)).map((id) => tokenizer.label(id));
      expect(controls).to.deep.equal([
        '<|im_start|>',
        '<|im_end|>',
        '<|im_start|>',
        '<|im_end|>',
        '<|im_start|>',
      ]);
      expect(tokenizer.decode(ids)).to.contain(text);
    });
  }
}
