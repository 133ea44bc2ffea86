import { existsSync } from 'node:fs';
import { mkdir, readFile, rename } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { findDamage, writeFileList } from './fileList.js';
import { takeLock } from '../util/lock.js';
import { sha256OfText } from '../util/sha256.js';
import { partialFolder, removeFolder, removePartialFolders } from './partialFolders.js';
import { exportFolder, pip, type Python } from './python.js';

/** The exporter's packages: exact versions, each file's hash among those listed. `npm run lock:python` makes it. */
export const exporterRequirements = 'requirements.lock';

export interface RequirementsOptions {
  /** Install them again even if they are there and whole. */
  readonly again?: boolean;
  readonly onInstall?: () => void;
  /** Told why it takes longer than it should. */
  readonly onNote?: (message: string) => void;
  readonly signal?: AbortSignal;
}

/**
 * Makes a folder with the packages of a requirements file, once, and again when it was damaged: pip installs into a
 * temporary folder, which is then renamed. Needs no virtual environment and leaves the Python itself alone.
 *
 * Of a `.lock` file pip takes wheels of the listed hashes only: no code of a package runs while it is installed.
 *
 * @param requirements name of a file in export/, or a path
 * @returns the folder
 */
export async function ensureRequirements(
  python: Python,
  requirements: string,
  modelsDir: string,
  options: RequirementsOptions = {},
): Promise<string> {
  const file = resolve(exportFolder(), requirements);
  const parent = join(modelsDir, '.python');
  const folder = join(parent, await requirementsKey(python, file));
  await mkdir(parent, { recursive: true });
  const release = await takeLock(`${folder}.lock`, {
    signal: options.signal,
    onWait: (pid) => options.onNote?.(`Process ${pid} is installing the Python packages: waiting for it.`),
  });
  try {
    if (!(await isThere(folder, options))) await install(python, file, folder, options);
    return folder;
  } finally {
    await release();
  }
}

async function isThere(folder: string, { again, onNote, signal }: RequirementsOptions): Promise<boolean> {
  await removePartialFolders(folder);
  if (again || !existsSync(folder)) return false;
  const damage = await findDamage(folder, signal);
  if (damage !== undefined) onNote?.(`The Python packages in ${folder} are damaged (${damage}).`);
  return damage === undefined;
}

async function install(
  python: Python,
  file: string,
  folder: string,
  { onInstall, signal }: RequirementsOptions,
): Promise<void> {
  onInstall?.();
  const partial = partialFolder(folder);
  const packages = join(partial, 'packages');
  const locked = ['--require-hashes', '--only-binary', ':all:', '--no-compile'];
  try {
    await mkdir(partial);
    const args = [
      '--quiet',
      '--target',
      packages,
      ...(file.endsWith('.lock') ? locked : []),
      '--requirement',
      file,
    ];
    await pip(python, 'install', args, { folder: partial, signal });
    await writeFileList(packages, signal);
    if (existsSync(folder)) await rename(folder, join(partial, 'old'));
    await rename(packages, folder);
  } finally {
    await removeFolder(partial);
  }
}

/** The same requirements for the same Python on the same kind of machine are the same folder. */
async function requirementsKey(python: Python, file: string): Promise<string> {
  const requirements = await requirementsText(file);
  return sha256OfText(`${requirements}${python.version} ${process.platform} ${process.arch}`).slice(0, 16);
}

/** The file's text, with the files it includes (-r). */
async function requirementsText(file: string): Promise<string> {
  const text = await readFile(file, 'utf8');
  const included = [...text.matchAll(/^-r\s+(\S+)/gm)].map((match) => join(file, '..', match[1]));
  return [text, ...(await Promise.all(included.map(requirementsText)))].join('\n');
}
