/** Requests to an OpenAI-compatible endpoint, tried again with growing pauses where that can help. */
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Response } from 'undici';
import * as v from 'valibot';
import { MedusaError, UsageError } from '../../util/errors.js';
import { list, nullable, object, optional, text, tryJson } from '../../util/json.js';
import { failureOf, fetchThroughProxy, readBody, TooLarge } from '../http.js';
import { keptWithoutKey, withoutKey } from './secrets.js';

export interface Endpoint {
  /** http or https, up to and with /v1; without user and password. */
  readonly baseUrl: string;
  readonly model: string;
  /** Visible ASCII characters. */
  readonly key?: string;
  /** Fields of the request beside model and messages; null leaves one out. Ours are temperature 0 and max_tokens. */
  readonly params?: Readonly<Record<string, unknown>>;
  /** Tries after the first one. */
  readonly retries: number;
  /** First pause in milliseconds; each one doubles, up to a minute. */
  readonly pause: number;
  /** Gives a request up after this many milliseconds. */
  readonly timeout: number;
  readonly signal?: AbortSignal;
  /** Told what a user may wonder about: a pause, a field left out. */
  readonly onNote?: (note: string) => void;
}

export interface ChatRequest {
  readonly system: string;
  readonly user: string;
}

export interface ChatAnswer {
  /** What the assistant said; empty when it refused. */
  readonly text: string;
  /** Why there is no text. */
  readonly refusal?: string;
}

const LONGEST_PAUSE = 60_000;
const MAX_TOKENS = 2048;
/** Bytes of an answer: far more than 2048 tokens with their reasoning can have. */
const LARGEST_ANSWER = 4 << 20;
const MOST_REDIRECTS = 3;
/** Characters of a refusal that are kept. */
const LONGEST_REFUSAL = 2000;
/** Fields that the program sets itself. */
const RESERVED = ['model', 'messages', 'stream', 'n'];

/** What is read of an answer. */
const answerSchema = object({
  choices: v.pipe(
    list(
      object({
        message: object({ content: nullable(text), refusal: optional(text) }),
        finish_reason: v.unknown(),
      }),
    ),
    v.nonEmpty(),
  ),
});
type Choice = v.InferOutput<typeof answerSchema>['choices'][number];

/** A failure after which another try can succeed. */
class Passing extends Error {
  constructor(
    message: string,
    /** Milliseconds the server asked to wait. */
    readonly wait?: number,
  ) {
    super(message);
  }
}

/** Reads `--judge-params`: a JSON object of request fields. */
export function parseJudgeParams(text: string | undefined): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text ?? '{}');
  } catch {
    value = undefined;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new UsageError(
      `--judge-params ${text}: expected a JSON object of request fields, ` +
        `for example '{"temperature": null, "max_completion_tokens": 8192}' (null leaves a field out)`,
    );
  }
  const reserved = RESERVED.find((field) => field in value);
  if (reserved !== undefined) throw new UsageError(`--judge-params cannot set ${reserved}`);
  return value as Record<string, unknown>;
}

/** The address that requests go to. Errors show neither a password nor a query. */
export function chatAddress(baseUrl: string): URL {
  const url = URL.canParse(baseUrl) ? new URL(baseUrl) : undefined;
  if (url === undefined || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    const given = url === undefined ? 'an unreadable address' : JSON.stringify(url.protocol);
    throw new UsageError(`--base-url (or OPENAI_BASE_URL) must begin with http:// or https://, not ${given}`);
  }
  if (url.username !== '' || url.password !== '') {
    throw new UsageError(
      `--base-url (or OPENAI_BASE_URL): no user and password in the address of ${url.host}; set OPENAI_API_KEY`,
    );
  }
  url.pathname = `${url.pathname.replace(/\/$/, '')}/chat/completions`;
  return url;
}

export class JudgeClient {
  private readonly url: URL;
  private readonly name: string;
  private params: Readonly<Record<string, unknown>>;
  /** Most failures in a row that were told: parallel requests fail alike. */
  private told = 0;

  constructor(private readonly endpoint: Endpoint) {
    this.url = chatAddress(endpoint.baseUrl);
    this.name = this.url.origin + this.url.pathname;
    // Each of many parallel requests listens; Node.js would take that for a leak.
    if (endpoint.signal) setMaxListeners(0, endpoint.signal);
    this.params = { temperature: 0, max_tokens: MAX_TOKENS, ...endpoint.params };
  }

  /** The assistant's answer, at temperature 0 where the endpoint takes it. */
  async chat(request: ChatRequest): Promise<ChatAnswer> {
    const { signal, retries, pause } = this.endpoint;
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.once(request);
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof Passing)) throw error;
        if (attempt >= retries) {
          throw new MedusaError(
            `${this.name} failed ${attempt + 1} times; the last time: ${error.message}. ` +
              'Judgments so far are kept: the same command goes on from here',
          );
        }
        const wait = Math.min(LONGEST_PAUSE, error.wait ?? pause * 2 ** attempt);
        this.tellPause(attempt + 1, wait, error.message);
        await sleep(wait, undefined, { signal });
      }
    }
  }

  private tellPause(failures: number, wait: number, why: string): void {
    if (failures <= this.told) return;
    this.told = failures;
    this.endpoint.onNote?.(`${this.name}: ${why}. Trying again in ${Math.ceil(wait / 1000)} s`);
  }

  private async once(request: ChatRequest): Promise<ChatAnswer> {
    for (;;) {
      const { params } = this;
      const response = await this.post(request, params);
      const body = await this.read(response);
      if (response.ok) return this.answerOf(body);
      if (!this.leaveOut(response.status, body, params)) return this.refusalOf(response, body);
    }
  }

  private async read(response: Response): Promise<string> {
    try {
      return new TextDecoder().decode(await readBody(response, LARGEST_ANSWER));
    } catch (error) {
      if (error instanceof TooLarge)
        throw new MedusaError(`${this.name}: ${error.message}; it was not read on`);
      throw new Passing(`the answer broke off (${this.shown(failureOf(error))})`);
    }
  }

  /** Goes along with redirects inside the origin only: neither the key nor the prompt is for anyone else. */
  private async post(request: ChatRequest, params: Readonly<Record<string, unknown>>): Promise<Response> {
    const timeout = AbortSignal.timeout(this.endpoint.timeout);
    const { signal } = this.endpoint;
    const init = {
      ...this.init(request, params),
      signal: signal ? AbortSignal.any([timeout, signal]) : timeout,
    };
    let { url } = this;
    for (let redirects = 0; ; redirects++) {
      const response = await fetchThroughProxy(url, init).catch((error: unknown) => {
        if (error instanceof UsageError) throw error;
        throw new Passing(this.shown(failureOf(error)));
      });
      const location = response.headers.get('location');
      if (response.status < 300 || response.status > 399 || location === null) return response;
      await response.body?.cancel();
      const next = URL.canParse(location, url.href) ? new URL(location, url) : undefined;
      const same = next?.origin === url.origin && (response.status === 307 || response.status === 308);
      if (next === undefined || !same || redirects >= MOST_REDIRECTS) {
        const target = next === undefined ? 'nowhere' : next.origin + next.pathname;
        throw new MedusaError(
          `${this.name} redirects (${response.status}) to ${this.shown(target)}, which was not followed: ` +
            'prompts and the key go to --base-url only. If that is the right place, give it as --base-url',
        );
      }
      url = next;
    }
  }

  private init(request: ChatRequest, params: Readonly<Record<string, unknown>>) {
    const { key, model } = this.endpoint;
    return {
      method: 'POST',
      redirect: 'manual' as const,
      headers: {
        'content-type': 'application/json',
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
      },
      body: JSON.stringify({
        model,
        messages: [
          { role: 'system', content: request.system },
          { role: 'user', content: request.user },
        ],
        ...Object.fromEntries(Object.entries(params).filter(([, value]) => value !== null)),
      }),
    };
  }

  /**
   * Some models take no max_tokens, or no temperature but their own. Where a refusal names such a field of ours (not
   * one of --judge-params), it is left out from then on. Returns whether another try is worth it.
   */
  private leaveOut(status: number, body: string, sent: Readonly<Record<string, unknown>>): boolean {
    if (status !== 400 && status !== 422) return false;
    const given = this.endpoint.params ?? {};
    const field = ['max_tokens', 'max_completion_tokens', 'temperature'].find(
      (each) => (sent[each] ?? null) !== null && !(each in given) && new RegExp(`\\b${each}\\b`).test(body),
    );
    if (field === undefined) return false;
    // Otherwise a parallel request was refused before.
    if (this.params === sent) {
      const { [field]: value, ...rest } = sent;
      const renamed = field === 'max_tokens' && body.includes('max_completion_tokens');
      this.params = renamed ? { ...rest, max_completion_tokens: value } : rest;
      this.endpoint.onNote?.(
        `${this.name} refuses ${field}; going on ${renamed ? 'with max_completion_tokens' : 'without it'}`,
      );
    }
    return true;
  }

  /** 408, 429 and 5xx pass; a content filter speaks of one question; anything else will fail again. */
  private refusalOf(response: Response, body: string): ChatAnswer {
    const what = this.excerpt(`${response.status} ${response.statusText} ${body}`).trim();
    if (response.status === 429 || response.status === 408 || response.status >= 500) {
      const seconds = Number(response.headers.get('retry-after'));
      throw new Passing(what, Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : undefined);
    }
    if (response.status === 400 && /content_filter|content_policy/.test(body))
      return { text: '', refusal: what };
    const hint = response.status === 401 || response.status === 403 ? '; check OPENAI_API_KEY' : '';
    throw new MedusaError(`${this.name} refused the request: ${what}${hint}`);
  }

  private answerOf(body: string): ChatAnswer {
    const { message, finish_reason = null } = this.choiceOf(body);
    const content = message.content ?? '';
    if (content.trim() !== '') return { text: keptWithoutKey(content, this.endpoint.key) };
    if (content !== '') throw new Passing(`the answer has no text: ${this.excerpt(body)}`);
    const why = message.refusal ?? `finish_reason ${JSON.stringify(finish_reason)}`;
    return { text: '', refusal: keptWithoutKey(why, this.endpoint.key).slice(0, LONGEST_REFUSAL) };
  }

  /** What is wrong with an answer is shown by its beginning: an error of the schema could show the key. */
  private choiceOf(body: string): Choice {
    const answer = tryJson(answerSchema, body);
    if (answer) return answer.choices[0];
    const isJson = tryJson(v.unknown(), body) !== undefined;
    throw new Passing(`the answer ${isJson ? 'has no text' : 'is not JSON'}: ${this.excerpt(body)}`);
  }

  /** The beginning of what the server sent. The key is taken out first, or a cut one would stay. */
  private excerpt(body: string): string {
    return this.shown(body).slice(0, 200);
  }

  private shown(text: string): string {
    return withoutKey(text, this.endpoint.key);
  }
}
