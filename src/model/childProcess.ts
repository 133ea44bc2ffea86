import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export interface ChildRun {
  readonly code: number | null;
  readonly stdout: string;
  /** The last lines of what it wrote to stderr. */
  readonly errorTail: string;
}

export interface ChildOptions {
  readonly environment?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  readonly signal?: AbortSignal;
  /** Told of each line of stdout; `stdout` of the result stays empty then. */
  readonly onLine?: (line: string) => void;
  /** Told of each line of stderr. */
  readonly onErrorLine?: (line: string) => void;
}

const keptErrorLines = 12;

/**
 * Runs a program to its end. Rejects when it cannot be started, or when the signal aborts (the program is ended then,
 * and waited for, so that it writes nothing more).
 */
export function runChild(
  program: string,
  args: readonly string[],
  options: ChildOptions = {},
): Promise<ChildRun> {
  const { signal } = options;
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: options.environment ?? process.env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const end = (): void => void child.kill('SIGTERM');
    signal?.addEventListener('abort', end, { once: true });
    const output: string[] = [];
    const errors: string[] = [];
    createInterface({ input: child.stdout }).on('line', options.onLine ?? ((line) => output.push(line)));
    createInterface({ input: child.stderr }).on('line', (line) => {
      options.onErrorLine?.(line);
      errors.push(line);
      if (errors.length > keptErrorLines) errors.shift();
    });
    child.on('error', (error) => {
      signal?.removeEventListener('abort', end);
      reject(error);
    });
    child.on('close', (code) => {
      signal?.removeEventListener('abort', end);
      if (signal?.aborted) reject(signal.reason as Error);
      else resolve({ code, stdout: output.join('\n'), errorTail: errors.join('\n') });
    });
  });
}
