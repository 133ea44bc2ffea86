import { expect } from 'chai';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ARCHIVE } from '../../bench/cuda/bundle.js';
import { splitFile } from '../../bench/cuda/parts.js';

const script = join(import.meta.dirname, '../../bench/cuda/run.sh');

/** Stands for Node.js in the bundle: notes what it was asked to run; the bench "steps" hangs, "cost" fails. */
const fakeNode = `#!/bin/bash
name=$(basename "$1" .js)
echo "$name $MEDUSA_ORT_LIBRARY" >>"$(dirname "$0")/calls"
case $name in
  steps) echo started; exec sleep 60 ;;
  cost) echo "error: There is no CUDA device 0: none was found." >&2; exit 1 ;;
  correctness) while [ $# -gt 0 ]; do [ "$1" = --out ] && echo '{}' >"$2/correctness.json"; shift; done ;;
  medusa-plus) echo "ok    CUDA  x"; echo "-     GPU   none found" ;;
esac
`;

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

describe('runtime: run.sh', function () {
  this.timeout(60_000);
  let folder: string;
  let parts: string;
  let work: string;
  let out: string;

  before(async function () {
    if (process.platform === 'win32') this.skip();
    folder = await mkdtemp(join(tmpdir(), 'medusa-run-test-'));
    const content = join(folder, 'content');
    await mkdir(join(content, 'node'), { recursive: true });
    await writeFile(join(content, 'node/node'), fakeNode);
    await chmod(join(content, 'node/node'), 0o755);
    execFileSync('tar', ['-c', '-f', join(folder, ARCHIVE), '-I', 'xz -0', '-C', content, '.']);
    parts = join(folder, 'parts');
    await splitFile(join(folder, ARCHIVE), parts, ARCHIVE, 1000);
  });
  after(() => rm(folder, { recursive: true, force: true }));
  beforeEach(async () => {
    work = await mkdtemp(join(folder, 'work-'));
    out = join(work, 'out');
  });

  /** Runs stages with nothing of this machine but the shell's own tools, and those of the folders given. */
  const run = (...args: (string | { path: string })[]): Promise<Outcome> =>
    new Promise((resolve) => {
      const words = args.filter((arg) => typeof arg === 'string');
      const folders = args.flatMap((arg) => (typeof arg === 'string' ? [] : [arg.path]));
      const all = [script, '--parts', parts, '--work', join(work, 'w'), '--out', out, ...words];
      const env = { PATH: [...folders, '/usr/bin', '/bin'].join(':'), HOME: work };
      execFile('bash', all, { env }, (error, stdout, stderr) =>
        resolve({ code: error ? Number(error.code ?? -1) : 0, stdout, stderr }),
      );
    });
  const statuses = (): string[] =>
    readFileSync(join(out, 'status.txt'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.replace(/ \d+ s$/, ''));
  /** As if `prepare` had run. */
  const pretendPrepared = async (): Promise<void> => {
    const model = join(work, 'w/models/smollm2-135m-instruct');
    await mkdir(model, { recursive: true });
    await writeFile(join(model, 'manifest.json'), '{}');
  };

  it('runs the stages asked for, in the order given', async () => {
    await pretendPrepared();
    const { code } = await run('unpack', 'correctness');
    expect(code).to.equal(0);
    expect(statuses()).to.deep.equal(['unpack ok', 'correctness ok']);
    expect(readFileSync(join(work, 'w/node/calls'), 'utf8')).to.equal(`correctness ${work}/w/ort\n`);
  });

  it('prepares the heads, not what lies beside them', async () => {
    await run('unpack');
    const inputs = join(work, 'w/inputs');
    await mkdir(inputs);
    for (const name of ['one.conditional', 'one', 'one.adapter'])
      await writeFile(join(inputs, `${name}.safetensors`), '');
    const programs = join(work, 'programs');
    await mkdir(programs);
    const python = `#!/bin/bash\n[ "$1" = - ] || echo "$@" >>${join(work, 'python')}\n`;
    await writeFile(join(programs, 'python3'), python, { mode: 0o755 });
    const { code, stderr } = await run({ path: programs }, 'prepare');
    expect(code, stderr).to.equal(0);
    expect(readFileSync(join(work, 'python'), 'utf8')).to.match(
      /^-m medusa_export\.prepare .*--heads \S+\/inputs\/one\.safetensors\n$/,
    );
  });

  it('goes on behind a stage that fails, and says so at the end', async () => {
    await pretendPrepared();
    const { code, stderr } = await run('unpack', 'cost-default', 'correctness');
    expect(code).to.equal(1);
    expect(stderr).to.equal('error: There is no CUDA device 0: none was found.\n');
    expect(statuses()).to.deep.equal(['unpack ok', 'cost-default FAILED', 'correctness ok']);
  });

  it('ends a stage at its limit, with all it started', async () => {
    await pretendPrepared();
    const begin = Date.now();
    const { code } = await run('--limit', 'graphs=1', 'unpack', 'graphs', 'correctness');
    expect(Date.now() - begin).to.be.below(20_000);
    expect(code).to.equal(1);
    expect(statuses()).to.deep.equal(['unpack ok', 'graphs TIMED OUT', 'correctness ok']);
  });

  it('skips what a bounded call has no time for', async () => {
    await pretendPrepared();
    const { code } = await run('--seconds', '6', 'unpack', 'graphs', 'correctness');
    expect(code).to.equal(1);
    expect(statuses()).to.deep.equal(['unpack ok', 'graphs TIMED OUT', 'correctness skipped: no time left']);
  });

  it('names what a stage lacks in one line', async () => {
    const { code, stderr } = await run('correctness');
    expect(code).to.equal(1);
    expect(stderr).to.match(/^error: \S+\.unpacked is missing: run the stage unpack first\n$/);
    const again = await run('unpack', 'correctness', 'cost-7b');
    expect(again.stderr.trim().split('\n')).to.have.length(2);
    expect(again.stderr).to.include('run the stage prepare first').and.include('run the stage make-7b first');
  });

  it('reports a missing device as a failed stage, with what doctor found', async () => {
    const { code, stderr, stdout } = await run('unpack', 'doctor');
    expect(code).to.equal(1);
    expect(stdout).to.include('GPU   none found');
    expect(stderr).to.match(/^error: no working CUDA device or library here.*\n$/);
  });

  it('packs results after each stage into few files', async () => {
    await pretendPrepared();
    await run('unpack', 'correctness', 'cost-default');
    expect((await readdir(out)).sort()).to.deep.equal(['results.tar.gz', 'status.txt']);
    const listed = execFileSync('tar', ['-tzf', join(out, 'results.tar.gz')], { encoding: 'utf8' });
    expect(listed).to.include('./correctness.json').and.include('./status.txt');
  });

  it('keeps the finished stages of a call that is killed', async () => {
    await pretendPrepared();
    const all = [script, '--parts', parts, '--work', join(work, 'w'), '--out', out];
    const args = [
      '-s',
      'KILL',
      '4',
      'bash',
      ...all,
      '--limit',
      'graphs=8',
      'unpack',
      'correctness',
      'graphs',
    ];
    // The stage that was running outlives the kill until its own limit: nothing of it may be waited for here.
    const killed = spawn('timeout', args, { env: { PATH: '/usr/bin:/bin' }, stdio: 'ignore' });
    await once(killed, 'exit');
    expect(statuses()).to.deep.equal(['unpack ok', 'correctness ok']);
    expect(existsSync(join(out, 'results.tar.gz'))).to.equal(true);
  });

  it('does not unpack again what an earlier call unpacked', async () => {
    await run('unpack');
    await pretendPrepared();
    const { code } = await run('--parts', '/nowhere', 'unpack', 'correctness');
    expect(code).to.equal(0);
  });

  it('refuses unknown stages, options and numbers', async () => {
    const cases: [string[], string][] = [
      [['llama'], 'unknown stage llama; there are: unpack doctor prepare'],
      [['--limit', 'x=3'], 'unknown stage x'],
      [['--limit', 'graphs=soon'], 'not soon'],
      [['--seconds', '0'], 'not 0'],
      [['--only', 'unpack'], 'unknown option --only'],
      [['--work'], '--work lacks its value'],
    ];
    for (const [args, words] of cases) {
      const { code, stderr } = await run(...args);
      expect(code, args.join(' ')).to.equal(2);
      expect(stderr).to.include(words);
    }
  });
});
