import { expect } from 'chai';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { longestMatch } from '../../src/decoding/tree/lookupIndex.js';
import { MedusaEngine, type DecodeStep, type GenerateOptions } from '../../src/index.js';
import { readManifest } from '../../src/models/manifest.js';
import { runMain } from '../support/cli.js';
import { copyTiny, temporaryFolder, writeManifest } from '../support/tinyModel.js';

/** A prompt that repeats itself: trees have something to copy from the first step on. */
const prompt = 'one two three four one two three four one two three';

/** Gives the heads of a copy of the tiny model lookup weights. */
async function addLookup(folder: string, weights: unknown): Promise<void> {
  const file = join(folder, 'manifest.json');
  const manifest = JSON.parse(await readFile(file, 'utf8')) as { heads: object[] };
  manifest.heads = manifest.heads.map((heads) => ({ ...heads, lookup: { weights } }));
  await writeManifest(folder, manifest);
}

const weights = (heads: number, share: number): number[][] =>
  Array.from({ length: heads + 1 }, () => Array.from({ length: longestMatch }, () => share));

describe('Lookup', function () {
  this.timeout(60_000);

  let temporary: Awaited<ReturnType<typeof temporaryFolder>>;
  let folder: string;
  before(async () => {
    temporary = await temporaryFolder();
    folder = await copyTiny(temporary.path, 'lookup');
    await addLookup(folder, weights(4, 0.6));
  });
  after(() => temporary.remove());

  it('gives the tokens of plain decoding from trees that copy, over turns and at temperature 0 and above', async () => {
    const engine = await MedusaEngine.open({ model: folder, threads: 1 });
    try {
      expect(engine.facts.hasLookup).to.equal(true);
      let copies = 0;
      let deepest = 0;
      for (const [temperature, text] of [
        [0, prompt],
        [0, `${prompt} and again: ${prompt}`],
        [0.9, prompt],
      ] as const) {
        const run = async (options: GenerateOptions): Promise<readonly number[]> => {
          const onStep = ({ tree }: DecodeStep): void => {
            for (let row = 1; row < (tree?.size ?? 0); row++) {
              if (tree!.ranks[row] === -1) copies++;
              deepest = Math.max(deepest, tree!.depths[row]);
            }
          };
          const given = { maxNewTokens: 40, topM: 8, temperature, seed: 5, ...options };
          return (await engine.complete(text, { ...given, onStep })).tokenIds;
        };
        const plain = await run({ tree: 'none' });
        expect(await run({ nodes: 12, lookup: 'off' })).to.deep.equal(plain);
        expect(copies).to.equal(0);
        expect(deepest).to.be.at.most(4);
        for (const options of [{ nodes: 12 }, { nodes: 40, headsUsed: 2 }, { nodes: 'auto' }] as const) {
          expect(await run({ ...options, lookup: 'on' })).to.deep.equal(plain);
        }
        expect(copies).to.be.above(0);
        expect(deepest).to.be.above(4);
        copies = deepest = 0;
      }
    } finally {
      await engine.dispose();
    }
  });

  it('is the default where there are weights, but not for the plain product, and doctor names it', async () => {
    for (const [options, expected] of [
      [[], { lookup: 'on', joint: 'product' }],
      [['--lookup', 'off'], { lookup: 'off' }],
      [['--joint', 'product'], { lookup: 'off' }],
      [['--joint', 'product', '--lookup', 'on'], { lookup: 'on' }],
      [['--tree', 'static'], { lookup: 'off' }],
    ] as const) {
      const run = await runMain([
        ...['generate', 'Hi', '--model', folder, '--threads', '1', '--nodes', '8', '--top-m', '8'],
        ...['--max-new-tokens', '4', '--json', ...options],
      ]);
      expect(JSON.parse(run.stdout), run.stderr).to.include(expected);
    }
    const doctor = await runMain(['doctor', '--models-dir', temporary.path]);
    expect(doctor.stdout).to.contain('tiny (4 heads, lookup weights)');
  });

  it('runs in compare, where plain and static keep their trees, and is swept and named in the report', async () => {
    const common = ['--model', folder, '--threads', '1', '--limit', '1', '--max-new-tokens', '24'];
    const runs = async (name: string, ...more: string[]): Promise<[string, string][]> => {
      const output = join(temporary.path, name);
      const run = await runMain([
        'compare',
        ...common,
        '--nodes',
        '8',
        '--output',
        output,
        '--json',
        ...more,
      ]);
      expect(run.code, run.stderr).to.equal(0);
      const report = JSON.parse(run.stdout) as { runs: { name: string; decoding: { lookup: string } }[] };
      return report.runs.map((each) => [each.name, each.decoding.lookup]);
    };
    expect(await runs('runs', '--lookup', 'on')).to.deep.equal([
      ['plain', 'off'],
      ['static', 'off'],
      ['dynamic', 'on'],
    ]);
    expect(await readFile(join(temporary.path, 'runs', 'report.md'), 'utf8')).to.match(
      /dynamic, n = 8, .*, lookup/,
    );
    const swept = await runs('sweep', '--a', '--tree dynamic', '--sweep', 'lookup=off,on');
    expect(swept.map(([, lookup]) => lookup)).to.deep.equal(['off', 'off', 'on']);
  });

  it('refuses weights that are none in the manifest', async () => {
    const damaged = await copyTiny(temporary.path, 'damaged');
    for (const wrong of [weights(3, 0.5), weights(4, 1), [[0.5]], 'many']) {
      await addLookup(damaged, wrong);
      const failure = await readManifest(damaged).catch((error: unknown) => String(error));
      expect(failure).to.match(/heads\[0\]\.lookup\.weights.*(5 lists of 8 numbers|a list)/);
    }
  });
});
