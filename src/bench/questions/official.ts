/**
 * The official MT-Bench files. They are not part of this project: they are fetched once from their public home, held
 * against the size and SHA-256 recorded here, and kept in a cache folder.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { cacheFolder } from '../../util/cacheFolder.js';
import { MedusaError, UsageError } from '../../util/errors.js';
import { sha256OfText } from '../../util/sha256.js';
import { writeWhole } from '../../util/writeFile.js';
import { failureOf, fetchThroughProxy, readBody } from '../http.js';

const FASTCHAT_COMMIT = '589532dcfa83700f950b9aa3983416c543afabc0';
const HOME = `https://raw.githubusercontent.com/lm-sys/FastChat/${FASTCHAT_COMMIT}/fastchat/llm_judge/data`;

interface OfficialFile {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** The files by what they hold. */
export const OFFICIAL_FILES = {
  questions: {
    path: 'mt_bench/question.jsonl',
    bytes: 48929,
    sha256: '119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7',
  },
  references: {
    path: 'mt_bench/reference_answer/gpt-4.jsonl',
    bytes: 51109,
    sha256: 'f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f',
  },
  judgePrompts: {
    path: 'judge_prompts.jsonl',
    bytes: 10449,
    sha256: 'fd283293406d024f44c174b094ef48031d0687a4682fd3a56b29b138f80281b6',
  },
} as const satisfies Record<string, OfficialFile>;

export interface FetchPlaces {
  /** Where the FastChat data folder is served; a mirror can be named in MEDUSA_PLUS_MT_BENCH_URL. */
  readonly home?: string;
  /** Where fetched files are kept. */
  readonly cache?: string;
  /** Gives up after this many milliseconds. */
  readonly timeout?: number;
}

/** Returns an official file's bytes, from the cache or from its home. */
export async function officialFile(
  what: keyof typeof OFFICIAL_FILES,
  places: FetchPlaces = {},
): Promise<Uint8Array> {
  const file: OfficialFile = OFFICIAL_FILES[what];
  const cached = join(places.cache ?? cacheFolder(), file.path);
  const kept = await readFile(cached).catch(() => undefined);
  if (kept && matches(kept, file)) return kept;
  const home = places.home ?? process.env.MEDUSA_PLUS_MT_BENCH_URL ?? HOME;
  const bytes = await download(`${home}/${file.path}`, file, cached, places.timeout ?? 30_000);
  await store(cached, bytes);
  return bytes;
}

async function download(
  url: string,
  file: OfficialFile,
  cached: string,
  timeout: number,
): Promise<Uint8Array> {
  try {
    const signal = AbortSignal.timeout(timeout);
    const response = await fetchThroughProxy(shownUrl(url), { signal, headers: credentialsOf(url) });
    if (!response.ok) {
      await response.body?.cancel();
      throw new Error(`the server answered ${response.status} ${response.statusText}`);
    }
    const bytes = await readBody(response, file.bytes);
    if (matches(bytes, file)) return bytes;
    throw new Error(`another file: ${bytes.length} bytes, SHA-256 ${sha256OfText(bytes)}`);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new MedusaError(
      `Could not fetch ${shownUrl(url)}: ${failureOf(error)}.\n${byHand(url, file, cached)}`,
      1,
      {
        cause: error,
      },
    );
  }
}

/** Without the password that a mirror's address may hold. */
function shownUrl(address: string): string {
  if (!URL.canParse(address)) return address;
  const url = new URL(address);
  url.username = url.password = '';
  return url.href;
}

function byHand(url: string, file: OfficialFile, cached: string): string {
  return (
    `Download ${shownUrl(url)} on a machine that can reach it (${file.bytes} bytes, SHA-256 ${file.sha256})\n` +
    `and put it at ${cached}, or give the path of a copy in place of "mt-bench".`
  );
}

/** User and password of a mirror's address, as a header: fetch takes no address with them, and its error shows them. */
function credentialsOf(address: string): Record<string, string> {
  const { username, password } = URL.canParse(address) ? new URL(address) : { username: '', password: '' };
  if (username === '') return {};
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return { authorization: `Basic ${Buffer.from(pair).toString('base64')}` };
}

async function store(path: string, bytes: Uint8Array): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeWhole(path, bytes);
  } catch {
    // The cache is a convenience: without it the file is fetched again next time.
  }
}

function matches(bytes: Uint8Array, file: OfficialFile): boolean {
  return bytes.length === file.bytes && sha256OfText(bytes) === file.sha256;
}
