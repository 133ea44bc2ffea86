import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, isAbsolute, join } from 'node:path';
import { runChild, type ChildOptions, type ChildRun } from '../util/childProcess.js';
import { RuntimeFailure } from '../util/errors.js';
import { isDiskFull } from './diskErrors.js';
import { packageRoot } from '../util/packageRoot.js';

/** The Python that converts and exports models. Only preparation needs it. */
export interface Python {
  readonly program: string;
  /** "3.11" */
  readonly version: string;
}

const oldest = [3, 10] as const;
export const exportFolder = (): string => join(packageRoot(), 'export');

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
      'Install one, set MEDUSA_PLUS_PYTHON to the program to use, or prepare the model on another machine and copy its folder.',
  );
}

/** The Python, or what is wrong with it. */
async function probePython(program: string): Promise<Python | string> {
  let run: ChildRun;
  try {
    run = await runChild(program, ['-c', probe], { environment: pythonEnvironment() });
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

/**
 * Runs a module as `python -m` would, but so that it ends with this process, and imports nothing from the working
 * directory in any version of Python (export/run_module.py).
 */
export function runModule(
  python: Python,
  module: string,
  args: readonly string[],
  options: ChildOptions = {},
): Promise<ChildRun> {
  const environment = { ...pythonEnvironment(), ...options.environment };
  const script = join(exportFolder(), 'run_module.py');
  return runChild(python.program, [script, module, ...args], { ...options, environment, watchesInput: true });
}

/** What every Python is started with. */
function pythonEnvironment(own: readonly string[] = []): NodeJS.ProcessEnv {
  // Empty and relative entries stand for the working directory.
  const given = (process.env.PYTHONPATH ?? '').split(delimiter).filter((entry) => isAbsolute(entry));
  const path = [...own, ...given];
  return { PYTHONPATH: path.length > 0 ? path.join(delimiter) : undefined, PYTHONSTARTUP: undefined };
}

/** Environment in which export/ and the packages of the folders can be imported. */
export function exportEnvironment(...folders: readonly string[]): NodeJS.ProcessEnv {
  return {
    ...pythonEnvironment([exportFolder(), ...folders]),
    // Packages of the user's own site folder could be of other versions than the pinned ones.
    PYTHONNOUSERSITE: '1',
    PYTHONUNBUFFERED: '1',
    PYTHONDONTWRITEBYTECODE: '1',
  };
}

/** What pip must not take from the user's configuration: it would clash with --target. */
const pipEnvironment = { PIP_USER: 'no', PIP_REQUIRE_VIRTUALENV: 'no', PIP_DISABLE_PIP_VERSION_CHECK: '1' };

/**
 * Runs pip; its failure becomes an error of two lines that says why, with the rest in a file.
 *
 * @param options.folder where it works: its temporary files lie there too, so that they go with the folder
 */
export async function pip(
  python: Python,
  command: string,
  args: readonly string[],
  { folder, signal }: { folder: string; signal?: AbortSignal },
): Promise<void> {
  const environment = { ...pipEnvironment, TMPDIR: folder, TEMP: folder, TMP: folder };
  // Standard input stays open: without --no-input pip would wait for an answer.
  const run = await runModule(python, 'pip', [command, '--no-input', ...args], { environment, signal });
  if (run.code === 0) return;
  const log = await keepLog(`pip-${command}`, run.errors);
  if (isDiskFull(run.errors)) {
    throw new RuntimeFailure(
      `pip ${command} failed: the disk of ${dirname(folder)} is full. Free some space, or choose another folder with ` +
        `--models-dir or MEDUSA_PLUS_MODELS, and run the command again.${log}`,
    );
  }
  const lines = run.errorTail.split('\n').filter((line) => !line.startsWith('[notice]'));
  const why = lines.findLast((line) => line.startsWith('ERROR:')) ?? lines.at(-1) ?? 'no message';
  throw new RuntimeFailure(
    `pip ${command} failed: ${why.replace(/^ERROR:\s*/, '').replace(/\.$/, '')}. ` +
      `Check the network (or pip config) and run the command again: what is done is kept.${log}`,
  );
}

const worthAFile = 1000;

/** Keeps what a program said in a new file, unless it was little. @returns a line that names it, or '' */
async function keepLog(name: string, text: string): Promise<string> {
  if (text.length < worthAFile) return '';
  const file = join(tmpdir(), `medusa-plus-${name}-${randomUUID()}.log`);
  try {
    await writeFile(file, `${text}\n`, { flag: 'wx', mode: 0o600 });
    return `\nAll that it said: ${file}`;
  } catch {
    return '';
  }
}
