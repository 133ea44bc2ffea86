import { expect } from 'chai';
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { findPython, runModule } from '../../src/prepare/python.js';
import { temporaryFolder } from '../support/tinyModel.js';

const pythonModule = fileURLToPath(new URL('../../src/prepare/python.ts', import.meta.url));

/** Says its process id, then works in a temporary folder: for a long time, or whatever it is told. */
const worker = `
import os, signal, sys, tempfile, time
with tempfile.TemporaryDirectory():
    if sys.argv[1] == "stubborn":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open("pid.part", "w") as file:
        file.write(str(os.getpid()))
    os.rename("pid.part", "pid")
    time.sleep(600)
`;

describe('a Python module that this program runs', function () {
  this.timeout(60_000);

  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let environment: NodeJS.ProcessEnv;
  beforeEach(async () => {
    folder = await temporaryFolder();
    const temporary = join(folder.path, 'temporary');
    await mkdir(temporary);
    await writeFile(join(folder.path, 'worker.py'), worker.replaceAll('"pid', `"${folder.path}/pid`));
    environment = { PYTHONPATH: folder.path, TMPDIR: temporary };
  });
  afterEach(() => folder.remove());

  /** The process id of the worker, once it works. */
  const workerId = async (): Promise<number> => {
    for (;;) {
      const text = await readFile(join(folder.path, 'pid'), 'utf8').catch(() => '');
      if (text !== '') return Number(text);
      await sleep(20);
    }
  };

  const ended = async (pid: number): Promise<void> => {
    while (isAlive(pid)) await sleep(20);
  };

  const temporaryFiles = (): string[] => readdirSync(join(folder.path, 'temporary'));

  it('ends with this process, even when that is killed, and cleans up', async () => {
    const script = `
      import { runModule } from ${JSON.stringify(pythonModule)};
      const python = ${JSON.stringify(await findPython())};
      await runModule(python, 'worker', [''], { environment: ${JSON.stringify(environment)} });`;
    const args = ['--import', 'tsx', '--input-type=module', '--eval', script];
    const parent = spawn(process.execPath, args, { stdio: 'inherit' });
    const pid = await workerId();
    expect(temporaryFiles()).to.have.length(1);
    parent.kill('SIGKILL');
    await ended(pid);
    expect(temporaryFiles()).to.deep.equal([]);
  });

  it('cleans up when it is aborted', async () => {
    const controller = new AbortController();
    const run = runModule(await findPython(), 'worker', [''], { environment, signal: controller.signal });
    const pid = await workerId();
    controller.abort();
    const error = await run.catch((reason: Error) => reason);
    expect(error).to.have.property('name', 'AbortError');
    expect(isAlive(pid)).to.equal(false);
    expect(temporaryFiles()).to.deep.equal([]);
  });

  it('is ended when it does not want to', async () => {
    const controller = new AbortController();
    const options = { environment, signal: controller.signal };
    const run = runModule(await findPython(), 'worker', ['stubborn'], options);
    const pid = await workerId();
    controller.abort();
    await run.catch(() => {});
    expect(isAlive(pid)).to.equal(false);
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
