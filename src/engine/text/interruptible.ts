import { Script } from 'node:vm';
import { isMainThread } from 'node:worker_threads';
import { ExitCode, MedusaError, ModelError } from '../../util/errors.js';

const key = Symbol.for('medusa-plus.interruptible');
const script = new Script("globalThis[Symbol.for('medusa-plus.interruptible')]()");

/**
 * Runs `work`, which computes what a model's files say and may never end by itself (a regular expression that
 * backtracks, a template that loops). Code run by `vm` can be ended from outside, in the midst of a regular expression
 * too: by the time limit, and by Ctrl-C, which is then raised again for whoever waits for it.
 *
 * @param what what is being done, as the beginning of a sentence
 * @throws ModelError after `milliseconds`
 */
export function interruptible<T>(milliseconds: number, what: string, work: () => T): T {
  const globals = globalThis as unknown as Record<symbol, (() => T) | undefined>;
  globals[key] = work;
  try {
    return script.runInThisContext({
      timeout: Math.ceil(milliseconds),
      breakOnSigint: isMainThread,
    }) as T;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') {
      throw new ModelError(
        `${what} did not end within ${Math.ceil(milliseconds / 1000)} s: the model's files ask for too much. ` +
          'Use a model from a source that you trust, or a shorter prompt.',
        undefined,
        { cause: error },
      );
    }
    if (code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED') {
      if (process.listenerCount('SIGINT') > 0) process.emit('SIGINT', 'SIGINT');
      else process.kill(process.pid, 'SIGINT');
      throw new MedusaError(`Interrupted. ${what} had not ended.`, ExitCode.interrupted, { cause: error });
    }
    throw error;
  } finally {
    delete globals[key];
  }
}
