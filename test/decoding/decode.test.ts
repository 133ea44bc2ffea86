import { expect } from 'chai';
import fc from 'fast-check';
import { createAcceptance } from '../../src/decoding/acceptance.js';
import { decode, type LoopOptions } from '../../src/decoding/decode.js';
import { autoTree, dynamicTree, noTree, staticTree } from '../../src/decoding/policy/treePolicy.js';
import { searchStaticTree, staticTreeFromPaths } from '../../src/decoding/tree/staticTree.js';
import type { StoppingCriteria, TreePolicy, VerifyOptions } from '../../src/decoding/types.js';
import { anyTable, madeTable } from '../support/conditional.js';
import { decodeAll } from '../support/decodeAll.js';
import { TableModel, type TableModelOptions } from '../support/tableModel.js';

const heads = 4;
const topM = 8;
const largestVocabulary = 24;
const costs = [
  { nodes: 1, milliseconds: 5 },
  { nodes: 64, milliseconds: 20 },
];

const policies: fc.Arbitrary<() => TreePolicy> = fc.oneof(
  fc
    .record({
      nodes: fc.integer({ min: 1, max: 70 }),
      heads: fc.integer({ min: 1, max: heads }),
      topM: fc.integer({ min: 1, max: topM }),
      auto: fc.boolean(),
      conditional: fc.option(
        anyTable(largestVocabulary).map((made) => madeTable({ ...made, usesHidden: false })),
        {
          nil: undefined,
        },
      ),
    })
    .map(
      ({ auto, ...options }) =>
        () =>
          auto ? autoTree({ ...options, costs }) : dynamicTree(options),
    ),
  fc
    .array(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: topM }), {
      minLength: 1,
      maxLength: heads,
    })
    .chain((levels) =>
      fc
        .integer({ min: 1, max: 40 })
        .map((nodes) => () => staticTree(searchStaticTree(levels, { nodes, depth: 9 }, topM))),
    ),
);

const models = fc.record({
  vocabSize: fc.integer({ min: topM, max: largestVocabulary }),
  contextLength: fc.integer({ min: 12, max: 64 }),
  headCount: fc.constant(heads),
  accuracy: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: heads }),
  seed: fc.integer({ min: 0, max: 1e6 }),
  // Token 0 turns up now and then, also inside accepted paths.
  inject: fc.record({ token: fc.constant(0), every: fc.integer({ min: 3, max: 40 }) }),
}) satisfies fc.Arbitrary<TableModelOptions>;

const prompts = fc.array(fc.integer({ min: 0, max: topM - 1 }), { minLength: 1, maxLength: 12 });

/** Stops at the second occurrence of a token: a check with a memory, like that of a stop string. */
function stopAtSecond(wanted: number): StoppingCriteria {
  let seen = 0;
  return { push: (token) => (token === wanted && ++seen === 2 ? 'stop' : undefined) };
}

/** A model and a policy that accept whole paths: heads that always know the answer. */
const oracle = (options: TableModelOptions = {}): TableModel => new TableModel({ accuracy: [1], ...options });
const wideTree = (): TreePolicy => dynamicTree({ nodes: 16, heads, topM });

describe('decode', () => {
  it('yields exactly the tokens of plain greedy decoding, whatever the tree, the heads and the stop', async () => {
    await fc.assert(
      fc.asyncProperty(
        models,
        policies,
        prompts,
        fc.integer({ min: 1, max: 50 }),
        fc.constantFrom([], [0], [0, 3]),
        fc.constantFrom(undefined, 1, 2),
        async (options, policy, prompt, maxNewTokens, eosTokenIds, stop) => {
          const limits = (): Partial<LoopOptions> => ({
            maxNewTokens,
            eosTokenIds,
            stopping: stop === undefined ? undefined : stopAtSecond(stop),
          });
          const plain = await decodeAll(new TableModel(options), prompt, limits());
          const model = new TableModel(options);
          const { result, steps } = await decodeAll(model, prompt, { ...limits(), policy: policy() });
          expect(result.tokens).to.deep.equal(plain.result.tokens);
          expect(result.finishReason).to.equal(plain.result.finishReason);
          expect(result.tokens).to.deep.equal(model.greedyContinuation(prompt, result.tokens.length));
          expect(result.cachedTokens).to.deep.equal(model.cachedTokens);
          expect(steps.flatMap((step) => step.tokens)).to.deep.equal(result.tokens);
          expect(steps.at(-1)!.finishReason).to.equal(result.finishReason);
          expect(steps.map((step) => step.index)).to.deep.equal(steps.map((_, i) => i));
        },
      ),
      { numRuns: 400 },
    );
  });

  it('yields the very tokens of plain sampling with the same seed: one draw for each token, in order', async () => {
    await fc.assert(
      fc.asyncProperty(
        models,
        policies,
        prompts,
        fc.nat(),
        fc.constantFrom(1, 0.8),
        async (options, policy, prompt, seed, topP) => {
          const sample = async (policy: TreePolicy): Promise<readonly number[]> => {
            const acceptance = createAcceptance({ name: 'sampling', temperature: 0.8, topP, seed });
            return (await decodeAll(new TableModel(options), prompt, { policy, acceptance })).result.tokens;
          };
          expect(await sample(policy())).to.deep.equal(await sample(noTree()));
        },
      ),
    );
  });

  it('keeps cache and tokens together under lossy acceptance too', async () => {
    await fc.assert(
      fc.asyncProperty(
        models,
        policies,
        prompts,
        fc.integer({ min: 1, max: 20 }),
        async (options, policy, prompt, count) => {
          const model = new TableModel({ ...options, sharpness: 1 });
          const acceptance = createAcceptance({ name: 'typical', temperature: 1 });
          const { result } = await decodeAll(model, prompt, {
            policy: policy(),
            acceptance,
            maxNewTokens: count,
          });
          expect(result.newTokens).to.equal(Math.min(count, options.contextLength - prompt.length + 1));
          expect(result.cachedTokens).to.deep.equal(model.cachedTokens);
          expect([...prompt, ...result.tokens].slice(0, model.cachedLength)).to.deep.equal(
            model.cachedTokens,
          );
        },
      ),
    );
  });

  it('reports the prefill as step 0 without a tree, and each verification with all it did', async () => {
    const { steps, result } = await decodeAll(oracle(), [1, 2], { policy: wideTree(), maxNewTokens: 12 });
    expect(steps[0].index).to.equal(0);
    expect(steps[0]).to.not.have.any.keys('tree', 'accepted', 'proposals');
    expect(steps[0].tokens).to.have.length(1);
    expect(steps[1].tree!.size).to.equal(16);
    expect(steps[1].tree!.tokens[0]).to.equal(steps[0].tokens[0]);
    expect(steps[1].proposals).to.include({ heads, topM });
    expect(steps[1].accepted!.rows).to.have.length(5);
    expect(result.acceptLengths).to.deep.equal([5, 5, 1]);
  });

  describe('ends', () => {
    it('with the EOS token, which is counted, inside an accepted path', async () => {
      const model = oracle({ seed: 8 });
      const tokens = model.greedyContinuation([1], 20);
      const eos = tokens[3];
      const end = tokens.indexOf(eos) + 1;
      const { result } = await decodeAll(model, [1], { policy: wideTree(), eosTokenIds: [99, eos] });
      expect(result).to.include({ finishReason: 'eos', newTokens: end });
      expect(result.tokens).to.deep.equal(tokens.slice(0, end));
      expect(model.cachedTokens).to.deep.equal([1, ...tokens.slice(0, end)]);
    });

    it('at the very first token, without a step', async () => {
      const model = oracle();
      const [eos] = model.greedyContinuation([1], 1);
      const { result, steps } = await decodeAll(model, [1], { policy: wideTree(), eosTokenIds: [eos] });
      expect(result).to.include({
        finishReason: 'eos',
        newTokens: 1,
        steps: 0,
        inferences: 1,
        tokensPerStep: 0,
      });
      expect(steps).to.have.length(1);
    });

    it('after exactly maxNewTokens, verifying nothing that could not be emitted', async () => {
      for (let maxNewTokens = 1; maxNewTokens <= 12; maxNewTokens++) {
        const model = oracle();
        const { result, steps } = await decodeAll(model, [1], { policy: wideTree(), maxNewTokens });
        expect(result).to.include({ finishReason: 'length', newTokens: maxNewTokens });
        for (const step of steps.slice(1)) {
          const before = steps.slice(0, step.index).reduce((sum, each) => sum + each.tokens.length, 0);
          expect(Math.max(...step.tree!.depths)).to.be.at.most(maxNewTokens - before - 1);
        }
      }
    });

    it('a last token without running the heads', async () => {
      const model = oracle();
      const { result } = await decodeAll(model, [1], { policy: wideTree(), maxNewTokens: 7 });
      expect(result.nodeCounts).to.deep.equal([16, 1]);
      expect(model.calls.filter((call) => call === 'propose')).to.have.length(1);
    });

    it('with a further criterion, which is not shown the EOS token', async () => {
      const shown: number[] = [];
      const stopping: StoppingCriteria = {
        push(token) {
          shown.push(token);
          return shown.length === 3 ? 'stop' : undefined;
        },
      };
      const { result } = await decodeAll(oracle(), [1], { policy: wideTree(), stopping });
      expect(result).to.include({ finishReason: 'stop', newTokens: 3 });
      expect(result.tokens).to.deep.equal(shown);
      shown.length = 0;
      await decodeAll(oracle(), [1], { stopping, eosTokenIds: result.tokens.slice(1, 2) });
      expect(shown).to.deep.equal(result.tokens.slice(0, 1));
    });

    it('with the context, shrinking the trees before it', async () => {
      const model = oracle({ contextLength: 20 });
      const { result } = await decodeAll(model, [1, 2, 3], { policy: wideTree(), maxNewTokens: 100 });
      // 17 positions are left after the prompt; the token after the last of them needs no position.
      expect(result).to.include({ finishReason: 'context', newTokens: 18 });
      expect(model.cachedLength).to.equal(20);
    });

    it('after the prefill when the prompt fills the context', async () => {
      const { result } = await decodeAll(oracle({ contextLength: 3 }), [1, 2, 3]);
      expect(result).to.include({ finishReason: 'context', newTokens: 1, steps: 0 });
    });

    it('when it is aborted, with what there is', async () => {
      const model = oracle();
      const controller = new AbortController();
      const generator = decode(model, [1], {
        policy: wideTree(),
        acceptance: createAcceptance({ name: 'greedy' }),
        maxNewTokens: 100,
        clock: () => 0,
        signal: controller.signal,
      });
      await generator.next();
      await generator.next();
      controller.abort();
      const { value, done } = await generator.next();
      expect(done).to.equal(true);
      expect(value).to.include({ finishReason: 'aborted', newTokens: 6, steps: 1 });
      expect(value).to.have.deep.property('cachedTokens', [...model.cachedTokens]);
    });

    it('at once when it was aborted before it began', async () => {
      const { result, steps } = await decodeAll(oracle(), [1], { signal: AbortSignal.abort() });
      expect(steps).to.deep.equal([]);
      expect(result).to.include({ finishReason: 'aborted', newTokens: 0, steps: 0, prefillTime: 0 });
    });
  });

  describe('aborted in a long prompt', () => {
    it('ends after the part that is running, and goes on from there', async () => {
      const prompt = Array.from({ length: 1300 }, (_, i) => i % 7);
      const model = Object.assign(oracle({ contextLength: 2000 }), { promptRows: 512 });
      const controller = new AbortController();
      const whole = model.prefill.bind(model);
      model.prefill = (ids, options) => {
        if (model.cachedLength > 0) controller.abort();
        time += 10;
        return whole(ids, options);
      };
      let time = 0;
      const clock = (): number => time;
      const { result, steps } = await decodeAll(model, prompt, { signal: controller.signal, clock });
      expect(steps).to.deep.equal([]);
      expect(result).to.include({ finishReason: 'aborted', newTokens: 0, prefillTime: 20 });
      expect(result.cachedTokens).to.deep.equal(prompt.slice(0, 1024));

      model.prefill = whole;
      const resumed = await decodeAll(model, prompt, { cachedTokens: result.cachedTokens, maxNewTokens: 9 });
      const fresh = await decodeAll(oracle({ contextLength: 2000 }), prompt, { maxNewTokens: 9 });
      expect(resumed.result.cachedPromptTokens).to.equal(1024);
      expect(resumed.result.tokens).to.deep.equal(fresh.result.tokens);
    });
  });

  describe('reuses the cache', () => {
    it('for the longest common prefix with the prompt, and gives the same tokens', async () => {
      await fc.assert(
        fc.asyncProperty(
          models,
          policies,
          prompts,
          prompts,
          fc.nat(20),
          async (options, policy, first, more, cut) => {
            fc.pre(options.contextLength > 30);
            const model = new TableModel(options);
            const { result } = await decodeAll(model, first, { policy: policy(), maxNewTokens: 8 });
            const next = [...first, ...result.tokens].slice(0, cut).concat(more);
            fc.pre(next.length > 0 && next.length < options.contextLength);
            const reused = await decodeAll(model, next, {
              policy: policy(),
              maxNewTokens: 8,
              cachedTokens: result.cachedTokens,
            });
            expect(reused.result.tokens).to.deep.equal(
              model.greedyContinuation(next, reused.result.newTokens),
            );
            expect(model.prefilledTokens).to.equal(
              first.length + next.length - reused.result.cachedPromptTokens,
            );
            const common = next.findIndex((token, i) => token !== result.cachedTokens[i]);
            const longest = common === -1 ? next.length : common;
            expect(reused.result.cachedPromptTokens).to.equal(Math.min(longest, next.length - 1));
          },
        ),
      );
    });

    it('computes the last prompt token again when all of it is cached', async () => {
      const model = oracle();
      await decodeAll(model, [1, 2, 3], { maxNewTokens: 1 });
      const { result } = await decodeAll(model, [1, 2, 3], { maxNewTokens: 2, cachedTokens: [1, 2, 3] });
      expect(result.cachedPromptTokens).to.equal(2);
      expect(result.tokens).to.deep.equal(model.greedyContinuation([1, 2, 3], 2));
    });

    it('only when it is told what is cached', async () => {
      const model = oracle();
      await decodeAll(model, [1, 2, 3], { maxNewTokens: 1 });
      const { result } = await decodeAll(model, [1, 2, 3], { maxNewTokens: 1 });
      expect(result.cachedPromptTokens).to.equal(0);
    });

    it('believes the model about how much there is', async () => {
      const model = oracle();
      const { result } = await decodeAll(model, [1, 2, 3], { cachedTokens: [1, 2, 3], maxNewTokens: 1 });
      expect(result.cachedPromptTokens).to.equal(0);
    });
  });

  describe('refuses', () => {
    it('a number of new tokens that is none', async () => {
      for (const maxNewTokens of [0, -1, 1.5, NaN]) {
        const refusal = await decodeAll(new TableModel(), [1], { maxNewTokens }).then(
          () => undefined,
          (error: unknown) => error,
        );
        expect(String(refusal)).to.match(/maxNewTokens/);
      }
    });
  });

  it('accounts for every millisecond', async () => {
    const model = oracle({ costs: { verify: (nodes) => 10 + nodes, heads: 2 } });
    const generator = decode(model, [1], {
      policy: wideTree(),
      acceptance: createAcceptance({ name: 'greedy' }),
      maxNewTokens: 12,
      clock: model.clock,
    });
    let next = await generator.next();
    while (!next.done) {
      model.time += 3; // the consumer
      next = await generator.next();
    }
    const { times, prefillTime, wallTime, nodeCounts } = next.value;
    expect(nodeCounts).to.deep.equal([16, 16, 1]);
    expect(prefillTime).to.equal(11);
    expect(times).to.deep.equal({ heads: 4, tree: 0, backbone: 26 + 26 + 11, accept: 0, keep: 0, rest: 12 });
    expect(wallTime).to.equal(prefillTime + 4 + 63 + 12);
  });

  it('tells the heads the root of the very tree that follows, greedy or sampling', async () => {
    const roots: number[] = [];
    class Watched extends TableModel {
      override propose(
        ...[topM, root]: Parameters<TableModel['propose']>
      ): ReturnType<TableModel['propose']> {
        roots.push(root);
        return super.propose(topM, root);
      }
    }
    for (const acceptance of [
      createAcceptance({ name: 'greedy' }),
      createAcceptance({ name: 'sampling', temperature: 1, seed: 3 }),
    ]) {
      roots.length = 0;
      const { steps } = await decodeAll(new Watched(), [1, 2], { policy: wideTree(), acceptance });
      const drafted = steps.filter((step) => step.proposals !== undefined);
      expect(drafted.length).to.be.above(5);
      expect(roots).to.deep.equal(drafted.map(({ tree }) => tree!.tokens[0]));
      expect(roots).to.deep.equal(drafted.map(({ index }) => steps[index - 1].tokens.at(-1)));
    }
  });

  it('asks for logits only where acceptance reads them', async () => {
    const asked = new Set<VerifyOptions['logits']>();
    class Watched extends TableModel {
      override verify(
        ...[tree, options]: Parameters<TableModel['verify']>
      ): ReturnType<TableModel['verify']> {
        asked.add(options.logits);
        return super.verify(tree, options);
      }
    }
    await decodeAll(new Watched(), [1], { policy: wideTree() });
    expect([...asked]).to.deep.equal([false]);
    const acceptance = createAcceptance({ name: 'typical', temperature: 0.7 });
    await decodeAll(new Watched(), [1], { policy: wideTree(), acceptance });
    expect([...asked]).to.deep.equal([false, 'by row']);
  });

  it('runs no heads without a tree', async () => {
    const model = new TableModel({ headCount: 0 });
    const { result } = await decodeAll(model, [1], { maxNewTokens: 9 });
    expect(model.calls).to.not.include('propose');
    expect(result).to.include({ steps: 8, inferences: 9, tokensPerStep: 1, tokensPerInference: 1 });
    const single = staticTreeFromPaths([[0]], { heads, topM });
    expect(staticTree(single).wantedTopM({ nodes: 9, depth: 0 })).to.equal(0);
  });
});
