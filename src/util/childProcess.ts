import { spawn } from 'node:child_process';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { findProgram } from './findProgram.js';

export interface ChildRun {
  readonly code: number | null;
  readonly stdout: string;
  /** What it wrote to stderr; the last megabyte of it. */
  readonly errors: string;
  /** The last lines of that, long ones cut. */
  readonly errorTail: string;
}

export interface ChildOptions {
  /** What `childEnvironment` adds. */
  readonly environment?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
  /** It ends by itself when its standard input is closed, so a signal would only disturb it. */
  readonly watchesInput?: boolean;
  /** Told of each line of stdout; `stdout` of the result stays empty then. */
  readonly onLine?: (line: string) => void;
  /** Told of each line of stderr. */
  readonly onErrorLine?: (line: string) => void;
}

/** What every child process gets, whatever it is. */
const childVariables: NodeJS.ProcessEnv = {
  // Python (from 3.11 on) does not import what lies in the working directory.
  PYTHONSAFEPATH: '1',
};

/** What it gets where the user has set nothing else: see runtime/telemetry.ts. */
const childDefaults: NodeJS.ProcessEnv = { ORT_DISABLE_TELEMETRY: '1' };

/** The environment of a child: that of this process, what every child gets, and its own; undefined takes one away. */
export function childEnvironment(own: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  return { ...childDefaults, ...process.env, ...childVariables, ...own };
}

/**
 * Where every child process runs: a folder that others cannot write to. The user's working directory may hold files
 * from anywhere, and many programs read or even run what lies in theirs.
 */
const workingFolder = process.platform === 'win32' ? dirname(process.execPath) : '/';

const keptErrors = 1 << 20;
const tailLines = 12;
const tailLineLength = 500;
/** How long an aborted program may take to end cleanly. */
const graceMilliseconds = 4000;

/**
 * Runs a program to its end. Rejects when it cannot be started, or when the signal aborts (the program is ended then,
 * and waited for, so that it writes nothing more).
 *
 * The program's standard input stays open, and empty, for as long as this process lives: one that works for long can
 * watch it, and end when its parent was killed.
 *
 * @param program a name on PATH, or a path; found by `findProgram`
 */
export async function runChild(
  program: string,
  args: readonly string[],
  options: ChildOptions = {},
): Promise<ChildRun> {
  const { signal } = options;
  signal?.throwIfAborted();
  const child = spawn(findProgram(program), args, {
    cwd: workingFolder,
    env: childEnvironment(options.environment),
    stdio: ['pipe', 'pipe', 'pipe'],
    windowsHide: true,
  });
  const output: string[] = [];
  const errors = new LastLines(keptErrors);
  createInterface({ input: child.stdout }).on('line', options.onLine ?? ((line) => output.push(line)));
  createInterface({ input: child.stderr }).on('line', (line) => {
    options.onErrorLine?.(line);
    errors.push(line);
  });
  let killing: NodeJS.Timeout | undefined;
  const end = (): void => {
    if (options.watchesInput) child.stdin.destroy();
    else child.kill('SIGTERM');
    killing ??= setTimeout(() => child.kill('SIGKILL'), graceMilliseconds);
  };
  signal?.addEventListener('abort', end, { once: true });
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', resolve);
    });
    signal?.throwIfAborted();
    const tail = errors.lines.slice(-tailLines).map((line) => line.slice(0, tailLineLength));
    return { code, stdout: output.join('\n'), errors: errors.lines.join('\n'), errorTail: tail.join('\n') };
  } finally {
    clearTimeout(killing);
    signal?.removeEventListener('abort', end);
  }
}

/** What a program prints on stdout; rejects when it is not there or fails. */
export async function outputOf(
  program: string,
  args: readonly string[],
  environment?: NodeJS.ProcessEnv,
): Promise<string> {
  const run = await runChild(program, args, { environment });
  if (run.code !== 0) throw new Error(`${program} failed (exit code ${run.code}): ${run.errorTail}`);
  return run.stdout;
}

/** Lines of at most so many characters in all; the first ones go. */
class LastLines {
  readonly lines: string[] = [];
  private length = 0;

  constructor(private readonly most: number) {}

  push(line: string): void {
    const kept = line.slice(0, this.most);
    this.lines.push(kept);
    this.length += kept.length;
    while (this.length > this.most) this.length -= this.lines.shift()!.length;
  }
}
