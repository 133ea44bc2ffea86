import { ExitCode } from '../util/errors.js';
import { printError } from './output.js';

/** Ctrl-C as an AbortSignal. */
export interface Interrupt {
  readonly signal: AbortSignal;
  /** From now on Ctrl-C ends the process at once. */
  release(): void;
}

const signals = ['SIGINT', 'SIGTERM'] as const;

/** The work that is to end cleanly; none while nothing needs to. */
let running: AbortController | undefined;

/**
 * Listens for Ctrl-C (and SIGTERM) from now on, for the whole program: it ends with the exit code for that, and not by
 * the signal, whatever it is doing. Called before anything that takes time to load.
 */
export function listenForInterrupts(): void {
  for (const name of signals) process.on(name, onSignal);
  listensAlways = true;
}

let listensAlways = false;

/** The first Ctrl-C aborts the signal, so that the command can end cleanly; the second ends at once. */
export function catchInterrupt(): Interrupt {
  const controller = new AbortController();
  // In a program that is not ours to end, a test's say, only while a command runs.
  const listens = !listensAlways;
  if (listens) for (const name of signals) process.on(name, onSignal);
  running = controller;
  return {
    signal: controller.signal,
    release: () => {
      if (running === controller) running = undefined;
      if (listens) for (const name of signals) process.removeListener(name, onSignal);
    },
  };
}

function onSignal(): void {
  if (running && !running.signal.aborted) return running.abort();
  printError('Interrupted.');
  // Leaving waits for what the system is doing for us, the opening of a pipe say; one more Ctrl-C does not.
  for (const name of signals) process.removeListener(name, onSignal);
  process.exit(ExitCode.interrupted);
}
