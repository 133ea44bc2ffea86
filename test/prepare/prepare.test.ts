import { expect } from 'chai';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { int8Products } from '../../src/runtime/index.js';
import { explainDiskError } from '../../src/prepare/diskErrors.js';
import { defaultModelName } from '../../src/models/defaultModel.js';
import { readManifest } from '../../src/models/manifest.js';
import { ownIdentity } from '../../src/util/processIdentity.js';
import { runCli, runMain, type CliOptions, type CliRun } from '../support/cli.js';
import { temporaryFolder } from '../support/tinyModel.js';

const fakePython = fileURLToPath(new URL('../fixtures/fakePython.mjs', import.meta.url));

/** `prepare` with an exporter that is played (test/fixtures/fakePython.mjs); the rest is real. */
describe('medusa-plus prepare', function () {
  this.timeout(60_000);

  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let models: string;
  let source: string;
  beforeEach(async () => {
    folder = await temporaryFolder();
    models = join(folder.path, 'models');
    source = join(folder.path, 'Some-Model.gguf');
    await writeFile(source, 'GGUF');
  });
  afterEach(() => folder.remove());

  const prepare = (
    mode: string,
    args: string[] = [],
    { tmpdir, ...options }: CliOptions & { tmpdir?: string } = {},
  ): Promise<CliRun> =>
    runCli(
      [
        'prepare',
        '--from',
        source,
        '--models-dir',
        models,
        ...(args.includes('--id') ? [] : ['--id', 'tiny']),
        ...args,
      ],
      {
        ...options,
        env: { MEDUSA_PLUS_PYTHON: fakePython, FAKE_PYTHON: mode, ...(tmpdir && { TMPDIR: tmpdir }) },
      },
    );

  /** Everything in the models folder but the exporter's packages. */
  const left = (): string[] =>
    existsSync(models) ? readdirSync(models).filter((name) => name !== '.python') : [];

  const expectFailure = (run: CliRun, code: number, ...words: string[]): void => {
    expect(run.code, run.stderr).to.equal(code);
    for (const word of words) expect(run.stderr).to.contain(word);
    expect(run.stderr).to.not.match(/^\s+at /m);
    expect(left()).to.deep.equal([]);
  };

  it('makes a model that generates, measures the machine, and leaves it alone the second time', async () => {
    const first = await prepare('');
    expect(first.code, first.stderr).to.equal(0);
    expect(first.stdout).to.contain('Prepared tiny');
    expect(left()).to.deep.equal(['tiny']);
    expect(existsSync(join(models, 'tiny', 'tuning.json'))).to.equal(true);
    const second = await prepare('export-fails');
    expect(second.stdout).to.contain('tiny is ready');
    const run = await runCli([
      'generate',
      'Hi',
      '--model',
      'tiny',
      '--models-dir',
      models,
      '--max-new-tokens',
      '3',
    ]);
    expect(run.code, run.stderr).to.equal(0);
    const other = await runCli(['generate', 'Hi', '--model', 'other', '--models-dir', models]);
    expect(other.code).to.equal(2);
    expect(other.stderr).to.contain('No model other').and.to.contain('there are: tiny');
  });

  it('does not take a model for another of the same name', async () => {
    await prepare('');
    const another = join(folder.path, 'Another.gguf');
    await writeFile(another, 'GGUF');
    const run = await runCli(['prepare', '--from', another, '--id', 'tiny', '--models-dir', models]);
    expect(run.code).to.equal(2);
    expect(run.stderr).to.contain('--id').and.to.contain('--force');
  });

  const expectRefused = (run: CliRun, lost: string): void => {
    expect(run.code, run.stderr).to.equal(2);
    for (const words of [lost, 'would be lost', '--id']) expect(run.stderr).to.contain(words);
  };

  it('replaces nothing but prepared models', async () => {
    const [stranger, file] = [join(models, 'tiny'), join(models, 'file')];
    await mkdir(stranger, { recursive: true });
    await writeFile(join(stranger, 'thesis.txt'), 'years of work');
    await writeFile(file, 'a note');
    for (const added of [[], ['--force']]) {
      expectRefused(await prepare('', added), stranger);
      expectRefused(await prepare('', ['--id', 'file', ...added]), file);
    }
    expect(await readFile(join(stranger, 'thesis.txt'), 'utf8')).to.equal('years of work');
    expect(await readFile(file, 'utf8')).to.equal('a note');
    await rm(join(stranger, 'thesis.txt'));
    expect((await prepare('')).code).to.equal(0);
    await writeFile(join(stranger, 'thesis.txt'), 'more of it');
    const again = await prepare('', ['--force']);
    expect(again.code, again.stderr).to.equal(2);
    expect(again.stderr).to.contain('holds thesis.txt, which');
    expect(await readFile(join(stranger, 'thesis.txt'), 'utf8')).to.equal('more of it');
  });

  it('does not replace a model by one that is made from files in it', async () => {
    await prepare('');
    const own = join(models, 'tiny', 'own.gguf');
    await writeFile(own, 'GGUF');
    const given = ['prepare', '--from', own, '--models-dir', models, '--id', 'tiny', '--force'];
    expectRefused(await runCli(given, { env: { MEDUSA_PLUS_PYTHON: fakePython, FAKE_PYTHON: '' } }), own);
    expectRefused(await prepare('', ['--force', '--heads', own]), own);
    expect(await readFile(own, 'utf8')).to.equal('GGUF');
  });

  it('tells the exporter which model is there when a precision is added, and whether its heads stay', async () => {
    const again = /tiny is there already; its graphs \(int8, fp32\) are exported again too\./;
    const argumentsOf = async (added: string[]): Promise<string[]> => {
      const run = await prepare('', added);
      expect(run.code, run.stderr).to.equal(0);
      expect(again.test(run.stderr), run.stderr).to.equal(added.length > 0);
      const manifest = await readFile(join(models, 'tiny', 'manifest.json'), 'utf8');
      return (JSON.parse(manifest) as { source: { arguments: string[] } }).source.arguments;
    };
    expect(await argumentsOf([])).not.to.include('--replaces');
    const added = await argumentsOf(['--precision', 'int4']);
    const at = added.indexOf('--replaces');
    expect(added.slice(at, at + 3)).to.deep.equal(['--replaces', join(models, 'tiny'), '--keep-heads']);
    expect(await argumentsOf(['--precision', 'fp32', '--heads', 'none'])).not.to.include('--keep-heads');
  });

  it('tries a chat template before anything is made', async () => {
    const file = join(folder.path, 'a.jinja');
    for (const [text, words] of [
      ['{% for m in messages %}{{ m.content }}', 'cannot be parsed: '],
      [
        "{{ raise_exception('Only tools may speak') }}",
        'refuses a message of the user: Only tools may speak',
      ],
      ['a\0b', 'is no text file'],
      [Buffer.from([0xff, 0xfe]), 'is no text file'],
    ] as const) {
      await writeFile(file, text);
      expectFailure(await prepare('', ['--chat-template', file]), 2, `--chat-template ${file} ${words}`);
      expect(existsSync(models)).to.equal(false);
    }
  });

  it('takes --heads none alone', async () => {
    expectFailure(await prepare('', ['--heads', 'none', '--heads', source]), 2, `go with --heads ${source}`);
  });

  it('leaves nothing half-made when it is killed, and goes on the next time', async () => {
    let seen = '';
    const killed = await prepare('slow', [], {
      onStderr: (piece, child) => {
        seen += piece;
        if (seen.includes('Exporting')) child.kill('SIGKILL');
      },
    });
    expect(killed.code).to.equal(null);
    expect(existsSync(join(models, 'tiny'))).to.equal(false);
    expect(left()).to.include('.tiny.lock');
    const again = await prepare('');
    expect(again.code, again.stderr).to.equal(0);
    expect(left()).to.deep.equal(['tiny']);
  });

  it('ends cleanly on Ctrl-C', async () => {
    let seen = '';
    const run = await prepare('slow', [], {
      onStderr: (piece, child) => {
        const wasSeen = seen.includes('Exporting');
        seen += piece;
        if (!wasSeen && seen.includes('Exporting')) child.kill('SIGINT');
      },
    });
    expectFailure(run, 130, 'Interrupted');
  });

  it('keeps two preparations of one model apart', async () => {
    const first = prepare('');
    await sleep(50);
    const runs = await Promise.all([first, prepare('')]);
    expect(runs.map((run) => run.code)).to.deep.equal([0, 0]);
    expect(runs.filter((run) => run.stdout.includes('Prepared tiny'))).to.have.length(1);
    expect(left()).to.deep.equal(['tiny']);
  });

  it('takes over the lock of a dead process', async () => {
    await mkdir(models);
    const dead = spawnSync(process.execPath, ['-e', '0']).pid;
    await writeFile(join(models, '.tiny.lock'), JSON.stringify({ ...ownIdentity(), pid: dead }));
    expect((await prepare('')).code).to.equal(0);
    expect(left()).to.deep.equal(['tiny']);
  });

  it('keeps the old model when a forced preparation fails', async () => {
    await prepare('');
    const run = await prepare('export-fails', ['--force']);
    expect(run.code).to.equal(1);
    expect(left()).to.deep.equal(['tiny']);
    expect(existsSync(join(models, 'tiny', 'manifest.json'))).to.equal(true);
  });

  it('leaves no empty folder of models where Python is missing', async () => {
    const parent = join(folder.path, 'new');
    models = join(parent, 'models');
    expectFailure(await prepare('old'), 1, 'Python 3.8');
    expect(existsSync(parent)).to.equal(false);
    await mkdir(models, { recursive: true });
    expectFailure(await prepare('old'), 1, 'Python 3.8');
    expect(existsSync(models)).to.equal(true);
  });

  it('says what is wrong with Python', async () => {
    expectFailure(await prepare('old'), 1, 'Python 3.10', 'Python 3.8', 'MEDUSA_PLUS_PYTHON');
    expectFailure(await prepare('no-pip'), 1, 'no pip');
    const missing = await runCli(['prepare', '--from', source, '--models-dir', models], {
      env: { MEDUSA_PLUS_PYTHON: '/nowhere/python3' },
    });
    expectFailure(missing, 1, '/nowhere/python3', 'was not found');
  });

  it('passes on why pip or the exporter failed', async () => {
    expectFailure(await prepare('pip-fails'), 1, 'No matching distribution found for onnx');
    expectFailure(await prepare('export-fails'), 1, 'architecture mamba is not supported');
    expectFailure(await prepare('disk-full'), 1, 'The disk is full');
  });

  it('says in two lines that the disk is full while pip runs, and keeps the rest in a file', async () => {
    const run = await prepare('pip-full', [], { tmpdir: folder.path });
    expectFailure(run, 1, `the disk of ${join(models, '.python')}`, 'is full', '--models-dir');
    const lines = run.stderr.trimEnd().split('\n').slice(-2);
    expect(lines[0]).to.match(/^medusa-plus: pip install failed/);
    expect(Math.max(...lines.map((line) => line.length))).to.be.lessThan(400);
    const log = await readFile(/^All that it said: (.*)$/.exec(lines[1])![1], 'utf8');
    expect(log).to.contain('/models/3999');
  });

  describe('the Python packages', () => {
    const another = (id: string, mode: string, ...args: string[]): Promise<CliRun> =>
      runCli(['prepare', '--from', source, '--id', id, '--models-dir', models, '--quiet', ...args], {
        env: { MEDUSA_PLUS_PYTHON: fakePython, FAKE_PYTHON: mode },
      });

    const installed = async (): Promise<string> => {
      const folders = readdirSync(join(models, '.python'));
      expect(folders).to.have.length(1);
      return readFile(join(models, '.python', folders[0], 'package.py'), 'utf8');
    };

    const packageFile = (): string =>
      join(models, '.python', readdirSync(join(models, '.python'))[0], 'package.py');

    it('are installed once', async () => {
      await another('a', '');
      const first = await installed();
      await another('b', '');
      expect(await installed()).to.equal(first);
    });

    it('are installed again when they were damaged', async () => {
      await another('a', '');
      const first = await installed();
      const damages = [
        () => writeFile(packageFile(), first.replace('installed', 'inst\0lled')),
        () => writeFile(packageFile(), ''),
        () => rm(packageFile()),
      ];
      for (const [i, damage] of damages.entries()) {
        await damage();
        const run = await prepare('', ['--id', `b${i}`]);
        expect(run.code, run.stderr).to.equal(0);
        expect(run.stderr)
          .to.match(/package.py (was changed|is missing)/)
          .and.to.contain('Installing');
        expect(await installed())
          .to.match(/^installed = /)
          .and.not.equal(first);
      }
    });

    it('are installed again by --force, which keeps the old ones when that fails', async () => {
      await another('a', '');
      const first = await installed();
      expect((await another('a', 'pip-fails', '--force')).code).to.equal(1);
      expect(await installed()).to.equal(first);
      expect((await another('a', '', '--force')).code).to.equal(0);
      expect(await installed()).to.not.equal(first);
    });

    it('are installed by one of two preparations at once, and neither disturbs the other', async () => {
      const runs = await Promise.all([another('a', 'pip-slow'), another('b', 'pip-slow')]);
      expect(runs.map(({ code, stderr }) => `${code} ${stderr}`)).to.deep.equal(['0 ', '0 ']);
      await installed();
      expect(left().sort()).to.deep.equal(['a', 'b']);
    });
  });

  it('says how much memory a conversion takes that the system ended', async () => {
    const run = await prepare('killed');
    expectFailure(run, 1, 'memory ran out', 'Converting Some-Model.gguf takes about 2.9 GB', 'are free now');
    expect(run.stderr).to.not.contain('no message');
  });

  it('does not put a model in place that lacks a file', async () => {
    expectFailure(await prepare('half'), 1, 'backbone.int8.onnx.data', 'missing');
  });

  it('refuses wrong sources and names', async () => {
    const run = (...args: string[]): Promise<CliRun> => runMain(['prepare', '--models-dir', models, ...args]);
    expectFailure(await run('--from', '/nowhere/model.gguf'), 2, '/nowhere/model.gguf', 'no such file');
    await writeFile(join(folder.path, 'model.bin'), 'x');
    expectFailure(await run('--from', join(folder.path, 'model.bin')), 2, '.gguf');
    expectFailure(await run('--id', '../evil', '--from', source), 2, '--id');
    expectFailure(await run('--id', 'a'.repeat(300), '--from', source), 2, 'at most 200', '300 characters');
    for (const from of ['owner/name:FILE.bin', 'owner/name@'])
      expectFailure(await run('--from', from), 2, `--from ${from}: there is no such file`);
    const spaced = join(folder.path, 'A b.gguf');
    await writeFile(spaced, 'GGUF');
    expectFailure(await run('--from', spaced), 2, '--from would name the model "a b"', 'with --id');
    expectFailure(await run('--id', 'mine'), 2, '--from');
    expectFailure(
      await prepare('', ['--heads', '/nowhere/heads.safetensors']),
      2,
      '/nowhere/heads.safetensors',
    );
  });

  describe('--adapter', () => {
    const asNamed = (...args: string[]): Promise<CliRun> =>
      runCli(['prepare', '--from', source, '--models-dir', models, ...args], {
        env: { MEDUSA_PLUS_PYTHON: fakePython, FAKE_PYTHON: '' },
      });

    /** What the exporter was called with. */
    const argumentsOf = async (name: string): Promise<string[]> => {
      const text = await readFile(join(models, name, 'manifest.json'), 'utf8');
      return (JSON.parse(text) as { source: { arguments: string[] } }).source.arguments;
    };

    let adapter: string;
    let heads: string;
    beforeEach(async () => {
      adapter = join(folder.path, 'medusa2.adapter.safetensors');
      heads = join(folder.path, 'medusa2.safetensors');
      await writeFile(adapter, 'adapter');
      await writeFile(heads, 'heads');
    });

    it('makes a model of its own, with the heads that lie beside the adapter', async () => {
      const run = await asNamed('--adapter', adapter);
      expect(run.code, run.stderr).to.equal(0);
      expect(left()).to.deep.equal(['some-model-medusa2']);
      const passed = await argumentsOf('some-model-medusa2');
      expect(passed[passed.indexOf('--adapter') + 1]).to.equal(adapter);
      expect(passed[passed.indexOf('--heads') + 1]).to.equal(heads);
      expect((await readManifest(join(models, 'some-model-medusa2'))).source.adapter?.name).to.equal(
        'medusa2',
      );
    });

    it('takes other heads, or none, when asked', async () => {
      const other = join(folder.path, 'other.safetensors');
      await writeFile(other, 'heads');
      expect((await asNamed('--adapter', adapter, '--id', 'a', '--heads', other)).code).to.equal(0);
      expect(await argumentsOf('a'))
        .to.include(other)
        .and.not.include(heads);
      const some = ['--heads', 'none', '--precision', 'fp32, int8'];
      expect((await asNamed('--adapter', adapter, '--id', 'b', ...some)).code).to.equal(0);
      const passed = await argumentsOf('b');
      expect(passed.slice(passed.indexOf('--heads')).slice(0, 2)).to.deep.equal(['--heads', 'none']);
      expect(passed.filter((_, i) => passed[i - 1] === '--precision')).to.have.members(['fp32', 'int8']);
      // By what this processor's kernels do.
      expect(passed.includes('--unsigned-weights')).to.equal((await int8Products()) === 'unsigned');
    });

    it('never mixes adapters in one model', async () => {
      expect((await asNamed('--adapter', adapter)).code).to.equal(0);
      const again = await asNamed('--adapter', adapter);
      expect(again.stdout).to.contain('some-model-medusa2 is ready');
      // Without its adapter a new precision would be of another model.
      const without = await asNamed('--id', 'some-model-medusa2', '--precision', 'fp32');
      expect(without.code).to.equal(2);
      expect(without.stderr).to.contain('made with the adapter medusa2').and.to.contain('without an adapter');
      await writeFile(adapter, 'trained again');
      const newer = await asNamed('--adapter', adapter);
      expect(newer.code).to.equal(2);
      expect(newer.stderr).to.contain('--force');
      expect((await asNamed('--adapter', adapter, '--force')).stdout).to.contain(
        'Prepared some-model-medusa2',
      );
    });

    it('refuses what is no adapter', async () => {
      expectFailure(await asNamed('--adapter', heads), 2, heads, '<name>.adapter.safetensors', '--heads');
      const missing = join(folder.path, 'none.adapter.safetensors');
      expectFailure(await asNamed('--adapter', missing), 2, missing, 'no such file');
      const own = ['--adapter', adapter, '--id', defaultModelName];
      expectFailure(await asNamed(...own), 2, `${defaultModelName}-medusa2`);
    });
  });

  it('says when the models folder cannot be one', async () => {
    models = join(source, 'models');
    const run = await prepare('');
    expect(run.code).to.equal(1);
    expect(run.stderr).to.contain('--models-dir').and.to.contain(source);
  });

  it('says when the disk is full or read-only', async () => {
    await mkdir(models);
    // A file system of a few kilobytes needs root; without, the messages alone are tested.
    if (mount('size=64k', models)) {
      try {
        const full = await prepare('');
        expect(full.code).to.equal(1);
        expect(full.stderr).to.contain('full');
        expect(left()).to.deep.equal([]);
      } finally {
        execFileSync('umount', [models]);
      }
      expect(mount('ro', models)).to.equal(true);
      try {
        const readOnly = await prepare('');
        expect(readOnly.code).to.equal(1);
        expect(readOnly.stderr)
          .to.contain('--models-dir')
          .and.to.match(/read-only/i);
      } finally {
        execFileSync('umount', [models]);
      }
    }
    const message = (code: string): string =>
      (explainDiskError(Object.assign(new Error(`${code}: no`), { code }), '/models') as Error).message;
    expect(message('ENOSPC')).to.contain('/models is full');
    expect(message('EROFS')).to.contain('Cannot write to /models');
    expect(explainDiskError(new Error('other'), '/models')).to.have.property('message', 'other');
  });

  function mount(options: string, folder: string): boolean {
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', folder], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  }
});
