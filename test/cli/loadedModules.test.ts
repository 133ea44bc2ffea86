import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { packageRoot } from '../../src/util/packageRoot.js';
import { runCli } from '../support/cli.js';
import { onTiny, temporaryFolder } from '../support/tinyModel.js';

interface Coverage {
  url: string;
  functions: { functionName: string; ranges: { count: number }[] }[];
}

/** What a user does not ask for is not loaded either: a start stays short, and a fault in it harms nobody. */
describe('The modules that are loaded', function () {
  this.timeout(60_000);
  const source = pathToFileURL(join(packageRoot(), 'src/')).href;

  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  beforeEach(async () => {
    folder = await temporaryFolder();
  });
  afterEach(() => folder.remove());

  /** Of the processes that wrote it into the folder. */
  async function coverage(): Promise<Coverage[]> {
    const names = await readdir(folder.path);
    const texts = await Promise.all(names.map((name) => readFile(join(folder.path, name), 'utf8')));
    return texts.flatMap((text) => (JSON.parse(text) as { result: Coverage[] }).result);
  }

  /** Paths within src/ of the modules that the processes ran. */
  async function loadedModules(): Promise<string[]> {
    const urls = (await coverage()).map(({ url }) => url).filter((url) => url.startsWith(source));
    return [...new Set(urls.map((url) => url.slice(source.length).replace(/\?.*/, '')))].sort();
  }

  const isForeign = (path: string): boolean => /^(prepare|bench|runtime\/cuda)\//.test(path);

  it('are few for generate on a prepared model, and none of preparation, bench or CUDA', async () => {
    const run = await runCli(['generate', 'Hi', ...onTiny, '--max-new-tokens', '2'], {
      env: { NODE_V8_COVERAGE: folder.path },
    });
    expect(run.code, run.stderr).to.equal(0);
    const modules = await loadedModules();
    expect(modules).to.include.members(['decoding/decode.ts', 'runtime/cpu/splitModel.ts']);
    expect(modules.filter(isForeign)).to.deep.equal([]);
    expect(modules.length).to.be.below(118);
    // What yargs would do after each command: lay out its help, for nobody.
    const yargs = (await coverage()).filter(({ url }) => /\/yargs\/.*\/usage\.js$/.test(url));
    expect(yargs).to.have.length(1);
    const [layOut] = yargs[0].functions.filter(
      ({ functionName }) => functionName === 'self.cacheHelpMessage',
    );
    expect(layOut.ranges[0].count).to.equal(0);
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
