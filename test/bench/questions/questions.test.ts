import { expect } from 'chai';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadQuestions, parseShard, selectQuestions } from '../../../src/bench/questions/load.js';
import { OFFICIAL_FILES, officialFile } from '../../../src/bench/questions/official.js';
import { parseQuestions } from '../../../src/bench/questions/parse.js';
import { UsageError } from '../../../src/util/errors.js';
import { sendForEver, startServer } from '../../support/servers.js';

const bytes = (text: string) => new TextEncoder().encode(text);
const good = '{"question_id": 1, "category": "math", "turns": ["One?", "Two?"]}';

describe('questions', () => {
  it('reads FastChat questions, blank lines and a byte order mark included', () => {
    const set = parseQuestions(
      bytes(`\uFEFF${good}\n\n{"question_id":2,"category":"x","turns":["a"],"reference":["r"]}\n`),
      'q',
    );
    expect(set.questions.map((question) => question.question_id)).to.deep.equal([1, 2]);
    expect(set.questions[1].reference).to.deep.equal(['r']);
  });

  const bad: [string, Uint8Array, RegExp][] = [
    ['an empty file', bytes('\n \n'), /q holds no questions/],
    ['bad JSON', bytes(`${good}\n{"question_id": 2,\n`), /q, line 2: not valid JSON/],
    ['a list', bytes('[1]'), /q, line 1: expected a JSON object/],
    ['a duplicate id', bytes(`${good}\n\n${good}`), /q, line 3: question_id 1 was already used on line 1/],
    [
      'missing turns',
      bytes('{"question_id":1,"category":"a"}'),
      /line 1: turns must be .* \(it is missing\)/,
    ],
    ['no turns', bytes('{"question_id":1,"category":"a","turns":[]}'), /turns must be a list/],
    ['an empty turn', bytes('{"question_id":1,"category":"a","turns":["a"," "]}'), /turns must be a list/],
    ['turns of numbers', bytes('{"question_id":1,"category":"a","turns":[1]}'), /turns must be a list/],
    ['no id', bytes('{"category":"a","turns":["a"]}'), /question_id must be/],
    ['a fractional id', bytes('{"question_id":1.5,"category":"a","turns":["a"]}'), /question_id must be/],
    ['no category', bytes('{"question_id":1,"turns":["a"]}'), /category must be/],
    [
      'a bad reference',
      bytes('{"question_id":1,"category":"a","turns":["a"],"reference":"r"}'),
      /reference must be/,
    ],
    ['UTF-16', Uint8Array.from([0xff, 0xfe, 0x7b, 0]), /q is UTF-16/],
    ['Latin-1', Uint8Array.from([...bytes(`${good}\n`), 0x22, 0xe9, 0x22]), /q, line 2: not valid UTF-8/],
    ['NUL bytes', bytes('{"question_id":1}\0'), /q, line 1: contains a NUL byte/],
  ];
  for (const [what, content, message] of bad) {
    it(`refuses ${what}`, () => {
      expect(() => parseQuestions(content, 'q')).to.throw(UsageError, message);
    });
  }

  it('brings 80 two-turn questions in eight categories', async () => {
    const { questions } = await loadQuestions('builtin');
    expect(questions.map((question) => question.question_id)).to.deep.equal(
      Array.from({ length: 80 }, (_, index) => 1001 + index),
    );
    expect(questions.every((question) => question.turns.length === 2)).to.equal(true);
    const categories = new Map<string, number>();
    for (const { category } of questions) categories.set(category, (categories.get(category) ?? 0) + 1);
    expect([...categories.values()]).to.deep.equal(Array(8).fill(10));
    expect(new Set(questions.flatMap((question) => question.turns)).size).to.equal(160);
    const judged = questions.filter(({ category }) => ['math', 'reasoning', 'coding'].includes(category));
    expect(judged.every((question) => question.reference?.length === 2)).to.equal(true);
  });

  it('says what may be given when the path is wrong', async () => {
    const error = await loadQuestions('/no/such/file').catch((caught: unknown) => caught as Error);
    expect((error as Error).message).to.match(
      /--questions \/no\/such\/file: .*"builtin", "mt-bench" or the path/,
    );
  });

  it('spreads a limit over the categories and splits shards without loss', async () => {
    const set = await loadQuestions('builtin');
    const limited = selectQuestions(set, { limit: 12 });
    expect(limited).to.have.length(12);
    expect(new Set(limited.map((question) => question.category)).size).to.equal(8);
    const shards = [1, 2, 3].map((index) => selectQuestions(set, { shard: { index, count: 3 } }));
    expect(
      shards
        .flat()
        .map((question) => question.question_id)
        .sort(),
    ).to.deep.equal(set.questions.map((question) => question.question_id));
    expect(() => selectQuestions(set, { categories: ['maths'] })).to.throw(
      UsageError,
      /--categories maths: builtin has/,
    );
    expect(selectQuestions(set, { categories: ['math'] })).to.have.length(10);
  });

  it('reads shards', () => {
    expect(parseShard('2/3')).to.deep.equal({ index: 2, count: 3 });
    for (const text of ['0/3', '4/3', '1', '1/0', 'a/b', '-1/3'])
      expect(() => parseShard(text)).to.throw(UsageError);
  });
});

describe('the official files', () => {
  let folder: string;
  let server: Server;
  let home: string;
  let requests = 0;
  let authorization: string | undefined;
  let body: Uint8Array = bytes('');
  const original = { ...OFFICIAL_FILES.questions };

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'medusa-official-'));
    server = createServer((request, response) => {
      authorization = request.headers.authorization;
      requests++;
      response.end(body);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    home = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    // A stand-in: the real file is not part of this project.
    body = bytes(`${good}\n`);
    Object.assign(OFFICIAL_FILES.questions, {
      bytes: body.length,
      sha256: createHash('sha256').update(body).digest('hex'),
    });
  });
  after(async () => {
    Object.assign(OFFICIAL_FILES.questions, original);
    server.close();
    await rm(folder, { recursive: true });
  });

  it('fetches once, then reads from the cache, and fetches again what was damaged', async () => {
    const cache = join(folder, 'a');
    expect((await loadQuestions('mt-bench', { home, cache })).questions).to.have.length(1);
    await officialFile('questions', { home, cache });
    expect(requests).to.equal(1);
    await writeFile(join(cache, original.path), 'damaged');
    await officialFile('questions', { home, cache });
    expect(requests).to.equal(2);
    expect(await readFile(join(cache, original.path))).to.deep.equal(Buffer.from(body));
  });

  it('refuses another file and keeps nothing of it', async () => {
    const right = body;
    body = bytes('<html>a login page</html>');
    const cache = join(folder, 'b');
    const error = await officialFile('questions', { home, cache }).catch(
      (caught: unknown) => caught as Error,
    );
    body = right;
    expect((error as Error).message).to.match(/Could not fetch .*: another file: 25 bytes, SHA-256/);
    expect(await readFile(join(cache, original.path)).catch(() => 'nothing')).to.equal('nothing');
  });

  it('hangs up on a server that sends more than the file has', async () => {
    let sent = { bytes: 0 };
    const endless = await startServer((_, response) => (sent = sendForEver(response)));
    const places = { home: endless.url, cache: join(folder, 'd') };
    const error = await officialFile('questions', places).catch((caught: unknown) => caught as Error);
    await endless.close();
    expect((error as Error).message).to.include(`the answer has more than ${body.length} bytes`);
    expect(sent.bytes).to.be.within(body.length + 1, 64 << 20);
  });

  it("never shows the password of a mirror's address, and sends it as a header", async () => {
    const places = { home: 'http://me:pass-word@127.0.0.1:9', cache: join(folder, 'e') };
    const error = await officialFile('questions', places).catch((caught: unknown) => caught as Error);
    expect((error as Error).message)
      .to.include('Could not fetch http://127.0.0.1:9/mt_bench')
      .and.not.include('pass-word');
    await officialFile('questions', { ...places, home: home.replace('//', '//me:pass-word@') });
    expect(authorization).to.equal(`Basic ${Buffer.from('me:pass-word').toString('base64')}`);
  });

  it('says what to download and where to put it when there is no network', async () => {
    const cache = join(folder, 'c');
    const places = { home: 'http://127.0.0.1:9', cache };
    const error = await officialFile('questions', places).catch((caught: unknown) => caught as Error);
    const { message } = error as Error;
    expect(message).to.include('Could not fetch http://127.0.0.1:9/mt_bench/question.jsonl');
    expect(message).to.include(`put it at ${join(cache, original.path)}`);
    expect(message).to.include(OFFICIAL_FILES.questions.sha256);
  });
});
