/** One request to an OpenAI-compatible endpoint, tried again with growing pauses where that can help. */
import { setTimeout as sleep } from 'node:timers/promises';
import { MedusaError } from '../../errors.js';

export interface Endpoint {
  /** Up to and with /v1. */
  readonly baseUrl: string;
  readonly model: string;
  readonly key?: string;
  /** Tries after the first one. */
  readonly retries: number;
  /** First pause in milliseconds; each one doubles, up to a minute. */
  readonly pause: number;
  /** Gives a request up after this many milliseconds. */
  readonly timeout: number;
  readonly signal?: AbortSignal;
}

export interface ChatRequest {
  readonly system: string;
  readonly user: string;
}

const LONGEST_PAUSE = 60_000;
const MAX_TOKENS = 2048;

/** A failure that another try may mend. */
class Passing extends Error {
  constructor(
    message: string,
    /** Milliseconds the server asked to wait. */
    readonly wait?: number,
  ) {
    super(message);
  }
}

/** Returns the assistant's text, decoded at temperature 0. */
export async function chat(endpoint: Endpoint, request: ChatRequest): Promise<string> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await once(endpoint, request);
    } catch (error) {
      endpoint.signal?.throwIfAborted();
      if (!(error instanceof Passing)) throw error;
      if (attempt >= endpoint.retries) {
        throw new MedusaError(
          `${endpoint.baseUrl} failed ${attempt + 1} times; the last time: ${error.message}. ` +
            'Judgments so far are kept: the same command goes on from here',
        );
      }
      const pause = Math.min(LONGEST_PAUSE, error.wait ?? endpoint.pause * 2 ** attempt);
      await sleep(pause, undefined, { signal: endpoint.signal });
    }
  }
}

async function once(endpoint: Endpoint, request: ChatRequest): Promise<string> {
  const response = await post(endpoint, request);
  const body = await response.text().catch((error: unknown) => {
    throw new Passing(`the answer broke off (${(error as Error).message})`);
  });
  if (!response.ok) throw failure(response, body, endpoint);
  return contentOf(body);
}

async function post(endpoint: Endpoint, request: ChatRequest): Promise<Response> {
  const timeout = AbortSignal.timeout(endpoint.timeout);
  try {
    return await fetch(`${endpoint.baseUrl.replace(/\/$/, '')}/chat/completions`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(endpoint.key === undefined ? {} : { authorization: `Bearer ${endpoint.key}` }),
      },
      body: JSON.stringify({
        model: endpoint.model,
        messages: [
          { role: 'system', content: request.system },
          { role: 'user', content: request.user },
        ],
        temperature: 0,
        max_tokens: MAX_TOKENS,
      }),
      signal: endpoint.signal ? AbortSignal.any([timeout, endpoint.signal]) : timeout,
    });
  } catch (error) {
    const { message, cause } = error as Error;
    throw new Passing(cause instanceof Error ? `${message} (${cause.message})` : message);
  }
}

/** 429 and 5xx pass; anything else will fail again. */
function failure(response: Response, body: string, { baseUrl }: Endpoint): Error {
  const what = `${response.status} ${response.statusText} ${body.slice(0, 200)}`.trim();
  if (response.status === 429 || response.status === 408 || response.status >= 500) {
    const seconds = Number(response.headers.get('retry-after'));
    return new Passing(what, Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : undefined);
  }
  const hint = response.status === 401 || response.status === 403 ? '; check OPENAI_API_KEY' : '';
  return new MedusaError(`${baseUrl} refused the request: ${what}${hint}`);
}

function contentOf(body: string): string {
  let content: unknown;
  try {
    const parsed = JSON.parse(body) as { choices?: { message?: { content?: unknown } }[] };
    content = parsed.choices?.[0]?.message?.content;
  } catch {
    throw new Passing(`the answer is not JSON: ${body.slice(0, 200)}`);
  }
  if (typeof content !== 'string') throw new Passing(`the answer has no text: ${body.slice(0, 200)}`);
  return content;
}
