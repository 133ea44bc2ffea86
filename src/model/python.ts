import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { RuntimeFailure } from '../errors.js';
import { runChild, type ChildOptions, type ChildRun } from './childProcess.js';
import { diskFullHint } from './diskErrors.js';
import { packageRoot } from './packageRoot.js';
import { partialFolder, removePartialFolders } from './partialFolders.js';

/** The Python that converts and exports models. Only preparation needs it. */
export interface Python {
  readonly program: string;
  /** "3.11" */
  readonly version: string;
}

const oldest = [3, 10] as const;
const exportFolder = (): string => join(packageRoot(), 'export');

/** Prints the version, and whether pip is there. */
const probe = `import sys, importlib.util
print(sys.version_info[0], sys.version_info[1], importlib.util.find_spec("pip") is not None)`;

/** The Python to use, checked: new enough, and with pip. */
export async function findPython(environment: NodeJS.ProcessEnv = process.env): Promise<Python> {
  const named = environment.MEDUSA_PLUS_PYTHON;
  const candidates = named
    ? [named]
    : process.platform === 'win32'
      ? ['python', 'py']
      : ['python3', 'python'];
  const complaints: string[] = [];
  for (const program of candidates) {
    const found = await probePython(program);
    if (typeof found !== 'string') return found;
    complaints.push(found);
  }
  throw new RuntimeFailure(
    `Preparing a model needs Python ${oldest.join('.')} or newer with pip: ${complaints.join('; ')}. ` +
      'Install one, or set MEDUSA_PLUS_PYTHON to the program to use.',
  );
}

/** The Python, or what is wrong with it. */
async function probePython(program: string): Promise<Python | string> {
  let run: ChildRun;
  try {
    run = await runChild(program, ['-c', probe]);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    return `${program} ${code === 'ENOENT' ? 'was not found' : `cannot be started (${code})`}`;
  }
  const [major, minor, pip] = run.stdout.trim().split(' ');
  if (run.code !== 0 || minor === undefined) return `${program} does not work (exit code ${run.code})`;
  const version = `${major}.${minor}`;
  const isOld = Number(major) < oldest[0] || (Number(major) === oldest[0] && Number(minor) < oldest[1]);
  if (isOld) return `${program} is Python ${version}`;
  if (pip !== 'True')
    return `${program} (Python ${version}) has no pip (on Debian and Ubuntu: apt install python3-pip)`;
  return { program, version };
}

/** What pip must not take from the user's configuration: it would clash with --target. */
const pipEnvironment = { PIP_USER: 'no', PIP_REQUIRE_VIRTUALENV: 'no', PIP_DISABLE_PIP_VERSION_CHECK: '1' };

/**
 * Makes a folder with the packages of a requirements file, once: pip installs into a temporary folder, which is then
 * renamed. Needs no virtual environment and leaves the Python itself alone.
 *
 * @param requirements name of a file in export/
 * @returns the folder
 */
export async function ensureRequirements(
  python: Python,
  requirements: string,
  modelsDir: string,
  options: { onInstall?: () => void; signal?: AbortSignal; onErrorLine?: (line: string) => void } = {},
): Promise<string> {
  const file = join(exportFolder(), requirements);
  const parent = join(modelsDir, '.python');
  const folder = join(parent, await requirementsKey(python, file));
  if (existsSync(folder)) return folder;
  options.onInstall?.();
  const partial = partialFolder(folder);
  try {
    await mkdir(parent, { recursive: true });
    await removePartialFolders(folder);
    await pip(python, ['install', '--quiet', '--target', partial, '--requirement', file], options);
    await rename(partial, folder).catch((error: NodeJS.ErrnoException) => {
      // Another process was faster; its folder is as good.
      if (!existsSync(folder)) throw error;
    });
  } finally {
    await removePartialFolders(folder);
  }
  return folder;
}

/** The same requirements for the same Python on the same kind of machine are the same folder. */
async function requirementsKey(python: Python, file: string): Promise<string> {
  const hash = createHash('sha256');
  hash.update(await requirementsText(file));
  hash.update(`${python.version} ${process.platform} ${process.arch}`);
  return hash.digest('hex').slice(0, 16);
}

/** The file's text, with the files it includes (-r). */
async function requirementsText(file: string): Promise<string> {
  const text = await readFile(file, 'utf8');
  const included = [...text.matchAll(/^-r\s+(\S+)/gm)].map((match) => join(file, '..', match[1]));
  return [text, ...(await Promise.all(included.map(requirementsText)))].join('\n');
}

/** Runs pip; its failure becomes an error with the line that says why. */
export async function pip(
  python: Python,
  args: readonly string[],
  options: ChildOptions = {},
): Promise<void> {
  const environment = { ...process.env, ...pipEnvironment };
  const run = await runChild(python.program, ['-m', 'pip', ...args], { ...options, environment });
  if (run.code === 0) return;
  const lines = run.errorTail.split('\n').filter((line) => !line.startsWith('[notice]'));
  const why = lines.findLast((line) => line.startsWith('ERROR:')) ?? lines.at(-1) ?? 'no message';
  throw new RuntimeFailure(
    `pip ${args[0]} failed: ${why.replace(/^ERROR:\s*/, '')}.${diskFullHint(run.errorTail)} ` +
      'Check the network (or pip config) and run the command again: what is done is kept.',
  );
}

/** Environment in which export/ and the packages of `folder` can be imported. */
export function exportEnvironment(folder: string): NodeJS.ProcessEnv {
  const path = [exportFolder(), folder, process.env.PYTHONPATH].filter(Boolean).join(delimiter);
  // Packages of the user's own site folder could be of other versions than the pinned ones.
  return {
    ...process.env,
    PYTHONPATH: path,
    PYTHONNOUSERSITE: '1',
    PYTHONUNBUFFERED: '1',
    PYTHONDONTWRITEBYTECODE: '1',
  };
}
