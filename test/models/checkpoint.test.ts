import { expect } from 'chai';
import { modelNameOf } from '../../src/models/checkpoint.js';

describe('checkpoints', () => {
  it('give a model its name', () => {
    for (const [source, name] of [
      ['/a/Llama-2-7b-hf/', 'llama-2-7b-hf'],
      ['B.Q4_1.gguf', 'b.q4_1'],
      ['B-00001-of-00002.gguf', 'b'],
      ['owner/A-Model', 'a-model'],
      ['owner/A-Model@main:B-00001-of-00002.gguf', 'b'],
    ])
      expect(modelNameOf(source), source).to.equal(name);
  });
});
