import { expect } from 'chai';
import { request as forward } from 'node:http';
import { fetchThroughProxy } from '../../src/bench/http.js';
import { JudgeClient } from '../../src/bench/judge/client.js';
import { officialFile } from '../../src/bench/questions/official.js';
import { startServer, type TestServer } from '../support/servers.js';

const VARIABLES = ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'http_proxy', 'https_proxy', 'no_proxy'];

describe('the proxy of the environment', () => {
  const before_ = Object.fromEntries(VARIABLES.map((name) => [name, process.env[name]]));
  let home: TestServer;
  let proxy: TestServer;
  /** What the proxy was asked for. */
  let asked: string[];
  let authorizations: (string | undefined)[];

  before(async () => {
    home = await startServer((_, response) => response.end('home'));
    proxy = await startServer((request, response) => {
      asked.push(`${request.method} ${request.url}`);
      authorizations.push(request.headers['proxy-authorization']);
      forward(home.url, (answer) => answer.pipe(response)).end();
    });
    proxy.server.on('connect', (request, socket) => {
      asked.push(`CONNECT ${request.url}`);
      socket.end('HTTP/1.1 502 No\r\n\r\n');
    });
  });
  after(async () => {
    await Promise.all([home.close(), proxy.close()]);
  });
  beforeEach(() => {
    [asked, authorizations] = [[], []];
    for (const name of VARIABLES) delete process.env[name];
  });
  afterEach(() => {
    for (const name of VARIABLES) {
      if (before_[name] === undefined) delete process.env[name];
      else process.env[name] = before_[name];
    }
  });

  const get = async (url: string): Promise<string> => (await fetchThroughProxy(url, {})).text();

  it('is not used when there is none', async () => {
    expect(await get(home.url)).to.equal('home');
    expect(asked).to.deep.equal([]);
  });

  it('is used for http, without a tunnel, in either case and without http://', async () => {
    for (const name of ['HTTP_PROXY', 'http_proxy']) {
      process.env[name] = proxy.url.replace('http://', '');
      expect(await get('http://elsewhere.invalid/x')).to.equal('home');
      delete process.env[name];
    }
    expect(asked).to.deep.equal(['GET http://elsewhere.invalid/x', 'GET http://elsewhere.invalid/x']);
  });

  it('is used for https, with a tunnel', async () => {
    process.env.HTTPS_PROXY = proxy.url;
    const error = await get('https://elsewhere.invalid/x').catch((caught: unknown) => caught);
    expect(error).to.be.instanceOf(Error);
    expect(asked).to.deep.equal(['CONNECT elsewhere.invalid:443']);
  });

  it('is used by the judge and by the download of questions', async () => {
    process.env.HTTP_PROXY = proxy.url;
    const endpoint = {
      baseUrl: 'http://judge.invalid/v1',
      model: 'j',
      retries: 0,
      pause: 1,
      timeout: 10_000,
    };
    const judged = await new JudgeClient(endpoint)
      .chat({ system: 's', user: 'u' })
      .catch((error: unknown) => error as Error);
    // The stand-in answers every request alike.
    expect((judged as Error).message).to.include('the answer is not JSON: home');
    const places = { home: 'http://questions.invalid', cache: '/nowhere' };
    const fetched = await officialFile('questions', places).catch((error: unknown) => error as Error);
    expect((fetched as Error).message).to.include('another file: 4 bytes');
    expect(asked).to.deep.equal([
      'POST http://judge.invalid/v1/chat/completions',
      'GET http://questions.invalid/mt_bench/question.jsonl',
    ]);
  });

  it('is passed by for the hosts of NO_PROXY', async () => {
    Object.assign(process.env, { HTTP_PROXY: proxy.url, NO_PROXY: 'other.invalid,127.0.0.1' });
    expect(await get(home.url)).to.equal('home');
    expect(asked).to.deep.equal([]);
    await get('http://elsewhere.invalid/');
    expect(asked).to.have.length(1);
  });

  it('gets its own user and password, which no error shows', async () => {
    process.env.HTTP_PROXY = proxy.url.replace('//', '//me:pass-word@');
    await get('http://elsewhere.invalid/');
    expect(authorizations).to.deep.equal([`Basic ${Buffer.from('me:pass-word').toString('base64')}`]);
    process.env.HTTP_PROXY = 'http://me:pass-word@[/';
    const error = await get(home.url).catch((caught: unknown) => caught as Error);
    expect((error as Error).message)
      .to.match(/HTTP_PROXY is not the address of a proxy/)
      .and.not.include('pass-word');
  });
});
