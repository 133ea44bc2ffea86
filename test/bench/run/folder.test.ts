import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstDifference, readRunInfo, RunFolder } from '../../../src/bench/run/folder.js';
import {
  answerLine,
  type AnswerLine,
  type RecordLine,
  type RunInfo,
} from '../../../src/bench/run/formats.js';
import { JsonlFile, readJsonl } from '../../../src/bench/run/jsonl.js';
import { lockFolder } from '../../../src/bench/run/lock.js';
import { ownIdentity } from '../../../src/util/processIdentity.js';
import { madeDecoding } from '../madeDecoding.js';

function info(change: Partial<RunInfo> = {}): RunInfo {
  const hashes = {
    backbone_sha256: 'b',
    heads_sha256: 'h',
    tokenizer_sha256: 't',
    chat_template: null,
    source_sha256: 's',
  };
  return {
    format: 1,
    version: '1',
    model: { id: 'm', precision: 'int8', provider: 'cpu', heads: 'x', ...hashes },
    decoding: madeDecoding({ nodes: 8, headsUsed: 2, topM: 8, maxNewTokens: 9 }),
    protocol: {
      temperature: 0,
      seed: 0,
      repeats: 1,
      shard: null,
      keep_drafts: false,
      raw: false,
      thinking: null,
      trace: false,
      model_id: 'm-d',
    },
    questions: { name: 'q', sha256: 'abc', ids: [1, 2, 3] },
    machine: { cpu: 'c', threads: 1, onnxruntime: '1' },
    status: 'running',
    environment: {},
    cost_curve: null,
    sessions: [{ started: 'now', ended: null, finished_questions: 0, load_average: 0 }],
    ...change,
  };
}

const finished = (question_id: number) => ({
  answer: { question_id, answer_id: 'a', model_id: 'm-d', choices: [], tstamp: 1 } satisfies AnswerLine,
  record: { question_id, category: 'c', repeats: [] } satisfies RecordLine,
});

async function failure(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'no error',
    (error: unknown) => (error as Error).message,
  );
}

describe('run folders', () => {
  let parent: string;
  let path: string;
  beforeEach(async () => {
    parent = await mkdtemp(join(tmpdir(), 'medusa-folder-'));
    path = join(parent, 'run');
  });
  afterEach(() => rm(parent, { recursive: true, force: true }));

  it('go on from what a kill leaves before run.json is there, and from nothing else', async () => {
    await mkdir(path);
    for (const name of ['answers.jsonl', 'records.jsonl', 'run.json.7.partial'])
      await writeFile(join(path, name), '');
    await (await RunFolder.open(path, info())).close('interrupted');
    await rm(join(path, 'run.json'));
    await writeFile(join(path, 'records.jsonl'), '{}\n');
    expect(await failure(RunFolder.open(path, info()))).to.contain('not a bench folder');
  });

  it('of others may lead nowhere else and never wait: links and pipes are refused', async () => {
    for (const place of ['link', 'pipe', 'folder'] as const) {
      const file = join(parent, `${place}.jsonl`);
      if (place === 'link') await symlink('/etc/passwd', file);
      else if (place === 'folder') await mkdir(file);
      else if (spawnSync('mkfifo', [file]).status !== 0) continue;
      const message = await failure(readJsonl(file, answerLine));
      expect(message, place).to.contain(file).and.to.contain('is no regular file');
    }
  });

  async function withQuestions(...ids: number[]): Promise<void> {
    const folder = await RunFolder.open(path, info());
    for (const id of ids) await folder.append(finished(id));
    await folder.close('interrupted');
  }

  it('continues a run of a tree file that was recorded with other nodes than its own', async () => {
    const treePaths = [[0], [1]];
    const withNodes = (nodes: number | 'auto'): RunInfo =>
      info({ decoding: { ...info().decoding, tree: 'static', treePaths, nodes } });
    for (const nodes of [64, 'auto'] as const) {
      const first = await RunFolder.open(path, withNodes(nodes));
      await first.append(finished(1));
      await first.close('interrupted');
      const second = await RunFolder.open(path, withNodes(3));
      expect(second.info.decoding.nodes).to.equal(3);
      await second.close('interrupted');
      await rm(path, { recursive: true });
    }
  });

  it('goes on where the last run ended', async () => {
    await withQuestions(1, 2);
    const folder = await RunFolder.open(path, info());
    expect([1, 2, 3].map((id) => folder.has(id))).to.deep.equal([true, true, false]);
    await folder.append(finished(3));
    await folder.close('complete');
    const { status, sessions } = JSON.parse(await readFile(join(path, 'run.json'), 'utf8')) as RunInfo;
    expect(status).to.equal('complete');
    expect(sessions.map((session) => session.finished_questions)).to.deep.equal([2, 1]);
    expect((await readJsonl(join(path, 'answers.jsonl'), answerLine)).values).to.have.length(3);
    expect(await readdir(path)).to.have.members(['run.json', 'answers.jsonl', 'records.jsonl']);
  });

  for (const [what, damage] of [
    ['a cut answer', (): Promise<void> => appendFile(join(path, 'answers.jsonl'), '{"question_id": 3, "ans')],
    [
      'a record without its answer',
      (): Promise<void> => appendFile(join(path, 'records.jsonl'), '{"question_id": 3}\n'),
    ],
    ['a cut record', (): Promise<void> => appendFile(join(path, 'records.jsonl'), '{"questi')],
    ['a last line of NUL bytes', (): Promise<void> => appendFile(join(path, 'answers.jsonl'), '\0\0\0\n')],
  ] as const) {
    it(`repairs ${what}`, async () => {
      await withQuestions(1, 2);
      const whole = await readFile(join(path, 'records.jsonl'), 'utf8');
      await damage();
      const folder = await RunFolder.open(path, info());
      expect(folder.done.size).to.equal(2);
      await folder.close('interrupted');
      expect(await readFile(join(path, 'records.jsonl'), 'utf8')).to.equal(whole);
    });
  }

  it('asks a question again whose record was lost', async () => {
    await withQuestions(1, 2);
    await writeFile(join(path, 'records.jsonl'), `${JSON.stringify(finished(1).record)}\n`);
    const folder = await RunFolder.open(path, info());
    expect([...folder.done]).to.deep.equal(['1']);
    await folder.close('interrupted');
    expect((await readJsonl(join(path, 'answers.jsonl'), answerLine)).values).to.have.length(1);
  });

  it('refuses a folder that was changed by hand', async () => {
    await withQuestions(1, 2);
    const lines = (await readFile(join(path, 'answers.jsonl'), 'utf8')).split('\n');
    await writeFile(join(path, 'answers.jsonl'), `${lines[1]}\n${lines[0]}\n`);
    expect(await failure(RunFolder.open(path, info()))).to.match(
      /records.jsonl, line 1: question 2 is out of place/,
    );
    await writeFile(join(path, 'answers.jsonl'), `garbage\n${lines[1]}\n`);
    expect(await failure(RunFolder.open(path, info()))).to.match(/answers.jsonl, line 1: not valid JSON/);
  });

  it('refuses other options, models and versions, and names the first field that differs', async () => {
    await withQuestions(1);
    const before = await readFile(join(path, 'run.json'), 'utf8');
    const others: [Partial<RunInfo>, string][] = [
      [{ version: '2' }, 'version = "1", this run has "2"'],
      [{ model: { ...info().model, backbone_sha256: 'z' } }, 'model.backbone_sha256 = "b"'],
      [{ decoding: { ...info().decoding, nodes: 64 } }, 'decoding.nodes = 8, this run has 64'],
      [{ questions: { ...info().questions, ids: [1, 2] } }, 'questions.ids = [1,2,3], this run has [1,2]'],
      [
        { machine: { ...info().machine, threads: 2 } },
        'machine.threads = 1, this run has 2; nothing was changed. Give --threads 1',
      ],
    ];
    for (const [change, message] of others) {
      expect(await failure(RunFolder.open(path, info(change)))).to.include(message);
    }
    expect(await readFile(join(path, 'run.json'), 'utf8')).to.equal(before);
    await (await RunFolder.open(path, info())).close('interrupted');
  });

  it('takes a run from before there was a joint or a draft for one of products alone', async () => {
    await withQuestions(1);
    const file = join(path, 'run.json');
    const { decoding, ...rest } = JSON.parse(await readFile(file, 'utf8')) as RunInfo;
    await writeFile(
      file,
      JSON.stringify({ ...rest, decoding: { ...decoding, joint: undefined, draft: undefined } }),
    );
    const conditional = info({ decoding: { ...decoding, joint: 'conditional' } });
    expect(await failure(RunFolder.open(path, conditional))).to.include('decoding.joint = "product"');
    const copying = info({ decoding: { ...decoding, draft: ['lookup'] } });
    expect(await failure(RunFolder.open(path, copying))).to.include('decoding.draft = ["heads"]');
    await (await RunFolder.open(path, info())).close('interrupted');
  });

  it('leaves the run.json of a complete run as it is when nothing is left to do', async () => {
    const file = join(path, 'run.json');
    const folder = await RunFolder.open(path, info());
    for (const id of [1, 2, 3]) await folder.append(finished(id));
    await folder.close('complete');
    const before = await readFile(file, 'utf8');
    await (await RunFolder.open(path, info())).close('complete');
    expect(await readFile(file, 'utf8')).to.equal(before);
  });

  it('keeps an older cost curve where run.json is written again', async () => {
    await withQuestions(1);
    const file = join(path, 'run.json');
    const older = { machine: 'm', curves: [[1, 2.5]] };
    const before = JSON.parse(await readFile(file, 'utf8')) as object;
    await writeFile(file, JSON.stringify({ ...before, cost_curve: older }));
    await (await RunFolder.open(path, info())).close('interrupted');
    const after = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
    expect(after.cost_curve).to.deep.equal(older);
    expect(after).to.not.have.property('older_costs');
    expect((await readRunInfo(path))!.cost_curve).to.equal(null);
  });

  it('keeps the commit of each session', async () => {
    const session = { ...info().sessions[0], git_commit: 'one' };
    await (await RunFolder.open(path, info({ sessions: [session] }))).close('interrupted');
    const folder = await RunFolder.open(path, info({ sessions: [{ ...session, git_commit: 'two' }] }));
    await folder.close('interrupted');
    expect((await readRunInfo(path))!.sessions.map(({ git_commit }) => git_commit)).to.deep.equal([
      'one',
      'two',
    ]);
  });

  it('says that a file stands where the folder should be', async () => {
    await writeFile(path, 'a file');
    for (const at of [path, join(path, 'none')])
      expect(await failure(RunFolder.open(at, info()))).to.match(
        /run is a file, not a folder; give another --output/,
      );
  });

  it('refuses a folder of something else', async () => {
    await mkdir(path);
    await writeFile(join(path, 'thesis.txt'), 'years of work');
    expect(await failure(RunFolder.open(path, info()))).to.match(/is not empty and not a bench folder/);
    expect(await readdir(path)).to.deep.equal(['thesis.txt']);
  });

  it('lets one process write at a time', async () => {
    const folder = await RunFolder.open(path, info());
    expect(await failure(RunFolder.open(path, info()))).to.match(
      new RegExp(`written by process ${process.pid}`),
    );
    await folder.close('interrupted');
    await (await RunFolder.open(path, info())).close('interrupted');
  });

  it('takes over the lock of a process that is gone', async () => {
    await mkdir(path);
    const gone = spawnSync(process.execPath, ['-e', '0']).pid;
    await writeFile(join(path, '.lock'), JSON.stringify({ ...ownIdentity(), pid: gone }));
    const release = await lockFolder(path);
    await release();
    expect(await readdir(path)).to.deep.equal([]);
  });

  it('says so when the disk is full, and keeps what is there', async function () {
    if (process.platform !== 'linux') return;
    await symlink('/dev/full', join(parent, 'full.jsonl'));
    const file = await JsonlFile.open(join(parent, 'full.jsonl'), 0);
    const message = await failure(file.append({ a: 1 }));
    await file.close();
    expect(message).to.match(/full.jsonl: the disk is full. All finished questions are kept/);
  });

  it('finds the first difference by its path', () => {
    expect(firstDifference({ a: 1, b: { c: [1] } }, { a: 1, b: { c: [2] } })?.field).to.equal('b.c');
    expect(firstDifference({ a: 1 }, { a: 1, b: null })?.field).to.equal('b');
    expect(firstDifference({ a: { b: 1 } }, { a: { b: 1 } })).to.equal(undefined);
  });
});
