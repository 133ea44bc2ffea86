/** Requests to servers of others: through the user's proxy, and never more of an answer than was to be expected. */
import type { EnvHttpProxyAgent, RequestInit, Response } from 'undici';
import { UsageError } from '../util/errors.js';

/** The proxy in use, with the variables it was made from. */
let proxy: { readonly from: string; readonly agent: EnvHttpProxyAgent } | undefined;

/** `fetch`, but HTTPS_PROXY, HTTP_PROXY and NO_PROXY hold. Node's own reads them in its newest versions only. */
export async function fetchThroughProxy(url: string | URL, init: RequestInit): Promise<Response> {
  const undici = await import('undici');
  const httpProxy = proxyOf('HTTP_PROXY');
  const httpsProxy = proxyOf('HTTPS_PROXY');
  if (httpProxy === '' && httpsProxy === '') return undici.fetch(url, init);
  const from = `${httpProxy} ${httpsProxy}`;
  if (proxy?.from !== from) {
    // Proxies of companies often allow CONNECT to port 443 only: plain http is asked for without a tunnel, as curl does.
    const agent = new undici.EnvHttpProxyAgent({ httpProxy, httpsProxy, proxyTunnel: false });
    proxy = { from, agent };
  }
  return undici.fetch(url, { ...init, dispatcher: proxy.agent });
}

/** The value of a proxy variable ('' where there is none); the lower case goes first, and http:// may be left out. */
function proxyOf(name: 'HTTP_PROXY' | 'HTTPS_PROXY'): string {
  const given = process.env[name.toLowerCase()] ?? process.env[name] ?? '';
  if (given === '') return '';
  const value = given.includes('://') ? given : `http://${given}`;
  if (URL.canParse(value)) return value;
  // Not shown: it may hold a password.
  throw new UsageError(`${name} is not the address of a proxy; expected http://HOST:PORT`);
}

/** An answer of more bytes than it may have. */
export class TooLarge extends Error {
  constructor(readonly limit: number) {
    super(`the answer has more than ${limit} bytes`);
  }
}

/** Reads a body of at most `limit` bytes (unpacked); hangs up and throws TooLarge beyond. */
export async function readBody(response: Response, limit: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  if (response.body === null) return new Uint8Array();
  // Leaving the loop cancels the rest.
  for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > limit) throw new TooLarge(limit);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** What went wrong with a request, the reason below it included. */
export function failureOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? `${message} (${cause.message})` : message;
}
