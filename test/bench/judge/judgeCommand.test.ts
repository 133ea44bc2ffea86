import { expect } from 'chai';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadQuestions } from '../../../src/bench/questions/load.js';
import { runSession } from '../../../src/bench/run/session.js';
import { runMain, type CliRun } from '../../support/cli.js';
import { bodyOf, startServer, type TestServer } from '../../support/servers.js';
import { ScriptedEngine } from '../scriptedEngine.js';

const VARIABLES = [
  'OPENAI_API_KEY',
  'OPENAI_BASE_URL',
  'OPENAI_MODEL',
  'MEDUSA_PLUS_MT_BENCH_URL',
  'XDG_CACHE_HOME',
];

describe('bench judge from the command line', () => {
  const given = Object.fromEntries(VARIABLES.map((name) => [name, process.env[name]]));
  let parent: string;
  let folder: string;
  let prompts: string;
  let questionFile: string;
  let judge: TestServer;
  let asked: string[];

  beforeEach(async () => {
    for (const name of VARIABLES) delete process.env[name];
    asked = [];
    parent = await mkdtemp(join(tmpdir(), 'medusa-judge-command-'));
    // Whatever is not at hand cannot be fetched.
    process.env.MEDUSA_PLUS_MT_BENCH_URL = 'http://127.0.0.1:9';
    process.env.XDG_CACHE_HOME = join(parent, 'cache');
    folder = join(parent, 'run');
    prompts = join(parent, 'prompts.jsonl');
    const names = ['single-v1', 'single-math-v1', 'single-v1-multi-turn', 'single-math-v1-multi-turn'];
    const lines = names.map((name) => ({ name, system_prompt: 's', prompt_template: '{question_1}' }));
    const first = { ...lines[0], prompt_template: '{question}' };
    await writeFile(prompts, [first, ...lines.slice(1)].map((line) => JSON.stringify(line)).join('\n'));
    questionFile = join(parent, 'mine.jsonl');
    await writeFile(
      questionFile,
      '{"question_id": 1, "category": "writing", "turns": ["My own question."]}\n',
    );
    const set = await loadQuestions(questionFile);
    await runSession({
      set,
      questions: set.questions,
      variants: [{ name: 'dynamic', decoding: { tree: 'dynamic', maxNewTokens: 4 }, model: {} }],
      folderOf: () => folder,
      temperature: 0,
      seed: 0,
      repeats: 1,
      trace: false,
      quiet: true,
      openEngine: () => Promise.resolve({ engine: new ScriptedEngine() }),
    });
    judge = await startServer((request, response) => {
      void bodyOf(request).then((text) => {
        asked.push(text);
        response.end(JSON.stringify({ choices: [{ message: { content: '[[6]]' } }] }));
      });
    });
  });
  afterEach(async () => {
    for (const name of VARIABLES) {
      if (given[name] === undefined) delete process.env[name];
      else process.env[name] = given[name];
    }
    await judge.close();
    await rm(parent, { recursive: true, force: true });
  });

  const run = (...args: string[]): Promise<CliRun> =>
    runMain(['bench', 'judge', folder, '--judge', 'j', '--prompts', prompts, ...args]);

  it('uses the questions of the run, though their file is gone and there is no network', async () => {
    await rm(questionFile);
    const { code, stdout, stderr } = await run('--base-url', `${judge.url}/v1`, '--json');
    expect(code, stderr).to.equal(0);
    expect(JSON.parse(stdout)).to.have.nested.property('scores[0].first', 6);
    expect(asked[0]).to.include('My own question.');
  });

  it('uses them for MT-Bench too, which it knows by its hash, without fetching it', async () => {
    const path = join(folder, 'run.json');
    const info = await readFile(path, 'utf8');
    await writeFile(path, info.replace(JSON.stringify(questionFile), '"mt-bench"'));
    const references = join(parent, 'references.jsonl');
    await writeFile(references, '{"question_id": 1, "choices": [{"turns": ["r"]}]}\n');
    const { code, stderr } = await run('--base-url', `${judge.url}/v1`, '--references', references);
    expect(code, stderr).to.equal(0);
    expect(asked).to.have.length(1);
  });

  it('refuses other questions, kept or given', async () => {
    const other = join(parent, 'other.jsonl');
    await writeFile(other, '{"question_id": 1, "category": "writing", "turns": ["Another."]}\n');
    const given = await run('--base-url', `${judge.url}/v1`, '--questions', other);
    expect(given.code).to.equal(2);
    expect(given.stderr).to.include(`${other} is not the question file of this run`);
    await writeFile(join(folder, 'questions.jsonl'), await readFile(other));
    const kept = await run('--base-url', `${judge.url}/v1`);
    expect(kept.code).to.equal(2);
    expect(kept.stderr).to.include('give the file that was asked as --questions');
    expect(asked).to.deep.equal([]);
  });

  it('refuses keys, addresses and fields that cannot be used before it asks anybody', async () => {
    const url = ['--base-url', `${judge.url}/v1`];
    process.env.OPENAI_API_KEY = 'sk-secret\nX: y';
    const key = await run(...url);
    expect(key.code).to.equal(2);
    expect(key.stderr)
      .to.match(/OPENAI_API_KEY holds/)
      .and.not.include('sk-secret');
    delete process.env.OPENAI_API_KEY;
    for (const [args, message] of [
      [['--base-url', 'ftp://x/v1'], /--base-url .* must begin with http:\/\/ or https:\/\/, not "ftp:"/],
      [[...url, '--judge-params', '[1]'], /--judge-params \[1\]: expected a JSON object/],
    ] as const) {
      const refused = await run(...args);
      expect(refused.code).to.equal(2);
      expect(refused.stderr).to.match(message);
    }
    expect(asked).to.deep.equal([]);
  });

  it('sends --judge-params', async () => {
    const params = '{"temperature": null, "top_p": 1}';
    expect((await run('--base-url', `${judge.url}/v1`, '--judge-params', params)).code).to.equal(0);
    const body = JSON.parse(asked[0]) as object;
    expect(body).to.include({ max_tokens: 2048, top_p: 1 }).and.not.have.property('temperature');
  });
});
