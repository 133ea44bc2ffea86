import { expect } from 'chai';
import { join } from 'node:path';
import { MedusaEngine, type DecodeStep, type GenerateOptions } from '../../src/index.js';
import { openModel } from '../../src/runtime/index.js';
import { runMain } from '../support/cli.js';
import { descriptorsOf } from '../support/descriptors.js';
import {
  addConditional,
  conditionalName,
  contextOutput,
  copyTiny,
  temporaryFolder,
} from '../support/tinyModel.js';
import { float16Options, openShared, sharedOptions, splitOptions } from '../runtime/tiny.js';
import { appendFile, cp } from 'node:fs/promises';

const prompts = ['Hi', 'The sky is blue because', 'Count to ten.'];

/** The tiny model with tables made here: what the runtime, the manifest and the decode loop make of them. */
describe('Joint conditional', function () {
  this.timeout(60_000);

  let temporary: Awaited<ReturnType<typeof temporaryFolder>>;
  const open = async (name: string, options: Parameters<typeof addConditional>[1]): Promise<MedusaEngine> => {
    const folder = await copyTiny(temporary.path, name);
    await addConditional(folder, options);
    return MedusaEngine.open({ model: folder, threads: 1 });
  };
  before(async () => {
    temporary = await temporaryFolder();
  });
  after(() => temporary.remove());

  for (const [name, made] of [
    ['a table alone', {}],
    ['one distance and an activation', { rank: 5, distances: 1, activation: 'silu' }],
    ['hidden terms of the heads graph', { context: true }],
  ] as const) {
    it(`gives the tokens of plain decoding from other trees: ${name}`, async () => {
      const engine = await open(name.replaceAll(' ', '-'), made);
      try {
        expect(engine.facts.hasConditional).to.equal(true);
        let others = 0;
        for (const prompt of prompts) {
          const run = async (
            options: GenerateOptions,
          ): Promise<{ ids: readonly number[]; steps: DecodeStep[] }> => {
            const steps: DecodeStep[] = [];
            engine.forget();
            const given = { maxNewTokens: 30, topM: 8, ...options };
            const { tokenIds } = await engine.complete(prompt, {
              ...given,
              onStep: (step) => steps.push(step),
            });
            return { ids: tokenIds, steps };
          };
          const plain = await run({ tree: 'none' });
          const product = await run({ nodes: 12, joint: 'product' });
          const conditional = await run({ nodes: 12, joint: 'conditional' });
          const automatic = await run({ nodes: 'auto', joint: 'conditional' });
          for (const { ids } of [product, conditional, automatic]) expect(ids).to.deep.equal(plain.ids);
          const tokens = ({ steps }: typeof plain): number[] => [...steps[1].tree!.tokens];
          if (tokens(conditional).join() !== tokens(product).join()) others++;
          expect(conditional.steps[1].proposals!.hiddenTerms === undefined).to.equal(!('context' in made));
        }
        expect(others).to.equal(prompts.length);
      } finally {
        await engine.dispose();
      }
    });
  }

  it('closes the table with the engine, also where a generation has just begun', async () => {
    const engine = await open('closed', {});
    const table = join(engine.facts.modelFolder, conditionalName);
    expect(descriptorsOf(table)).to.equal(0);
    const options = { nodes: 8, topM: 8, maxNewTokens: 4 };
    await engine.complete('Hi', options);
    await engine.complete('Hi', { ...options, nodes: 'auto' });
    expect(descriptorsOf(table)).to.equal(1);
    await engine.dispose();
    expect(descriptorsOf(table)).to.equal(0);
    const other = await MedusaEngine.open({ model: engine.facts.modelFolder, threads: 1 });
    const begun = failure(other.complete('Hi', options));
    await other.dispose();
    expect(await begun).to.contain('was disposed');
    expect(descriptorsOf(table)).to.equal(0);
  });

  it("passes the heads' hidden terms on, from either runtime", async () => {
    const folder = join(temporary.path, 'graphs');
    for (const [name, options, opener] of [
      ['split', splitOptions, openModel],
      ['shared', sharedOptions, openShared],
      ['float16', float16Options, openShared],
    ] as const) {
      const from = join(options.heads!.path, '..');
      await cp(from, join(folder, name), { recursive: true });
      const path = join(folder, name, options.heads!.path.slice(from.length));
      const heads = { ...options.heads!, path, contextSize: 8 };
      expect(await failure(opener({ ...options, heads }))).to.match(/heads.*lacks output context/);
      await appendFile(path, contextOutput);
      const model = await opener({ ...options, heads });
      try {
        await model.prefill([1, 2, 3], { logits: false });
        const { probabilities, hiddenTerms } = await model.propose(8, 4);
        expect(hiddenTerms).to.deep.equal(probabilities);
      } finally {
        await model.dispose();
      }
    }
  });

  it('is an option of generate, the default where there is a table, and doctor names that', async () => {
    const folder = await copyTiny(temporary.path, 'cli');
    await addConditional(folder);
    const generate = await runMain([
      ...['generate', 'Hi', '--model', folder, '--threads', '1', '--nodes', '8', '--top-m', '8'],
      ...['--max-new-tokens', '12', '--joint', 'conditional', '--json'],
    ]);
    expect(generate.code, generate.stderr).to.equal(0);
    expect(JSON.parse(generate.stdout)).to.include({ joint: 'conditional', tree: 'dynamic' });
    for (const [options, joint] of [
      [[], 'conditional'],
      [['--joint', 'product'], 'product'],
      [['--tree', 'static'], 'product'],
    ] as const) {
      const run = await runMain([
        ...['generate', 'Hi', '--model', folder, '--threads', '1', '--nodes', '8', '--top-m', '8'],
        ...['--max-new-tokens', '4', '--json', ...options],
      ]);
      expect(JSON.parse(run.stdout), run.stderr).to.include({ joint });
    }
    const doctor = await runMain(['doctor', '--models-dir', temporary.path]);
    expect(doctor.stdout).to.contain('tiny (4, conditional table)');
  });

  it('runs in bench and compare, where plain and static keep their trees', async () => {
    const folder = await copyTiny(temporary.path, 'compare');
    await addConditional(folder);
    const output = join(temporary.path, 'runs');
    const common = ['--model', folder, '--threads', '1', '--limit', '1', '--max-new-tokens', '12'];
    const run = await runMain([
      ...['compare', ...common, '--nodes', '8', '--joint', 'conditional', '--output', output, '--json'],
    ]);
    expect(run.code, run.stderr).to.equal(0);
    const report = JSON.parse(run.stdout) as { runs: { name: string; decoding: { joint: string } }[] };
    expect(report.runs.map(({ name, decoding }) => `${name}: ${decoding.joint}`)).to.deep.equal([
      'plain: product',
      'static: product',
      'dynamic: conditional',
    ]);
    const sweep = await runMain([
      ...[
        'compare',
        ...common,
        '--nodes',
        '8',
        '--a',
        '--tree dynamic',
        '--sweep',
        'joint=product,conditional',
      ],
      ...['--output', join(temporary.path, 'sweep'), '--json'],
    ]);
    expect(sweep.code, sweep.stderr).to.equal(0);
    const swept = JSON.parse(sweep.stdout) as typeof report;
    expect(swept.runs.map(({ decoding }) => decoding.joint)).to.deep.equal([
      'product',
      'product',
      'conditional',
    ]);
  });
});

async function failure(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => expect.fail('did not throw'),
    (error: Error) => error.message,
  );
}
