import { expect } from 'chai';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { program } from '../support/cli.js';
import { copyTiny, temporaryFolder } from '../support/tinyModel.js';

const run = promisify(execFile);

function onPath(name: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, name)));
}

/** A program that generates in a Worker, where tsx has to be registered once more. */
const inWorker = (model: string): string => `
  import { isMainThread, Worker } from 'node:worker_threads';
  if (isMainThread) new Worker(new URL(import.meta.url));
  else {
    (await import(${JSON.stringify(import.meta.resolve('tsx/esm/api'))})).register();
    const { MedusaEngine } = await import(${JSON.stringify(new URL('../../src/index.ts', import.meta.url).href)});
    const engine = await MedusaEngine.open({ model: ${JSON.stringify(model)}, threads: 1 });
    console.log((await engine.complete('Hi', { maxNewTokens: 2 })).text);
    await engine.dispose();
  }
`;

describe('telemetry of ONNX Runtime', function () {
  this.timeout(60_000);

  let temporary: Awaited<ReturnType<typeof temporaryFolder>>;
  let model: string;
  beforeEach(async () => {
    temporary = await temporaryFolder();
    model = await copyTiny(temporary.path);
  });
  afterEach(() => temporary.remove());

  /** Runs Node.js with a fresh home, which must stay empty, and opens no socket as far as strace, if there, can tell. */
  async function expectSilence(...args: string[]): Promise<void> {
    const home = join(temporary.path, 'home');
    const trace = join(temporary.path, 'trace');
    await mkdir(home);
    const traced = onPath('strace') ? ['strace', '-f', '-e', 'trace=%network', '-o', trace] : [];
    const [file, ...rest] = [...traced, process.execPath, '--import', 'tsx', ...args];
    // Not the whole environment: ONNX Runtime keeps still by itself under many CI systems.
    const { stdout } = await run(file, rest, { env: { PATH: process.env.PATH, HOME: home } });
    expect(stdout).not.to.equal('');
    expect(await readdir(home)).to.deep.equal([]);
    if (traced.length === 0) return;
    const calls = (await readFile(trace, 'utf8'))
      .split('\n')
      .filter((line) => /AF_INET|AF_NETLINK/.test(line));
    expect(calls).to.deep.equal([]);
  }

  it('is off in the program', () =>
    expectSilence(program, 'generate', 'Hi', '--model', model, '--threads', '1', '--max-new-tokens', '2'));

  it('is off in a Worker, whose environment is a copy', async () => {
    const script = join(temporary.path, 'worker.mjs');
    await writeFile(script, inWorker(model));
    await expectSilence(pathToFileURL(script).pathname);
  });
});
