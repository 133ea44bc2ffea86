import { join } from 'node:path';
import { UsageError } from '../../util/errors.js';
import { tryLock, type Holder, type Release } from '../../util/lock.js';
import { writeError } from './jsonl.js';

/** One writer per run folder: takes the folder's lock, or refuses. A lock left by a killed process is taken over. */
// eslint-disable-next-line @typescript-eslint/require-await -- refuses by a rejection, as all of a run folder does
export async function lockFolder(folder: string): Promise<Release> {
  const file = join(folder, '.lock');
  const taken = take(file);
  if (typeof taken === 'function') return taken;
  if (taken.pid === 0) throw new UsageError(`${folder} is being taken by another process; try again`);
  throw new UsageError(
    `${folder} is being written by process ${taken.pid} on ${taken.host}. Wait for it to end, ` +
      `or give another --output. (If that process is gone, delete ${file}.)`,
  );
}

function take(file: string): Release | Holder {
  try {
    return tryLock(file);
  } catch (error) {
    throw writeError(file, error);
  }
}
