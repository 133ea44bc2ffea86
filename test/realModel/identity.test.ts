import { expect } from 'chai';
import type { DecodingOptions, GenerationResult, MedusaEngine } from '../../src/index.js';
import { openDefaultModel } from '../support/defaultModel.js';

const prompts: [name: string, prompt: string, maxNewTokens: number][] = [
  ['a question', 'Why is the sky blue?', 32],
  ['code', 'Write a Python function that adds two numbers.', 32],
  ['one letter', 'a', 16],
  ['other scripts', '你好！Привет! 🫠', 16],
  ['a long prompt', `Summarise: ${'The cat sat on the mat and looked at the dog. '.repeat(30)}`, 16],
];

const variants: DecodingOptions[] = [
  { tree: 'dynamic', nodes: 1 },
  { tree: 'dynamic', nodes: 8 },
  { tree: 'dynamic', nodes: 64 },
  { tree: 'static', nodes: 8 },
  { tree: 'static', nodes: 64 },
  { tree: 'dynamic', nodes: 'auto' },
];

describe('The default model', function () {
  this.timeout(600_000);

  let engine: MedusaEngine;
  before(async () => {
    engine = await openDefaultModel();
  });
  after(() => engine.dispose());

  for (const [name, prompt, maxNewTokens] of prompts) {
    it(`gives the same greedy tokens with every tree: ${name}`, async () => {
      const run = (options: DecodingOptions): Promise<GenerationResult> => {
        engine.forget();
        return engine.complete(prompt, { ...options, maxNewTokens });
      };
      const plain = await run({ tree: 'none' });
      for (const options of variants) {
        const { tokenIds } = await run(options);
        expect(tokenIds, JSON.stringify(options)).to.deep.equal(plain.tokenIds);
      }
    });
  }

  it('gives the same tokens from a reused cache', async () => {
    const first = await engine.complete('Name three colours.', { maxNewTokens: 24 });
    const messages = [
      { role: 'user', content: 'Name three colours.' },
      { role: 'assistant', content: first.text },
      { role: 'user', content: 'And three animals.' },
    ] as const;
    const warm = await engine.complete(messages, { maxNewTokens: 24 });
    expect(warm.statistics.cachedPromptTokens).to.be.greaterThan(20);
    engine.forget();
    const cold = await engine.complete(messages, { maxNewTokens: 24 });
    expect(warm.tokenIds).to.deep.equal(cold.tokenIds);
  });

  it('takes fewer steps than tokens with heads', async () => {
    const { statistics } = await engine.complete('Write a short story about a cat.', {
      nodes: 64,
      maxNewTokens: 48,
    });
    expect(statistics.tokensPerStep).to.be.greaterThan(1.3);
  });
});
