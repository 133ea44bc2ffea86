import { readFileSync, unlinkSync } from 'node:fs';
import { open, readFile, rename, rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

export interface LockOptions {
  /** Told once when another process holds the lock. */
  readonly onWait?: (holder: number) => void;
  readonly signal?: AbortSignal;
  readonly pollMilliseconds?: number;
}

/**
 * Takes a lock file (holding this process's id), waiting for a living holder and taking over from a dead one. A
 * process that is killed leaves its file behind; its id tells that it is gone.
 *
 * @returns the function that gives the lock back
 */
export async function takeLock(file: string, options: LockOptions = {}): Promise<() => Promise<void>> {
  let waits = false;
  for (;;) {
    options.signal?.throwIfAborted();
    if (await createLock(file)) break;
    const holder = await readHolder(file);
    if (holder === undefined) {
      await sleep(20);
    } else if (isAlive(holder)) {
      if (!waits) options.onWait?.(holder);
      waits = true;
      await sleep(options.pollMilliseconds ?? 500, undefined, { signal: options.signal }).catch(
        () => undefined,
      );
    } else {
      await removeStale(file, holder);
    }
  }
  const removeAtExit = (): void => removeOwn(file);
  process.once('exit', removeAtExit);
  return async () => {
    process.removeListener('exit', removeAtExit);
    await rm(file, { force: true });
  };
}

async function createLock(file: string): Promise<boolean> {
  try {
    const handle = await open(file, 'wx');
    await handle.writeFile(`${process.pid}\n`);
    await handle.close();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** The id in the file; undefined when the file is gone or just being written; 0 (never alive) for nonsense. */
async function readHolder(file: string): Promise<number | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  if (text === '') {
    // Empty either for the instant before the id is written, or for good because its writer was killed then.
    await sleep(200);
    const later = await readFile(file, 'utf8').catch(() => undefined);
    return later === '' ? 0 : later === undefined ? undefined : Number.parseInt(later, 10) || 0;
  }
  return Number.parseInt(text, 10) || 0;
}

/** Whether a process with this id runs. EPERM: it does, for another user. */
export function isAlive(pid: number): boolean {
  if (pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Looks once more, then moves the dead holder's file away: of two processes that found it dead, one succeeds. */
async function removeStale(file: string, holder: number): Promise<void> {
  const aside = `${file}.stale-${process.pid}`;
  const seen = await readHolder(file);
  if (seen !== holder) return;
  await rename(file, aside).catch(() => undefined);
  await rm(aside, { force: true });
}

function removeOwn(file: string): void {
  try {
    if (Number.parseInt(readFileSync(file, 'utf8'), 10) === process.pid) unlinkSync(file);
  } catch {
    // Gone already.
  }
}
