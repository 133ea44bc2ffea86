import { expect } from 'chai';
import { appendFile, cp } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { ModelError } from '../../src/errors.js';
import { headsInterface } from '../../src/runtime/graphInterface.js';
import { type HeadsFile, openModel } from '../../src/runtime/index.js';
import { temporaryFolder, tokenInput } from '../support/tinyModel.js';
import { distance, float16Options, openShared, sharedOptions, splitOptions } from './tiny.js';

const packed = { ...sharedOptions, deviceSteps: 'packed' } as const;
const graphs = { ...sharedOptions, deviceSteps: 'graphs' } as const;
const runtimes = [
  ['split layout', splitOptions, openModel],
  ['shared layout', sharedOptions, openShared],
  ['shared layout, packed steps', packed, openShared],
  ['shared layout, graphs', graphs, openShared],
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
          const { probabilities, contexts } = await model.propose(8, root);
          expect(
            distance(
              contexts!,
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
});
