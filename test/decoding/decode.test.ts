import { expect } from 'chai';
import fc from 'fast-check';
import { createAcceptance, greedyAcceptance } from '../../src/decoding/acceptance.js';
import { decode, type DecodeOptions, type DecodeResult } from '../../src/decoding/decode.js';
import { autoTree, dynamicTree, noTree, staticTree } from '../../src/decoding/treePolicy.js';
import { templateFromPaths } from '../../src/decoding/treeTemplate.js';
import type { DecodeStep, TreePolicy } from '../../src/decoding/types.js';
import { TableModel, type TableModelOptions } from '../support/tableModel.js';

async function run(
  model: TableModel,
  prompt: readonly number[],
  options: Partial<DecodeOptions>,
): Promise<{ steps: DecodeStep[]; result: DecodeResult }> {
  const generator = decode(model, prompt, {
    policy: noTree(),
    acceptance: greedyAcceptance(),
    maxNewTokens: 32,
    clock: model.clock,
    ...options,
  });
  const steps: DecodeStep[] = [];
  for (;;) {
    const next = await generator.next();
    if (next.done) return { steps, result: next.value };
    steps.push(next.value);
  }
}

describe('decode', () => {
  const policies = fc.oneof(
    fc.constant((): TreePolicy => noTree()),
    fc
      .record({
        nodes: fc.integer({ min: 1, max: 40 }),
        heads: fc.integer({ min: 1, max: 4 }),
        topM: fc.integer({ min: 1, max: 8 }),
      })
      .map((options) => (): TreePolicy => dynamicTree(options)),
    fc
      .record({
        nodes: fc.integer({ min: 1, max: 40 }),
        heads: fc.integer({ min: 1, max: 4 }),
        topM: fc.integer({ min: 1, max: 8 }),
      })
      .map(
        (options) => (): TreePolicy =>
          autoTree({
            ...options,
            costs: [
              { nodes: 1, milliseconds: 5 },
              { nodes: 64, milliseconds: 20 },
            ],
          }),
      ),
    fc.constant((): TreePolicy =>
      staticTree(
        templateFromPaths([[0], [1], [0, 0], [2], [0, 1], [0, 0, 3], [1, 0]], { heads: 4, topM: 8 }),
      ),
    ),
  );
  const models = fc.record({
    vocabSize: fc.integer({ min: 8, max: 24 }),
    contextLength: fc.integer({ min: 12, max: 64 }),
    headCount: fc.constant(4),
    accuracy: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 4 }),
    seed: fc.integer({ min: 0, max: 1e6 }),
    inject: fc.record({ token: fc.constant(0), every: fc.integer({ min: 3, max: 40 }) }),
  }) satisfies fc.Arbitrary<TableModelOptions>;

  it('yields exactly the tokens of plain greedy decoding, whatever the tree, the heads and the stop', async () => {
    await fc.assert(
      fc.asyncProperty(
        models,
        policies,
        fc.array(fc.integer({ min: 0, max: 7 }), { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 1, max: 50 }),
        fc.constantFrom([], [0], [0, 3]),
        async (options, policy, prompt, maxNewTokens, eosTokenIds) => {
          const plain = await run(new TableModel(options), prompt, { maxNewTokens, eosTokenIds });
          const model = new TableModel(options);
          const { result } = await run(model, prompt, { policy: policy(), maxNewTokens, eosTokenIds });
          expect(result.tokens).to.deep.equal(plain.result.tokens);
          expect(result.finishReason).to.equal(plain.result.finishReason);
          expect(result.cachedTokens).to.deep.equal(model.cachedTokens);
        },
      ),
      { numRuns: 300 },
    );
  });
});
void createAcceptance;
