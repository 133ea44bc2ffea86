import { expect } from 'chai';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hubCacheFolder } from '../../src/models/hubRevision.js';
import { findInCache, isOffline } from '../../src/prepare/hubCache.js';
import { runCli, type CliRun } from '../support/cli.js';
import { temporaryFolder } from '../support/tinyModel.js';

const fakePython = fileURLToPath(new URL('../fixtures/fakePython.mjs', import.meta.url));
const model = { repository: 'Owner/A-Model' };

/** A snapshot in the hub's cache with these files, which main stands for. */
async function snapshot(cache: string, files: Record<string, string>, commit = 'c0ffee'): Promise<string> {
  const root = join(cache, 'models--Owner--A-Model');
  const folder = join(root, 'snapshots', commit);
  await mkdir(folder, { recursive: true });
  await mkdir(join(root, 'refs'), { recursive: true });
  await writeFile(join(root, 'refs', 'main'), commit);
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  return folder;
}

const whole = { 'config.json': '{}', 'tokenizer.json': '{}', 'model.safetensors': '' };

describe('The cache of the Hugging Face hub', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  beforeEach(async () => {
    folder = await temporaryFolder();
  });
  afterEach(() => folder.remove());

  const find = (...[hub, wanted]: [typeof model & object, 'model' | 'heads']): Promise<string | undefined> =>
    findInCache(hub, wanted, join(folder.path, 'models--Owner--A-Model'));

  it('lies where the variables of huggingface_hub say', () => {
    expect(hubCacheFolder({ HF_HUB_CACHE: '/a', HF_HOME: '/b' })).to.equal('/a');
    expect(hubCacheFolder({ HF_HOME: '/b', XDG_CACHE_HOME: '/c' })).to.equal('/b/hub');
    expect(hubCacheFolder({ XDG_CACHE_HOME: '/c' })).to.equal('/c/huggingface/hub');
    expect(hubCacheFolder({ HF_HOME: '~/x' })).to.match(/^\/.*\/x\/hub$/);
    const values = ['', '0', '1', 'TRUE'].map((HF_HUB_OFFLINE) => isOffline({ HF_HUB_OFFLINE }));
    expect(values).to.deep.equal([false, false, true, true]);
  });

  it('has a model when nothing of it is missing, and heads without one', async () => {
    expect(await find(model, 'model')).to.equal(undefined);
    const commit = await snapshot(folder.path, { 'config.json': '{}', 'tokenizer.json': '{}' });
    expect(await find(model, 'model')).to.equal(undefined);
    const index = { weight_map: { a: '1.safetensors', 'medusa_head.0.0.weight': '2.safetensors' } };
    await writeFile(join(commit, 'model.safetensors.index.json'), JSON.stringify(index));
    await writeFile(join(commit, '2.safetensors'), '');
    expect(await find(model, 'model')).to.equal(undefined);
    expect(await find(model, 'heads')).to.equal(commit);
    await writeFile(join(commit, '1.safetensors'), '');
    expect(await find(model, 'model')).to.equal(commit);
  });

  it('has revisions by branch and by commit, and all parts of a file', async () => {
    const old = await snapshot(folder.path, whole, 'aaaa');
    const main = await snapshot(folder.path, whole, 'bbbb');
    const at = (revision?: string, file?: string): object => ({ ...model, revision, file });
    expect(await find(at() as typeof model, 'model')).to.equal(main);
    expect(await find(at('main') as typeof model, 'model')).to.equal(main);
    expect(await find(at('aaaa') as typeof model, 'model')).to.equal(old);
    expect(await find(at('none') as typeof model, 'model')).to.equal(undefined);
    const split = at(undefined, 'a-00001-of-00002.gguf') as typeof model;
    await writeFile(join(main, 'a-00001-of-00002.gguf'), '');
    expect(await find(split, 'model')).to.equal(undefined);
    await writeFile(join(main, 'a-00002-of-00002.gguf'), '');
    expect(await find(split, 'model')).to.equal(join(main, 'a-00001-of-00002.gguf'));
  });
});

describe('medusa-plus prepare with names on the hub', function () {
  this.timeout(60_000);
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let models: string;
  let cache: string;
  beforeEach(async () => {
    folder = await temporaryFolder();
    models = join(folder.path, 'models');
    cache = join(folder.path, 'cache');
  });
  afterEach(() => folder.remove());

  const run = (command: string[], variables: NodeJS.ProcessEnv = {}, cwd = folder.path): Promise<CliRun> =>
    runCli([...command, '--models-dir', models], {
      cwd,
      env: { MEDUSA_PLUS_PYTHON: fakePython, HF_HUB_CACHE: cache, HF_HUB_OFFLINE: '', ...variables },
    });

  const sourceOf = async (
    name: string,
  ): Promise<{ name: string; revision?: string; arguments: string[] }> => {
    const manifest = JSON.parse(await readFile(join(models, name, 'manifest.json'), 'utf8')) as {
      source: { name: string; revision?: string; arguments: string[] };
    };
    return manifest.source;
  };

  it('fetches model and heads, and names the model after the repository', async () => {
    const made = await run(['prepare', '--from', 'Owner/A-Model', '--heads', 'Owner/Heads']);
    expect(made.code, made.stderr).to.equal(0);
    expect(made.stderr).to.contain('Fetching Owner/A-Model').and.to.contain('Fetching Owner/Heads');
    const source = await sourceOf('a-model');
    expect([source.name, source.revision]).to.deep.equal(['Owner/A-Model', 'c0ffee']);
    const heads = source.arguments[source.arguments.indexOf('--heads') + 1];
    expect(heads).to.equal(join(cache, 'models--Owner--Heads', 'snapshots', 'c0ffee'));

    const again = await run(['prepare', '--from', 'Owner/A-Model@c0ffee'], { FAKE_PYTHON: 'fetch-fails' });
    expect(again.stdout, again.stderr).to.contain('a-model is ready');
    for (const [from, words] of [
      ['Another/A-Model', /was made from Owner\/A-Model\./],
      ['Owner/A-Model@bad', /was made from Owner\/A-Model at c0ffee; asked for is bad/],
    ] as const) {
      const other = await run(['prepare', '--from', from]);
      expect(other.code).to.equal(2);
      expect(other.stderr).to.match(words);
    }
    const file = await run(['prepare', '--from', 'Owner/Files:q/Small.Q4_0.gguf'], {
      FAKE_PYTHON: 'fetch-fails',
    });
    expect(file.code).to.equal(1);
    expect(file.stderr).to.contain('Cannot fetch Owner/Files: Owner/Files is gated: accept its licence.');
    expect(existsSync(join(models, 'small.q4_0'))).to.equal(false);
  });

  it('takes what the cache has, by name, by its folder and by a snapshot, without asking anyone', async () => {
    const commit = await snapshot(cache, whole);
    const offline = { HF_HUB_OFFLINE: '1', FAKE_PYTHON: 'fetch-fails' };
    const root = join(cache, 'models--Owner--A-Model');
    for (const from of ['Owner/A-Model', 'Owner/A-Model@main', root, commit]) {
      const made = await run(['prepare', '--from', from, '--force'], offline);
      expect(made.code, from + made.stderr).to.equal(0);
      expect((await sourceOf('a-model')).name).to.equal('Owner/A-Model');
    }
    const missing = await run(['prepare', '--from', 'Owner/B'], offline);
    expect(missing.code).to.equal(1);
    expect(missing.stderr).to.contain(`Owner/B is not whole in ${cache}, and HF_HUB_OFFLINE forbids`);
    await mkdir(join(cache, 'models--Owner--B', 'snapshots', 'x'), { recursive: true });
    const broken = await run(['prepare', '--from', join(cache, 'models--Owner--B')]);
    expect(broken.code).to.equal(1);
    expect(broken.stderr).to.match(/holds no whole snapshot of Owner\/B.*give Owner\/B instead/);
  });

  it('is found by the revision that was named, and by what main stands for', async () => {
    const commit = await snapshot(cache, whole);
    const offline = { HF_HUB_OFFLINE: '1', FAKE_PYTHON: 'fetch-fails' };
    const emptied = { ...offline, HF_HUB_CACHE: join(folder.path, 'emptied') };
    const words = ['generate', 'Hi', '--threads', '1', '--nodes', '4', '--max-new-tokens', '2', '--model'];
    for (const [from, variables] of [
      ['Owner/A-Model@main', emptied],
      ['Owner/A-Model', emptied],
      [commit, offline],
    ] as const) {
      const made = await run(['prepare', '--from', from, '--force'], offline);
      expect(made.code, made.stderr).to.equal(0);
      const used = await run([...words, 'Owner/A-Model@main'], variables);
      expect(used.code, from + used.stderr).to.equal(0);
    }
    const other = await run([...words, 'Owner/A-Model@v2'], offline);
    expect(other.code).to.equal(2);
    const again = await run(['prepare', '--from', 'owner/a-model@main'], emptied);
    expect(again.code).to.equal(2);
    const small = await run(['prepare', '--from', 'owner/a-model'], emptied);
    expect(small.stdout, small.stderr).to.contain('a-model is ready');
  });

  it('takes any part of a split model for all of them', async () => {
    const parts = [1, 2].map((i) => join(folder.path, `m-0000${i}-of-00002.gguf`));
    for (const part of parts) await writeFile(part, 'GGUF');
    for (const [from, words] of [
      [parts[1], 'Prepared m in'],
      [parts[0], 'm is ready'],
      [parts[1], 'm is ready'],
    ]) {
      const made = await run(['prepare', '--from', from]);
      expect(made.stdout, made.stderr).to.contain(words);
    }
    expect((await sourceOf('m')).name).to.equal('m-00001-of-00002.gguf');
  });

  it('says that there is no such file here', async () => {
    await mkdir(join(folder.path, 'h'));
    const failing = { FAKE_PYTHON: 'fetch-fails' };
    const made = await run(['prepare', '--from', 'h/none-there'], failing);
    expect(made.code).to.equal(1);
    const lines = made.stderr.split('\n');
    const told = lines.findIndex((line) => line.includes('no file or folder h/none-there here: it is taken'));
    expect(told).to.be.within(0, lines.findIndex((line) => /that fetch from|Asking/.test(line)) - 1);
    expect(made.stderr).to.match(/accept its licence\. \(There is no file or folder h\/none-there here\.\)/);
    const offline = await run(['prepare', '--from', 'g/none'], { ...failing, HF_HUB_OFFLINE: '1' });
    expect(offline.stderr).to.contain('(There is no file or folder g/none here.)');
    expect(offline.stderr).to.not.contain('it is taken');
  });

  it('does so for generate --prepare, and a folder of that name goes first', async () => {
    const words = ['generate', 'Hi', '--max-new-tokens', '3', '--model', 'Owner/A-Model'];
    const refused = await run(words);
    expect(refused.code).to.equal(2);
    expect(refused.stderr).to.contain('medusa-plus prepare --from Owner/A-Model --models-dir');
    for (const more of [['--prepare'], ['--prepare'], []]) {
      const used = await run([...words, ...more]);
      expect(used.code, used.stderr).to.equal(0);
      expect(used.stdout).to.not.equal('');
    }
    await mkdir(join(folder.path, 'Owner', 'A-Model'), { recursive: true });
    const local = await run(words);
    expect(local.code).to.equal(2);
    expect(local.stderr).to.contain(`${join(folder.path, 'Owner', 'A-Model')} has no manifest.json`);
    expect(local.stderr).to.contain('The folder here was taken, not the Hugging Face hub');
    const byName = await run([...words.slice(0, -1), 'a-model']);
    expect(byName.code, byName.stderr).to.equal(0);
    const hides = 'Owner/A-Model is taken from the folder here, not from the Hugging Face hub.';
    for (const [from, is] of [
      ['Owner/A-Model', true],
      ['./Owner/A-Model', false],
    ] as const) {
      const made = await run(['prepare', '--from', from, '--id', 'mine']);
      expect(made.stderr.includes(hides), made.stderr).to.equal(is);
    }
  });
});
