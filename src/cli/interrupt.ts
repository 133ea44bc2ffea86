import { ExitCode } from '../errors.js';

/** Ctrl-C as an AbortSignal. */
export interface Interrupt {
  readonly signal: AbortSignal;
  /** Gives Ctrl-C back to Node.js. */
  release(): void;
}

/** The first Ctrl-C (or SIGTERM) aborts the signal, so that the command can end cleanly; the second ends at once. */
export function catchInterrupt(): Interrupt {
  const controller = new AbortController();
  const onSignal = (): void => {
    if (controller.signal.aborted) process.exit(ExitCode.interrupted);
    controller.abort();
  };
  const names = ['SIGINT', 'SIGTERM'] as const;
  for (const name of names) process.on(name, onSignal);
  return {
    signal: controller.signal,
    release: () => {
      for (const name of names) process.removeListener(name, onSignal);
    },
  };
}
