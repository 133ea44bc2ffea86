import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { packageRoot } from '../../src/util/packageRoot.js';
import { runCli } from '../support/cli.js';
import { temporaryFolder, tinyFolder } from '../support/tinyModel.js';

/** What a user does not ask for is not loaded either: a start stays short, and a fault in it harms nobody. */
describe('The modules that are loaded', function () {
  this.timeout(60_000);
  const source = pathToFileURL(join(packageRoot(), 'src/')).href;

  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  beforeEach(async () => {
    folder = await temporaryFolder();
  });
  afterEach(() => folder.remove());

  /** Paths within src/ of the modules that the processes ran which wrote their coverage into the folder. */
  async function loadedModules(): Promise<string[]> {
    const modules = new Set<string>();
    for (const name of await readdir(folder.path)) {
      const text = await readFile(join(folder.path, name), 'utf8');
      const { result } = JSON.parse(text) as { result: { url: string }[] };
      for (const { url } of result)
        if (url.startsWith(source)) modules.add(url.slice(source.length).replace(/\?.*/, ''));
    }
    return [...modules].sort();
  }

  const isForeign = (path: string): boolean => /^(prepare|bench|runtime\/cuda)\//.test(path);

  it('are few for generate on a prepared model, and none of preparation, bench or CUDA', async () => {
    const run = await runCli(
      ['generate', 'Hi', '--model', tinyFolder, '--threads', '1', '--max-new-tokens', '2'],
      { env: { NODE_V8_COVERAGE: folder.path } },
    );
    expect(run.code, run.stderr).to.equal(0);
    const modules = await loadedModules();
    expect(modules).to.include.members(['decoding/decode.ts', 'runtime/cpu/splitModel.ts']);
    expect(modules.filter(isForeign)).to.deep.equal([]);
    expect(modules.length).to.be.below(115);
  });

  it('are none of preparation, bench or a runtime when the library is imported', async () => {
    const library = JSON.stringify(`${source}index.ts`);
    const run = spawnSync(
      process.execPath,
      ['--import', import.meta.resolve('tsx'), '--input-type=module', '--eval', `await import(${library})`],
      { env: { ...process.env, NODE_V8_COVERAGE: folder.path }, encoding: 'utf8' },
    );
    expect(run.status, run.stderr).to.equal(0);
    const modules = await loadedModules();
    expect(modules).to.include.members(['index.ts', 'engine/engine.ts']);
    expect(modules.filter((path) => isForeign(path) || path.startsWith('runtime/'))).to.deep.equal([]);
  });
});
