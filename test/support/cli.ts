import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { main } from '../../src/cli/main.js';

export const program = fileURLToPath(new URL('../../bin/medusa-plus.ts', import.meta.url));

/** From any working directory. */
const tsx = import.meta.resolve('tsx');

export interface CliRun {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliOptions {
  readonly input?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  readonly onStart?: (child: ChildProcess) => void | Promise<void>;
  /** Told of the process and of each piece of stdout. */
  readonly onStdout?: (piece: string, child: ChildProcess) => void;
  readonly onStderr?: (piece: string, child: ChildProcess) => void;
}

/** Runs the program as a process of its own. */
export function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliRun> {
  const child = spawn(process.execPath, ['--import', tsx, program, ...args], {
    cwd: options.cwd,
    env: { ...process.env, NO_COLOR: '1', ...options.env },
  });
  void options.onStart?.(child);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (piece: string) => {
    stdout += piece;
    options.onStdout?.(piece, child);
  });
  child.stderr.setEncoding('utf8').on('data', (piece: string) => {
    stderr += piece;
    options.onStderr?.(piece, child);
  });
  child.stdin.on('error', () => {});
  child.stdin.end(options.input ?? '');
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

/** Runs the command line inside this process, which is much faster. Not for anything that reads standard input. */
export async function runMain(
  args: readonly string[],
  options: { onStderr?: (text: string) => void } = {},
): Promise<CliRun> {
  const output = process.stdout.write.bind(process.stdout);
  const errors = process.stderr.write.bind(process.stderr);
  const code = process.exitCode;
  let stdout = '';
  let stderr = '';
  process.exitCode = undefined;
  process.stdout.write = (text: string | Uint8Array) => {
    stdout += String(text);
    return true;
  };
  process.stderr.write = (text: string | Uint8Array) => {
    stderr += String(text);
    options.onStderr?.(String(text));
    return true;
  };
  try {
    await main(args);
    return { code: Number(process.exitCode ?? 0), stdout, stderr };
  } finally {
    process.stdout.write = output;
    process.stderr.write = errors;
    process.exitCode = code;
  }
}
