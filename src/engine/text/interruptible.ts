import { Script } from 'node:vm';
import { isMainThread } from 'node:worker_threads';
import { ExitCode, MedusaError, ModelError } from '../../util/errors.js';

const key = Symbol.for('medusa-plus.interruptible');
const script = new Script("globalThis[Symbol.for('medusa-plus.interruptible')]()");

/** Milliseconds in which nearly all work ends. */
const usualTime = 250;

/**
 * Runs `work`, which computes what a model's files say and may never end by itself (a regular expression that
 * backtracks, a template that loops). Code run by `vm` can be ended from outside, in the midst of a regular expression
 * too: by the time limit, and by Ctrl-C, which is then raised again for whoever waits for it.
 *
 * While `vm` watches for Ctrl-C, the listeners of this process are off, and between the two a signal is lost or ends
 * the process. So it watches only where the work takes unusually long, for which it begins again.
 *
 * @param what what is being done, as the beginning of a sentence
 * @param work gives the same when it is run twice
 * @throws ModelError after `milliseconds`
 */
export function interruptible<T>(milliseconds: number, what: string, work: () => T): T {
  if (milliseconds > usualTime) {
    try {
      return run(usualTime, false, work);
    } catch (error) {
      if (!isCode(error, 'ERR_SCRIPT_EXECUTION_TIMEOUT')) throw error;
    }
  }
  try {
    return run(milliseconds, isMainThread, work);
  } catch (error) {
    if (isCode(error, 'ERR_SCRIPT_EXECUTION_TIMEOUT')) {
      throw new ModelError(
        `${what} did not end within ${Math.ceil(milliseconds / 1000)} s: the model's files ask for too much. ` +
          'Use a model from a source that you trust, or a shorter prompt.',
        undefined,
        { cause: error },
      );
    }
    if (isCode(error, 'ERR_SCRIPT_EXECUTION_INTERRUPTED')) {
      if (process.listenerCount('SIGINT') > 0) process.emit('SIGINT', 'SIGINT');
      else process.kill(process.pid, 'SIGINT');
      throw new MedusaError(`Interrupted. ${what} had not ended.`, ExitCode.interrupted, { cause: error });
    }
    throw error;
  }
}

function run<T>(milliseconds: number, breakOnSigint: boolean, work: () => T): T {
  const globals = globalThis as unknown as Record<symbol, (() => T) | undefined>;
  globals[key] = work;
  try {
    return script.runInThisContext({ timeout: Math.ceil(milliseconds), breakOnSigint }) as T;
  } finally {
    delete globals[key];
  }
}

const isCode = (error: unknown, code: string): boolean =>
  (error as NodeJS.ErrnoException | undefined)?.code === code;
