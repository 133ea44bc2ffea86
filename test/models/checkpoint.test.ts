import { expect } from 'chai';
import { isHubName, modelNameOf } from '../../src/models/checkpoint.js';

describe('checkpoints', () => {
  it('give a model its name', () => {
    for (const [source, name] of [
      ['/a/Llama-2-7b-hf/', 'llama-2-7b-hf'],
      ['B.Q4_1.gguf', 'b.q4_1'],
      ['B-00001-of-00002.gguf', 'b'],
      ['owner/A-Model', 'a-model'],
    ])
      expect(modelNameOf(source), source).to.equal(name);
  });

  it('on the hub have an owner and one slash', () => {
    expect(isHubName('meta-llama/Llama-3.2-1B')).to.equal(true);
    for (const other of [
      'model',
      './model',
      '../model',
      '/model',
      'a/b/c',
      'a\\b',
      '~/model',
      'a /b',
      'a/b.gguf',
    ])
      expect(isHubName(other), other).to.equal(false);
  });
});
