import { expect } from 'chai';
import { spawn } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { main } from '../../src/cli/main.js';
import { joinVariantTexts } from '../../src/cli/compare.js';
import type { Report } from '../../src/bench/compare/report.js';
import type { RecordLine, RunInfo } from '../../src/bench/run/formats.js';
import { killAndResume } from '../../scripts/killResume.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const small = [
  '--model',
  join(root, 'test/fixtures/tiny'),
  '--limit',
  '3',
  '--max-new-tokens',
  '12',
  '--nodes',
  '6',
];

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** The real command line in a process of its own. */
function medusa(
  args: readonly string[],
  onStart?: (kill: (signal: NodeJS.Signals) => void) => void,
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--import', 'tsx', join(root, 'bin/medusa-plus.ts'), ...args], {
      cwd: root,
    });
    let [out, err] = ['', ''];
    child.stdout.on('data', (data: Buffer) => (out += data.toString()));
    child.stderr.on('data', (data: Buffer) => (err += data.toString()));
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, out, err }));
    onStart?.((signal) => child.kill(signal));
  });
}

/** The same without a process of its own, for what ends before a model is opened. */
async function inProcess(args: readonly string[]): Promise<Pick<Ended, 'code' | 'err'>> {
  const { error } = console;
  const lines: string[] = [];
  console.error = (line: unknown): void => void lines.push(String(line));
  try {
    await main(args);
    return { code: Number(process.exitCode), err: lines.join('\n') };
  } finally {
    console.error = error;
    process.exitCode = undefined;
  }
}

describe('bench and compare from the command line', function () {
  this.timeout(120_000);
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'medusa-command-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it('bench answers, says what it measured, and does nothing twice', async () => {
    const args = ['bench', ...small, '--output', join(folder, 'bench'), '--json'];
    const first = await medusa(args);
    expect(first.code, first.err).to.equal(0);
    const summary = JSON.parse(first.out) as {
      status: string;
      questions: number;
      turns: number;
      new_tokens: number;
    };
    expect(summary).to.include({ status: 'complete', questions: 3, turns: 6, new_tokens: 72 });
    const answers = await readFile(join(folder, 'bench', 'answers.jsonl'), 'utf8');
    const again = await medusa(args);
    expect(again.code).to.equal(0);
    expect(await readFile(join(folder, 'bench', 'answers.jsonl'), 'utf8')).to.equal(answers);
    const other = await medusa([...args, '--top-m', '8']);
    expect(other.code).to.equal(2);
    expect(other.err).to.match(/was made with decoding.topM = 32, this run has 8; nothing was changed/);
  });

  let made: Promise<Ended> | undefined;
  /** A comparison that several tests look at, made by the first of them. Returns its folder. */
  async function comparison(): Promise<Ended & { output: string }> {
    const output = join(folder, 'compare');
    const variants = ['--a', '--tree static', '--b', 'mine: --tree dynamic --top-m 4'];
    made ??= medusa(['compare', ...small, ...variants, '--output', output]);
    const ended = await made;
    expect(ended.code, ended.err).to.equal(0);
    return { ...ended, output };
  }

  it('compare runs variants, writes its reports and ends with 0 when outputs agree', async () => {
    const { out, output } = await comparison();
    expect(out).to.match(/mine over static/);
    expect(await readdir(output)).to.have.members([
      'none',
      'static',
      'mine',
      'report.json',
      'report.md',
      'report.html',
    ]);
    const report = JSON.parse(await readFile(join(output, 'report.json'), 'utf8')) as Report;
    expect(report.identity.map(({ outcome }) => outcome)).to.deep.equal(['same', 'same']);
    expect(report.runs.map(({ decoding }) => decoding.topM)).to.deep.equal([32, 32, 4]);
  });

  it('compare ends with 3 and shows the first difference, with the logit gap', async () => {
    const { output } = await comparison();
    const folders = ['none', 'mine'].map((name) => join(output, name));
    const changed = join(folder, 'changed', 'mine');
    await cp(folders[1], changed, { recursive: true });
    folders[1] = changed;
    const path = join(changed, 'records.jsonl');
    const lines = (await readFile(path, 'utf8')).trimEnd().split('\n');
    const record = JSON.parse(lines[1]) as RecordLine;
    record.repeats[0].turns[0].token_ids[5] = 7;
    await writeFile(path, `${[lines[0], JSON.stringify(record), lines[2]].join('\n')}\n`);
    const { code, out } = await medusa(['compare', ...folders, '--model', join(root, 'test/fixtures/tiny')]);
    expect(code).to.equal(3);
    expect(out).to.match(/mine +DIFFERENT/);
    expect(out).to.match(
      /Question \d+, turn 1, new token 6, after ".*":\n {2}plain: token \d+, ".*"\n {2}mine: token 7, /s,
    );
    expect(out).to.match(/gap [\d.]+/);
    const plain = await medusa(['compare', ...folders, '--no-explain', '--json']);
    expect(plain.code).to.equal(3);
    expect((JSON.parse(plain.out) as Report).identity[0].mismatches[0].position).to.equal(5);
  });

  it('compare sweeps', async () => {
    const args = [
      'compare',
      ...small,
      '--a=--tree dynamic',
      '--sweep',
      'nodes=2,5',
      '--output',
      join(folder, 'sweep'),
    ];
    const { code, out, err } = await medusa([...args, '--json']);
    expect(code, err).to.equal(0);
    const { sweep } = JSON.parse(out) as Report;
    expect(sweep!.points.map(({ value, run }) => [value, run])).to.deep.equal([
      ['2', 'dynamic nodes=2'],
      ['5', 'dynamic nodes=5'],
    ]);
  });

  /** compare in a process of its own, and its report. */
  async function compared(name: string, ...args: string[]): Promise<Report & { err: string }> {
    const output = join(folder, name);
    const { code, out, err } = await medusa(['compare', ...small, ...args, '--output', output, '--json']);
    expect(code, err).to.equal(0);
    return { ...(JSON.parse(out) as Report), err };
  }

  for (const option of ['joint=product', 'draft=lookup']) {
    it(`compare --sweep ${option} leaves out what is no dynamic tree, and says so`, async () => {
      const report = await compared(`sweep ${option}`, '--sweep', option);
      expect(report.runs.map(({ name }) => name)).to.deep.equal(['plain', `dynamic ${option}`]);
      expect(report.notes.join(' ')).to.match(
        /static is left out of the sweep: --(joint|draft) belongs to dynamic/,
      );
    });
  }

  it('compare gives --tree-file and --nodes outside of variants to those that can take them', async () => {
    const file = join(folder, 'tree.json');
    await writeFile(file, '[[0],[1],[0,0]]');
    const { runs } = await compared('tree-file', '--tree-file', file);
    expect(
      runs.map(({ name, decoding: { nodes, treePaths } }) => [name, nodes, treePaths?.length]),
    ).to.deep.equal([
      ['plain', 6, undefined],
      ['static', 4, 3],
      ['dynamic', 6, undefined],
    ]);
  });

  it('compare takes what --paper stands for beside it', async () => {
    const same = ['--draft', 'heads', '--joint', 'product', '--marginals', 'top-m', '--tree', 'dynamic'];
    const { runs } = await compared('paper', '-a', '--paper', ...same);
    expect(runs.map(({ decoding }) => [decoding.tree, decoding.marginals])).to.deep.equal([
      ['none', 'full'],
      ['dynamic', 'top-m'],
    ]);
  });

  it('compare runs what --tree names, and variants on top of it', async () => {
    const alone = await compared('tree', '--tree', 'static');
    expect(alone.runs.map(({ name }) => name)).to.deep.equal(['plain', 'static']);
    const { runs } = await compared(
      'tree with variants',
      '--tree',
      'static',
      '-a',
      '--top-m 4',
      '-b',
      '--tree dynamic',
    );
    expect(runs.map(({ name, decoding }) => [name, decoding.tree])).to.deep.equal([
      ['plain', 'none'],
      ['static top-m=4', 'static'],
      ['dynamic', 'dynamic'],
    ]);
  });

  it('compare keeps variants apart whose names have no letters of ours', async () => {
    const { runs } = await compared(
      'scripts',
      '-a',
      '高速: --tree dynamic',
      '-b',
      '低速: --tree static',
      '--variant',
      '🚀: --tree static --top-m 4',
    );
    expect(runs.map(({ name }) => name)).to.deep.equal(['plain', '高速', '低速', '🚀']);
    expect(await readdir(join(folder, 'scripts'))).to.include.members(['none', '高速', '低速']);
  });

  it('Ctrl-C leaves a valid folder and ends with 130', async () => {
    const output = join(folder, 'interrupted');
    const long = [...small.slice(0, 2), '--max-new-tokens', '200', '--output', output];
    const ended = await medusa(['bench', ...long], (kill) => {
      let isKilled = false;
      const timer = setInterval(() => {
        void readFile(join(output, 'answers.jsonl'), 'utf8')
          .catch(() => '')
          .then((text) => {
            // Two readings may be under way, and a second Ctrl-C ends the program at once.
            if (isKilled || !text.includes('\n')) return;
            isKilled = true;
            clearInterval(timer);
            kill('SIGINT');
          });
      }, 20);
    });
    expect(ended.code, ended.err).to.equal(130);
    expect(ended.err).to.include('goes on from here');
    const info = JSON.parse(await readFile(join(output, 'run.json'), 'utf8')) as RunInfo;
    expect(info.status).to.equal('interrupted');
    expect(await readdir(output)).to.have.members([
      'run.json',
      'questions.jsonl',
      'answers.jsonl',
      'records.jsonl',
    ]);
  });

  it('kill -9 loses nothing and doubles nothing', async () => {
    const left = await killAndResume({ kills: 3, seed: 5, limit: 24, maxNewTokens: 24 });
    expect(left).to.have.length(3);
  });

  const wrong: [string[], RegExp][] = [
    [['bench', '--questions', '/no/file'], /--questions \/no\/file: .*give "builtin"/],
    [['bench', '--temperature', 'warm'], /--temperature must be a number .* or "fastchat"/],
    [['bench', '--shard', '3/2'], /--shard 3\/2: expected i\/n/],
    [['bench', '--repeat', '0'], /--repeat must be a whole number from 1/],
    [['compare', '/tmp'], /at least two folders/],
    [['compare', '/no/a', '/no/b'], /\/no\/a does not exist/],
    [['compare', '/no/a', '/no/b', '--nodes', '4', '--limit', '2'], /leave out --nodes, --limit/],
    [['compare', '--sweep', 'nodes'], /--sweep nodes: expected/],
    [['compare', '--a', '--tree oak'], /--tree must be one of/],
    [['compare', '--a', '--trees static'], /Variant ".*": Unknown argument/],
    [['compare', '--a', '--tree static', '--b', '--tree static'], /given twice/],
    [['compare', '--a', '--tree static --temperature 1'], /--temperature must be the same for all variants/],
    [['compare', '--a', '--tree none'], /needs a variant to hold against plain decoding/],
    [['compare', '--tree', 'none'], /needs a variant to hold against plain decoding/],
    [['compare', '--tree', 'dynamic', '--a', '--tree static'], /--tree is of no use to any .*name their own/],
    [
      ['compare', '--joint', 'product', '--a', '--tree static'],
      /--joint is of no use to any .*dynamic trees/,
    ],
    [
      ['compare', '--sweep', 'joint=product', '-a', '--tree static'],
      /static is left out of the sweep: --joint/,
    ],
    [
      ['compare', '--draft', 'lookup', '-a', '--paper'],
      /--draft lookup contradicts --paper, which stands for --draft heads/,
    ],
    [['compare', '--tree', 'static', '-a', '--paper'], /--tree static contradicts --paper/],
    [
      ['compare', '--sweep', 'heads=medusa1,none'],
      /--sweep heads=medusa1,none: none cannot be swept together with a tree \(static\)/,
    ],
    [['compare', '--sweep', 'nodes=2,3', '-a', '--tree none'], /none is left out .*plain decoding/],
    [
      ['compare', '-a', '--nodes 4', '--sweep', 'nodes=2,3'],
      /Variant "dynamic nodes=4 nodes=2": --nodes was given 2 times/,
    ],
    [
      ['bench', '--temperature', '1e3'],
      /--temperature must be a number from 0 to 100 or "fastchat", not "1e3"/,
    ],
    [
      ['bench', 'judge', '/x', '--temperature', '0.9', '--nodes', '3'],
      /Unknown arguments: temperature, nodes/,
    ],
    [['bench', 'merge', '/x', '/y', '--questions', 'q', '--output', '/z'], /Unknown argument: questions/],
    [['bench', 'judge', '/no/folder', '--judge', 'x'], /\/no\/folder does not exist/],
    [['bench', 'merge', '/a', '/b', '--output', '/c'], /\/a is not a bench folder/],
  ];
  for (const [args, message] of wrong) {
    it(`refuses ${args.join(' ')}`, async () => {
      const output = ['merge', 'judge'].includes(args[1]) ? [] : ['--output', join(folder, 'x')];
      const { code, err } = await inProcess([...args, ...output]);
      expect(await readdir(folder)).to.not.include('x');
      expect(err)
        .to.match(message)
        .and.not.match(/ {4}at /);
      expect(code).to.equal(2);
    });
  }

  it('subcommands of bench list their own options', async () => {
    const ofJudge = ['judge', 'base-url', 'judge-params', 'prompts', 'references', 'questions', 'parallel'];
    for (const [command, own] of [
      ['judge', [...ofJudge, 'retries', 'json']],
      ['merge', ['output', 'unfinished']],
    ] as const) {
      const { out } = await medusa(['bench', command, '--help']);
      const listed = [...out.matchAll(/^ +(?:-\w, +)?--([\w-]+)/gm)].map(([, name]) => name);
      expect(listed).to.have.members([...own, 'help', 'version']);
    }
    const { out } = await medusa(['bench', '--help']);
    expect(out).to.include('--nodes').and.include('--shard').and.include('--temperature');
  });

  it('variants may begin with dashes', () => {
    expect(
      joinVariantTexts(['compare', '--a', '--tree none', '--limit', '3', '--variant', '-x', '--b', 'n: -y']),
    ).to.deep.equal(['compare', '--a=--tree none', '--limit', '3', '--variant=-x', '--b', 'n: -y']);
    expect(joinVariantTexts(['compare', '-a', '--tree none', '-g', '-x', '-h'])).to.deep.equal([
      'compare',
      '--a=--tree none',
      '--g=-x',
      '-h',
    ]);
    // What stands behind -- is a prompt.
    expect(joinVariantTexts(['generate', '-a', '--', '-a', '-x'])).to.deep.equal([
      'generate',
      '-a',
      '--',
      '-a',
      '-x',
    ]);
  });
});
