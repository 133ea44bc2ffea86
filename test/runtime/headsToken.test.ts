import { expect } from 'chai';
import { appendFile, cp } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { dynamicTree } from '../../src/decoding/policy/treePolicy.js';
import type { DraftingModel, HeadProposals } from '../../src/decoding/types.js';
import { ModelError } from '../../src/util/errors.js';
import { MedusaEngine, type DecodeStep } from '../../src/index.js';
import { readManifest } from '../../src/models/manifest.js';
import { headsInterface } from '../../src/runtime/graphInterface.js';
import { type HeadsFile, openModel } from '../../src/runtime/index.js';
import { decodeAll } from '../support/decodeAll.js';
import { copyTinyToken, temporaryFolder, tinyTokenFolder, tokenInput } from '../support/tinyModel.js';
import {
  distance,
  float16Options,
  openShared,
  pathTo,
  randomIds,
  randomTree,
  sharedOptions,
  splitOptions,
} from './tiny.js';

const captured = { ...sharedOptions, cudaGraphs: true } as const;
const runtimes = [
  ['split layout', splitOptions, openModel],
  ['shared layout', sharedOptions, openShared],
  ['shared layout, CUDA graphs', captured, openShared],
  ['shared layout, float16', float16Options, openShared],
] as const;

describe('runtime: heads that read the next root', () => {
  let temporary: Awaited<ReturnType<typeof temporaryFolder>>;
  before(async () => {
    temporary = await temporaryFolder();
  });
  after(() => temporary.remove());

  it('are known by one more input, whatever they give', () => {
    const inputs = ['hidden', 'row', 'top_m'];
    expect(headsInterface({}).inputs).to.deep.equal(inputs);
    expect(headsInterface({ readsToken: false }).inputs).to.deep.equal(inputs);
    expect(headsInterface({ readsToken: true })).to.deep.equal({
      inputs: [...inputs, 'token'],
      outputs: ['top_ids', 'top_probs'],
    });
    const both = headsInterface({ readsToken: true, contextSize: 8 });
    expect(both.inputs).to.include('token');
    expect(both.outputs).to.include('context');
  });

  for (const [name, options, open] of runtimes) {
    /** The heads of these options, made to give `top_probs * token` as their context. */
    const tokenHeads = async (): Promise<HeadsFile> => {
      const { path } = options.heads!;
      const folder = join(temporary.path, name);
      await cp(dirname(path), folder, { recursive: true });
      const copy = join(folder, basename(path));
      await appendFile(copy, tokenInput);
      return { ...options.heads!, path: copy, contextSize: 8, readsToken: true };
    };

    it(`are given it at each call: ${name}`, async () => {
      const model = await open({ ...options, heads: await tokenHeads() });
      try {
        await model.prefill([1, 2, 3], { logits: false });
        for (const root of [0, 1, 7, 511]) {
          const { probabilities, hiddenTerms } = await model.propose(8, root);
          expect(
            distance(
              hiddenTerms!,
              probabilities.map((each) => each * root),
            ),
          ).to.equal(0);
        }
      } finally {
        await model.dispose();
      }
    });

    it(`must say so, and others must not: ${name}`, async () => {
      const heads = await tokenHeads();
      const failure = (given: HeadsFile): Promise<unknown> =>
        open({ ...options, heads: given }).catch((error: unknown) => error);
      const silent = await failure({ ...heads, readsToken: false });
      expect(silent).to.be.instanceOf(ModelError);
      expect(String(silent)).to.match(/heads.*wants the unknown inputs token/);
      const boasting = await failure({ ...options.heads!, readsToken: true });
      expect(boasting).to.be.instanceOf(ModelError);
      expect(String(boasting)).to.match(/heads.*lacks input token/);
    });
  }

  describe('in the tiny model', () => {
    const path = join(tinyTokenFolder, 'heads.tiny.fp32.onnx');
    const heads = { ...splitOptions.heads!, path, readsToken: true };
    const models: DraftingModel[] = [];
    before(async () => {
      for (const [, options, open] of runtimes.slice(0, 3)) models.push(await open({ ...options, heads }));
    });
    after(() => Promise.all(models.map((model) => model.dispose())));
    beforeEach(() => models.forEach((model) => model.truncate(0)));

    it('propose other tokens after another root, and the same on every runtime', async () => {
      const texts = randomIds(60, 1);
      for (const model of models) await model.prefill(texts, { logits: false });
      for (let step = 0; step < 20; step++) {
        const nodes = randomTree(1 + ((step * 7) % 20), 70 + step, 5);
        const kept = pathTo(nodes, nodes.size - 1);
        const roots = randomIds(3, 500 + step);
        const proposed: HeadProposals[][] = [];
        for (const model of models) {
          await model.verify(nodes, { logits: false });
          await model.keep(kept);
          const lists: HeadProposals[] = [];
          for (const root of roots) lists.push(await model.propose(5, root));
          proposed.push(lists);
        }
        for (const lists of proposed) {
          lists.forEach(({ ids, probabilities }, i) => {
            expect(ids).to.deep.equal(proposed[0][i].ids);
            expect(distance(probabilities, proposed[0][i].probabilities)).to.be.below(1e-4);
          });
          expect(new Set(lists.map(({ ids }) => ids.join())).size).to.equal(roots.length);
        }
      }
    });

    it('draft trees whose greedy text is that of plain decoding, on every runtime', async () => {
      const prompt = randomIds(20, 9);
      const texts: string[] = [];
      for (const model of models) {
        const policy = dynamicTree({ nodes: 16, heads: 4, topM: 8 });
        const plain = await decodeAll(model, prompt);
        const drafted = await decodeAll(model, prompt, { policy });
        expect(drafted.result.tokens).to.deep.equal(plain.result.tokens);
        expect(drafted.result.nodeCounts[0]).to.equal(16);
        texts.push(plain.result.tokens.join());
      }
      expect(new Set(texts).size).to.equal(1);
    });

    it('are told from the manifest, and draft for the engine in int8', async () => {
      const folder = await copyTinyToken(temporary.path);
      const manifest = await readManifest(folder);
      expect(manifest.heads.map(({ readsToken }) => readsToken)).to.deep.equal([true, true]);
      const engine = await MedusaEngine.open({ model: folder, threads: 1 });
      try {
        for (const prompt of ['Hi', 'The sky is blue because']) {
          const steps: DecodeStep[] = [];
          const plain = await engine.complete(prompt, { maxNewTokens: 30, tree: 'none' });
          const onStep = (step: DecodeStep): unknown => steps.push(step);
          const drafted = await engine.complete(prompt, { maxNewTokens: 30, nodes: 12, topM: 8, onStep });
          expect(drafted.tokenIds).to.deep.equal(plain.tokenIds);
          expect(steps[1].tree!.size).to.equal(12);
        }
      } finally {
        await engine.dispose();
      }
    });
  });
});
