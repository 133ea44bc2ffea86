import { expect } from 'chai';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { JudgeClient, parseJudgeParams, type Endpoint } from '../../../src/bench/judge/client.js';
import { judgeAnswers } from '../../../src/bench/judge/judge.js';
import { scoreRows } from '../../../src/bench/judge/scores.js';
import { checkKey } from '../../../src/bench/judge/secrets.js';
import type { Question } from '../../../src/bench/questions/parse.js';
import { MedusaError, UsageError } from '../../../src/util/errors.js';
import { bodyOf, sendForEver, startServer, type TestServer } from '../../support/servers.js';

const KEY = 'sk-proj-0123456789/abcdef';
type Body = Record<string, unknown>;
type Reply = (response: ServerResponse, request: IncomingMessage) => void;

const say =
  (content: unknown, more: object = {}): Reply =>
  (response) =>
    response.end(JSON.stringify({ choices: [{ message: { content, ...more }, finish_reason: 'stop' }] }));
const fail =
  (status: number, body: string, headers: Record<string, string> = {}): Reply =>
  (response) =>
    response.writeHead(status, headers).end(body);

const question: Question = { question_id: 1, category: 'writing', turns: ['Write.'] };
const prompt = { name: 'single-v1', system_prompt: 's', prompt_template: '{question}|{answer}' };
const answerOf = (model_id: string) => ({
  question_id: 1,
  answer_id: 'a',
  model_id,
  choices: [{ index: 0, turns: ['Text.'], idxs: [], new_tokens: [], wall_time: [] }],
  tstamp: 1,
});

describe('a judge that is strange or hostile', () => {
  let folder: string;
  let judge: TestServer;
  let endpoint: Endpoint;
  let notes: string[];
  let replies: Reply[];
  let bodies: Body[];
  /** Paths and keys of the requests. */
  let requests: [string | undefined, string | undefined][];

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'medusa-hostile-'));
    [notes, replies, bodies, requests] = [[], [], [], []];
    judge = await startServer((request, response) => {
      requests.push([request.url, request.headers.authorization]);
      void bodyOf(request).then((text) => {
        bodies.push(JSON.parse(text) as Body);
        (replies.shift() ?? say('Rating: [[7]]'))(response, request);
      });
    });
    endpoint = {
      baseUrl: `${judge.url}/v1`,
      model: 'judge',
      key: KEY,
      retries: 2,
      pause: 1,
      timeout: 10_000,
      onNote: (note) => notes.push(note),
    };
  });
  afterEach(async () => {
    await judge.close();
    await rm(folder, { recursive: true, force: true });
  });

  const judgeAll = (models: readonly string[], change: Partial<Endpoint> = {}, parallel = 1) =>
    judgeAnswers({
      folder,
      questions: new Map([['1', question]]),
      answers: models.map(answerOf),
      prompts: { plain: prompt, plainSecondTurn: prompt, reference: prompt, referenceSecondTurn: prompt },
      references: new Map(),
      endpoint: { ...endpoint, ...change },
      parallel,
    });
  const failure = async (change: Partial<Endpoint> = {}): Promise<Error> => {
    const error = await judgeAll(['a'], change).catch((caught: unknown) => caught);
    expect(error).to.be.instanceOf(MedusaError);
    return error as Error;
  };
  const everything = async (): Promise<string> => {
    const names = await readdir(folder);
    const texts = await Promise.all(names.map((name) => readFile(join(folder, name), 'utf8')));
    return [...texts, ...notes].join('\n');
  };

  describe('the key', () => {
    const echo: Reply = (response, request) =>
      response.writeHead(401, 'No').end(JSON.stringify({ error: `bad ${request.headers.authorization}` }));

    for (const [what, reply] of [
      ['a refusal', echo],
      // Cut in the middle, a key would no longer be found.
      ['a refusal, at the place where it is cut', fail(401, `${'x'.repeat(180)}${KEY}`)],
      ['a server error', fail(500, `key ${KEY}`)],
      ['an answer that is not JSON', fail(200, `<html>${KEY}`)],
      ['an answer without text', fail(200, JSON.stringify({ key: KEY }))],
      ['a JSON text with escapes', fail(401, JSON.stringify({ key: KEY }).replaceAll('/', '\\/'))],
      ['a status text', (response: ServerResponse) => response.writeHead(402, `Pay ${KEY}`).end()],
      ['a redirect', fail(307, '', { location: `http://127.0.0.1:9/${encodeURIComponent(KEY)}/x` })],
      ['the path of a redirect', fail(307, '', { location: `http://127.0.0.1:9/${KEY}` })],
    ] as const) {
      it(`is not shown when it comes back in ${what}`, async () => {
        replies = [reply, reply, reply];
        const { message, cause } = await failure();
        for (const part of [KEY, 'sk-proj-0123', encodeURIComponent(KEY)])
          expect(`${message} ${String(cause)} ${await everything()}`).to.not.include(part);
      });
    }

    it('is not kept when it comes back in a judgment or a refusal', async () => {
      replies = [say(`Your key is ${KEY}. [[7]]`), say(null, { refusal: `No, ${KEY}` })];
      const judgments = await judgeAll(['a', 'b']);
      expect(judgments.map(({ score }) => score)).to.deep.equal([7, -1]);
      expect(await everything())
        .to.include('Your key is [key]')
        .and.not.include(KEY);
    });

    it('that is a placeholder spoils no judgment', async () => {
      replies = [say('Excellent [[7]]')];
      expect((await judgeAll(['a'], { key: 'x' }))[0].judgment).to.equal('Excellent [[7]]');
    });

    it('with a line break is refused before use, without showing it', () => {
      for (const key of ['sk-secret\n', 'sk-secret\r\nx: y', 'sk secret', 'sk-secr\u00e9t', '\0sk-secret']) {
        expect(() => checkKey(key, 'OPENAI_API_KEY'), JSON.stringify(key))
          .to.throw(UsageError, /^OPENAI_API_KEY holds .* set it again/)
          .with.property('message')
          .not.match(/sk.?secr/);
      }
      checkKey(KEY, 'OPENAI_API_KEY');
      checkKey(undefined, 'OPENAI_API_KEY');
    });
  });

  describe('redirects', () => {
    let other: TestServer;
    let reached: number;
    beforeEach(async () => {
      reached = 0;
      other = await startServer((_, response) => {
        reached++;
        response.end('{}');
      });
    });
    afterEach(() => other.close());

    for (const status of [301, 302, 303, 307, 308]) {
      it(`to another origin are not followed (${status})`, async () => {
        replies = [fail(status, '', { location: `${other.url}/v1/chat/completions` })];
        const { message } = await failure();
        expect(message).to.include(`redirects (${status}) to ${other.url}/v1/chat/completions`);
        expect(message).to.include('give it as --base-url');
        expect(reached).to.equal(0);
        expect(requests).to.have.length(1);
      });
    }

    it('inside the origin are followed, with the key and the prompt', async () => {
      replies = [fail(308, '', { location: '/v2/chat/completions' })];
      expect((await judgeAll(['a']))[0].score).to.equal(7);
      expect(requests).to.deep.equal([
        ['/v1/chat/completions', `Bearer ${KEY}`],
        ['/v2/chat/completions', `Bearer ${KEY}`],
      ]);
      expect(bodies[1]).to.deep.equal(bodies[0]);
    });

    it('in a circle end', async () => {
      replies = Array.from({ length: 20 }, () => fail(307, '', { location: '/v1/chat/completions' }));
      expect((await failure()).message).to.match(/redirects \(307\)/);
      expect(requests.length).to.be.below(10);
    });
  });

  it('that sends without end is hung up on', async () => {
    let sent = { bytes: 0 };
    replies = [(response) => (sent = sendForEver(response, '{"choices":[{"message":{"content":"'))];
    expect((await failure()).message).to.match(/the answer has more than 4194304 bytes/);
    expect(sent.bytes).to.be.below(256 << 20);
    expect(requests).to.have.length(1);
  });

  it('that refuses to judge one answer leaves it without a rating, and the table is there', async () => {
    replies = [
      say(null),
      say('', { refusal: 'I cannot.' }),
      fail(400, '{"error": {"code": "content_filter", "message": "filtered [[5]]"}}'),
    ];
    const judgments = await judgeAll(['a', 'b', 'c', 'd']);
    expect(judgments.map(({ score }) => score)).to.deep.equal([-1, -1, -1, 7]);
    expect(judgments[1].judgment).to.equal('(no judgment: I cannot.)');
    const all = scoreRows(judgments, new Map([['1', question]])).at(-1);
    expect(all).to.include({ both: 7, ratings: 1, unrated: 3 });
    const odd = judgments.map((judgment, index) => ({ ...judgment, score: [0, 999999, 11, 7][index] }));
    expect(scoreRows(odd, new Map([['1', question]])).at(-1)).to.include({ both: 7, ratings: 1, unrated: 3 });
    // Nothing is asked twice.
    await judgeAll(['a', 'b', 'c', 'd']);
    expect(requests).to.have.length(4);
  });

  it('that takes no max_tokens and no temperature is asked without them from then on', async () => {
    replies = [
      fail(400, '{"error": {"message": "\'max_tokens\' is not supported. Use \'max_completion_tokens\'."}}'),
      fail(400, '{"error": {"param": "temperature", "message": "only the default is supported"}}'),
    ];
    await judgeAll(['a', 'b']);
    const common = { model: 'judge', messages: bodies[0].messages };
    expect(bodies.slice(0, 3)).to.deep.equal([
      { ...common, temperature: 0, max_tokens: 2048 },
      { ...common, temperature: 0, max_completion_tokens: 2048 },
      { ...common, max_completion_tokens: 2048 },
    ]);
    expect(Object.keys(bodies[3])).to.deep.equal(['model', 'messages', 'max_completion_tokens']);
    expect(notes.join('\n')).to.match(/refuses max_tokens; .*\n.*refuses temperature; going on without it/);
  });

  it('gets the fields of --judge-params, and they are not dropped', async () => {
    const params = parseJudgeParams('{"temperature": null, "max_tokens": 9, "reasoning_effort": "low"}');
    await judgeAll(['a'], { params });
    expect(Object.keys(bodies[0])).to.deep.equal(['model', 'messages', 'max_tokens', 'reasoning_effort']);
    replies = [fail(400, 'max_tokens is too small')];
    const error = await judgeAll(['b'], { params }).catch((caught: unknown) => caught as Error);
    expect((error as Error).message).to.match(/refused the request: 400 .*max_tokens is too small/);
    expect(bodies).to.have.length(2);
    for (const text of ['', '[1]', 'null', '{', '1'])
      expect(() => parseJudgeParams(text), text).to.throw(
        UsageError,
        /--judge-params .*expected a JSON object/,
      );
    expect(() => parseJudgeParams('{"model": "x"}')).to.throw(UsageError, /cannot set model/);
  });

  it('at an address of another kind is refused at once', () => {
    for (const baseUrl of ['ftp://h/v1', 'localhost:8000/v1', 'file:///etc', 'h', '', 'htp://h']) {
      expect(() => new JudgeClient({ ...endpoint, baseUrl }), baseUrl).to.throw(
        UsageError,
        /--base-url \(or OPENAI_BASE_URL\) must begin with http/,
      );
    }
    expect(() => new JudgeClient({ ...endpoint, baseUrl: 'https://me:pass-word@h/v1' }))
      .to.throw(UsageError, /no user and password in the address of h/)
      .with.property('message')
      .not.include('pass-word');
    expect(notes).to.deep.equal([]);
  });

  it('that fails says so while it waits, not once for each of many requests', async () => {
    replies = Array.from({ length: 8 }, () => fail(503, 'busy'));
    await judgeAll(['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'], {}, 8);
    // At most one for each failure in a row.
    expect(notes.length).to.be.within(1, 2);
    expect(notes[0]).to.match(/chat\/completions: 503 .*busy\. Trying again in 1 s/);
  });

  it('may be asked 32 answers at a time without a warning', async () => {
    const warnings: string[] = [];
    const listen = (warning: Error): void => void warnings.push(warning.name);
    process.on('warning', listen);
    try {
      replies = Array.from({ length: 32 }, () => fail(503, 'busy'));
      const { signal } = new AbortController();
      const models = Array.from({ length: 64 }, (_, index) => `m${index}`);
      // Long enough that all wait at the same time.
      expect(await judgeAll(models, { signal, pause: 200 }, 32)).to.have.length(64);
      await new Promise((resolve) => setImmediate(resolve));
    } finally {
      process.removeListener('warning', listen);
    }
    expect(warnings).to.deep.equal([]);
  });
});
