import { expect } from 'chai';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { MedusaError, ModelError } from '../../../src/util/errors.js';
import type { ChatTemplate } from '../../../src/engine/text/chatTemplate.js';
import { Tokenizer } from '../../../src/engine/text/tokenizer.js';
import { testAgainstReference } from '../../support/tokenizerReference.js';
import { readJson, tinyFolder, tokenizerOf } from '../../support/tinyModel.js';

describe('Tokenizer', () => {
  let loaded: { tokenizer: Tokenizer; chatTemplate: ChatTemplate };
  before(async () => {
    loaded = await tokenizerOf(tinyFolder);
  });

  testAgainstReference('tiny', () => loaded);

  it('gives one id for each token and names special tokens', () => {
    const { tokenizer } = loaded;
    expect(tokenizer.vocabSize).to.equal(512);
    expect(tokenizer.specialTokens).to.deep.include({ id: 1, content: '<|im_start|>' });
    expect(tokenizer.label(1)).to.equal('<|im_start|>');
    expect(tokenizer.decode([1, 2])).to.equal('');
    expect(tokenizer.decode([])).to.equal('');
  });

  it('tokenises neighbouring plain stretches together', () => {
    const { tokenizer } = loaded;
    const whole = tokenizer.encode([{ kind: 'plain', text: 'one\n\ntwo' }]);
    const parts = tokenizer.encode([
      { kind: 'control', text: 'one\n' },
      { kind: 'plain', text: '\nt' },
      { kind: 'plain', text: 'wo' },
    ]);
    expect(parts).to.deep.equal(whole);
  });

  it('takes texts of more tokens than a call takes arguments', () => {
    const ids = loaded.tokenizer.encode([{ kind: 'plain', text: 'a1'.repeat(70_000) }]);
    expect(ids).to.have.length.above(130_000);
  });

  it('can be interrupted where a regular expression of the file backtracks without end', async () => {
    const json = await readJson(join(tinyFolder, 'tokenizer.json'));
    const pre_tokenizer = {
      type: 'Split',
      pattern: { Regex: '(a+)+$' },
      behavior: 'Isolated',
      invert: false,
    };
    const tokenizer = new Tokenizer({ tokenizer: { ...json, pre_tokenizer }, config: {} });
    let heard = 0;
    const listen = (): void => void heard++;
    process.on('SIGINT', listen);
    const child = spawn('sh', ['-c', `sleep 1; kill -INT ${process.pid}`]);
    try {
      const text = `${'a'.repeat(60)}b`;
      expect(() => tokenizer.encode([{ kind: 'plain', text }])).to.throw(
        MedusaError,
        'Tokenising the prompt',
      );
      expect(heard).to.equal(1);
    } finally {
      child.kill();
      process.removeListener('SIGINT', listen);
    }
  });

  it('does not let a control token arise where a plain and a control stretch meet', () => {
    const { tokenizer } = loaded;
    const ids = tokenizer.encode([
      { kind: 'plain', text: '<|im_' },
      { kind: 'control', text: 'start|>' },
    ]);
    expect(ids.some((id) => tokenizer.isSpecial(id))).to.equal(false);
  });

  it('replaces lone surrogates, which have no UTF-8', () => {
    const { tokenizer } = loaded;
    const ids = tokenizer.encode([{ kind: 'plain', text: 'a\ud83d b\ude00' }]);
    expect(tokenizer.decode(ids)).to.equal('a\ufffd b\ufffd');
  });

  it('refuses a file that is no tokenizer', () => {
    expect(() => new Tokenizer({ tokenizer: { model: {} }, config: {} })).to.throw(
      ModelError,
      'tokenizer cannot be loaded',
    );
  });
});
