import { expect } from 'chai';
import { mkdtemp, readFile, rm, truncate } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Endpoint } from '../../../src/bench/judge/client.js';
import {
  judgeAnswers,
  referencesOf,
  type JudgeRequest,
  type Judgment,
} from '../../../src/bench/judge/judge.js';
import { fillTemplate, parseJudgePrompts, ratingOf } from '../../../src/bench/judge/prompts.js';
import { scoreRows } from '../../../src/bench/judge/scores.js';
import type { Question } from '../../../src/bench/questions/parse.js';
import type { AnswerLine } from '../../../src/bench/run/formats.js';

const promptLines = ['single-v1', 'single-math-v1', 'single-v1-multi-turn', 'single-math-v1-multi-turn'].map(
  (name) => {
    const reference = name.includes('math') ? 'ref {ref_answer_1} ' : '';
    const body = name.endsWith('turn')
      ? '{question_1}|{answer_1}|{question_2}|{answer_2}'
      : '{question}|{answer}';
    return JSON.stringify({
      name,
      system_prompt: `system of ${name}`,
      prompt_template: `${reference}${body}`,
    });
  },
);
const prompts = parseJudgePrompts(new TextEncoder().encode(promptLines.join('\n')), 'prompts');
const questions = new Map<string, Question>(
  ['writing', 'math'].map((category, index) => [
    String(index + 1),
    { question_id: index + 1, category, turns: [`${category} one`, `${category} two`] },
  ]),
);
const answers: AnswerLine[] = [1, 2].map((question_id) => ({
  question_id,
  answer_id: 'a',
  model_id: 'm',
  choices: [{ index: 0, turns: ['{question} first', 'second'], idxs: [], new_tokens: [], wall_time: [] }],
  tstamp: 1,
}));

describe('judge', () => {
  let folder: string;
  let server: Server;
  let endpoint: Endpoint;
  /** What the endpoint does next; a rating of 7 when the list is empty. */
  let replies: ((response: ServerResponse) => void)[] = [];
  let bodies: { messages: { content: string }[]; temperature: number; max_tokens: number; model: string }[] =
    [];
  let keys: (string | undefined)[] = [];

  const say = (content: unknown) => (response: ServerResponse) =>
    response.end(JSON.stringify({ choices: [{ message: { content } }] }));
  const fail =
    (status: number, headers: Record<string, string> = {}) =>
    (response: ServerResponse): void => {
      response.writeHead(status, headers).end('no');
    };

  before(async () => {
    server = createServer((request: IncomingMessage, response) => {
      let text = '';
      request.on('data', (chunk: Buffer) => (text += chunk.toString()));
      request.on('end', () => {
        bodies.push(JSON.parse(text) as (typeof bodies)[0]);
        keys.push(request.headers.authorization);
        (replies.shift() ?? say('Good. Rating: [[7]]'))(response);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });
  after(() => server.close());
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'medusa-judge-'));
    [replies, bodies, keys] = [[], [], []];
    const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
    endpoint = { baseUrl, model: 'judge', key: 'secret', retries: 3, pause: 5, timeout: 2000 };
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const request = (change: Partial<JudgeRequest> = {}): JudgeRequest => ({
    folder,
    questions,
    answers,
    prompts,
    references: new Map([['2', ['four', 'five']]]),
    endpoint,
    parallel: 1,
    ...change,
  });
  const failure = (change: Partial<JudgeRequest> = {}): Promise<string> =>
    judgeAnswers(request(change)).then(
      () => 'no error',
      (error: unknown) => (error as Error).message,
    );

  it('asks for both turns as MT-Bench does, with references where they belong', async () => {
    await judgeAnswers(request());
    expect(bodies.map(({ messages }) => messages.map(({ content }) => content))).to.deep.equal([
      ['system of single-v1', 'writing one|{question} first'],
      ['system of single-v1-multi-turn', 'writing one|{question} first|writing two|second'],
      ['system of single-math-v1', 'ref four math one|{question} first'],
      ['system of single-math-v1-multi-turn', 'ref four math one|{question} first|math two|second'],
    ]);
    expect(bodies[0]).to.include({ temperature: 0, max_tokens: 2048, model: 'judge' });
    expect(keys[0]).to.equal('Bearer secret');
    const [line] = (await readFile(join(folder, 'judgment.jsonl'), 'utf8')).split('\n');
    const judgment = JSON.parse(line) as Judgment;
    expect(Object.keys(judgment)).to.deep.equal([
      'question_id',
      'model',
      'judge',
      'user_prompt',
      'judgment',
      'score',
      'turn',
      'tstamp',
    ]);
    expect(judgment).to.include({ question_id: 1, model: 'm', score: 7, turn: 1 });
    expect(judgment.judge).to.deep.equal(['judge', 'single-v1']);
  });

  it('tries again after rate limits, server errors and answers that make no sense', async () => {
    replies = [
      fail(429, { 'retry-after': '0.01' }),
      fail(503),
      (response) => response.end('<html>'),
      say('[[8.5]]'),
      (response) => response.destroy(),
      say(undefined),
      say('[[3]]'),
    ];
    const judgments = await judgeAnswers(request());
    expect(judgments.map(({ score }) => score)).to.deep.equal([8.5, 3, 7, 7]);
  });

  it('gives up with a clear message and goes on later without asking twice', async () => {
    replies = [say('[[9]]'), fail(500), fail(500), fail(500), fail(500)];
    expect(await failure()).to.match(/failed 4 times; the last time: 500 .*Judgments so far are kept/);
    const asked = bodies.length;
    const judgments = await judgeAnswers(request());
    expect(bodies.length - asked).to.equal(3);
    expect(judgments.map(({ score }) => score)).to.deep.equal([9, 7, 7, 7]);
    // A last line that was cut off by a kill is judged again.
    const path = join(folder, 'judgment.jsonl');
    await truncate(path, (await readFile(path)).length - 5);
    expect(await judgeAnswers(request())).to.have.length(4);
    expect((await readFile(path, 'utf8')).trimEnd().split('\n')).to.have.length(4);
    expect(bodies.length - asked).to.equal(4);
  });

  it('does not repeat what cannot succeed', async () => {
    replies = [fail(401)];
    expect(await failure()).to.match(/refused the request: 401 .*check OPENAI_API_KEY/);
    expect(bodies).to.have.length(1);
  });

  it('waits no longer than the time limit for an endpoint that hangs', async () => {
    replies = [() => undefined];
    expect(await failure({ endpoint: { ...endpoint, timeout: 50, retries: 0 } })).to.match(/failed 1 times/);
  });

  it('records a malformed rating as -1 and leaves it out of the means', async () => {
    replies = [say('I would say nine.'), say('[6]'), say('[[10]] or [[2]]')];
    const judgments = await judgeAnswers(request());
    expect(judgments.map(({ score }) => score)).to.deep.equal([-1, 6, 10, 7]);
    expect(scoreRows(judgments, questions)).to.deep.equal([
      { category: 'writing', first: null, second: 6, both: 6, ratings: 1, unrated: 1 },
      { category: 'math', first: 10, second: 7, both: 8.5, ratings: 2, unrated: 0 },
      { category: 'all', first: 10, second: 6.5, both: 23 / 3, ratings: 3, unrated: 1 },
    ]);
  });

  it('works in parallel without mixing lines', async () => {
    const many = Array.from({ length: 30 }, (_, index) => ({ ...answers[0], model_id: `m${index}` }));
    const judgments = await judgeAnswers(request({ answers: many, parallel: 8 }));
    expect(judgments).to.have.length(60);
    const lines = (await readFile(join(folder, 'judgment.jsonl'), 'utf8')).trimEnd().split('\n');
    expect(new Set(lines.map((line) => JSON.stringify(JSON.parse(line)))).size).to.equal(60);
  });

  it('needs the questions and the references', async () => {
    expect(await failure({ references: new Map() })).to.match(/Question 2 \(math\) needs a reference answer/);
    expect(await failure({ questions: new Map() })).to.match(/Question 1 is not among the questions/);
  });

  it('reads ratings, templates and references', () => {
    expect([ratingOf('[[7]]'), ratingOf('[[7.5]] [[1]]'), ratingOf('[4]'), ratingOf('7/10')]).to.deep.equal([
      7, 7.5, 4, -1,
    ]);
    for (const [text, rating] of [
      ['As [1] says, good. Rating: [[8]]', 8],
      ['As [1] says, good.', -1],
      ['See [1].\nRating: [6]', 6],
      ['**Rating**: [6]', 6],
      ['**[6]**', 6],
      ['[[999999]]', -1],
      ['[[0]]', -1],
      ['[[10.5]]', -1],
      ['[[10]]', 10],
      ['<think>[[3]]</think> [[8]]', 8],
      ['perhaps [[3]]</think>\n[[8]]', 8],
      ['<think>a</think> <thinking>[[3]]</thinking> [[8]]', 8],
      ['<think>so far [[3]]', -1],
    ] as const) {
      expect(ratingOf(text), text).to.equal(rating);
    }
    // Searches that grow with the square would take hours here.
    for (const piece of ['[[1', '1', '[', '\n', '<think>', 'rating: '])
      expect(ratingOf(`[[${piece.repeat(300_000)}`)).to.equal(-1);
    expect(fillTemplate('{a} {{b}} {a}', { a: '{c}' })).to.equal('{c} {b} {c}');
    expect(() => fillTemplate('{x}', {})).to.throw(/asks for \{x\}/);
    expect(referencesOf([{ question_id: 5, choices: [{ turns: ['a', 'b'] }] }], 'r').get('5')).to.deep.equal([
      'a',
      'b',
    ]);
    expect(() => referencesOf([{ question_id: 5 }], 'r')).to.throw(/r, line 1/);
    expect(() => parseJudgePrompts(new TextEncoder().encode(promptLines[0]), 'p')).to.throw(
      /no prompt "single-v1-multi-turn"/,
    );
  });
});
