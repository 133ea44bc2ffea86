import { expect } from 'chai';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunInfo } from '../../src/bench/run/formats.js';
import { MedusaEngine } from '../../src/index.js';
import { runMain } from '../support/cli.js';
import { copyTiny, readJson, temporaryFolder, writeManifest } from '../support/tinyModel.js';

describe('ignoreEos', function () {
  this.timeout(60_000);

  let temporary: Awaited<ReturnType<typeof temporaryFolder>>;
  let folder: string;
  /** What the model says when nothing ends it, and where its end-of-sequence token is first. */
  let tokens: readonly number[];
  const end = 6;

  before(async () => {
    temporary = await temporaryFolder();
    folder = await copyTiny(temporary.path, 'ending');
    const engine = await MedusaEngine.open({ model: folder, threads: 1 });
    tokens = (await engine.complete('Hi', { maxNewTokens: 30 })).tokenIds;
    await engine.dispose();
    expect(tokens.indexOf(tokens[end])).to.equal(end);
    const manifest = await readJson(join(folder, 'manifest.json'));
    await writeManifest(folder, {
      ...manifest,
      tokenizer: { ...(manifest.tokenizer as object), eos_token_ids: [tokens[end]] },
    });
  });
  after(() => temporary.remove());

  const generate = async (...options: string[]): Promise<Record<string, unknown>> => {
    const args = ['generate', 'Hi', '--model', folder, '--threads', '1', '--max-new-tokens', '30', '--json'];
    const run = await runMain([...args, ...options]);
    expect(run.code, run.stderr).to.equal(0);
    return JSON.parse(run.stdout) as Record<string, unknown>;
  };

  it('goes on to the last of the tokens, plainly and with trees', async () => {
    const ended = await generate();
    expect(ended).to.include({ finish_reason: 'eos', ignore_eos: false });
    expect(ended.token_ids).to.deep.equal(tokens.slice(0, end + 1));
    for (const tree of ['none', 'static', 'dynamic']) {
      const whole = await generate('--ignore-eos', '--tree', tree, '--nodes', '8');
      expect(whole).to.include({ finish_reason: 'length', ignore_eos: true });
      expect(whole.token_ids).to.deep.equal(tokens);
    }
  });

  it('holds for all variants of compare, and is in run.json', async () => {
    const output = join(temporary.path, 'compare');
    const args = ['compare', '--model', folder, '--threads', '1', '--limit', '1', '--max-new-tokens', '20'];
    const run = await runMain([...args, '--nodes', '8', '--ignore-eos', '--quiet', '--output', output]);
    expect(run.code, run.stderr).to.equal(0);
    for (const name of ['none', 'static', 'dynamic']) {
      const info = JSON.parse(await readFile(join(output, name, 'run.json'), 'utf8')) as RunInfo;
      expect(info.decoding.ignoreEos).to.equal(true);
    }
    const apart = await runMain([...args, '-a', '--tree static --ignore-eos']);
    expect(apart.stderr).to.contain('--ignore-eos must be the same for all variants');

    const other = join(temporary.path, 'other');
    const bench = ['bench', ...args.slice(1), '--tree', 'none', '--quiet', '--output', other];
    expect((await runMain(bench)).code).to.equal(0);
    const mixed = await runMain(['compare', join(output, 'none'), other]);
    expect(mixed.code).to.equal(2);
    expect(mixed.stderr).to.contain('decoding.ignoreEos is true in one and false in the other');
  });
});
