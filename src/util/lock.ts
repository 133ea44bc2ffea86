/**
 * Lock files: one process at a time, of all that see the folder.
 *
 * A lock must outlast a process that does not turn its event loop for many seconds (a run of ONNX Runtime, the opening
 * of a large model), and must not outlast one that was killed. So the file names its holder (host, process id, and when
 * that process began), and whether the holder lives is asked of the system. The time of the file, which libraries such
 * as proper-lockfile go by alone, decides only where the system cannot know: about a holder on another machine or in
 * another container.
 */
import { closeSync, openSync, readFileSync, statSync, unlinkSync, writeSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { count, nullable, object, text, tryJson } from './json.js';
import { isRunning, ownIdentity, type ProcessIdentity } from './processIdentity.js';

export interface LockOptions {
  /** Told once when another process holds the lock. */
  readonly onWait?: (pid: number, host: string) => void;
  readonly signal?: AbortSignal;
  readonly pollMilliseconds?: number;
}

/** Gives the lock back. */
export type Release = () => Promise<void>;

/** How often a holder shows that it lives. */
const beatMilliseconds = 10_000;
/** After so long without a sign of life a holder that cannot be asked about is taken for dead. */
const silenceMilliseconds = 120_000;
/** A file that names nobody was just made, or its maker was killed in that instant. */
const nobodyMilliseconds = 2_000;
const turnMilliseconds = 60_000;

/**
 * Takes a lock file, waiting for a living holder and taking over from a dead one.
 *
 * @throws the signal's reason when it aborts while waiting; file system errors as they are
 */
export async function takeLock(file: string, options: LockOptions = {}): Promise<Release> {
  const { signal, onWait, pollMilliseconds = 500 } = options;
  for (let isTold = false; ;) {
    signal?.throwIfAborted();
    const taken = tryLock(file);
    if (typeof taken === 'function') return taken;
    if (!isTold && taken.pid > 0) onWait?.(taken.pid, taken.host);
    isTold ||= taken.pid > 0;
    await sleep(pollMilliseconds, undefined, { signal }).catch(() => undefined);
  }
}

/** Who holds a lock; process 0 while that is just being written. */
export type Holder = Pick<ProcessIdentity, 'pid' | 'host'>;

/** Takes a lock file unless somebody holds it, all in one turn of the event loop. */
export function tryLock(file: string): Release | Holder {
  const mine = JSON.stringify({ ...ownIdentity(), id: randomUUID() });
  for (;;) {
    if (create(file, mine)) return hold(file, mine);
    const content = read(file);
    if (content === undefined) continue;
    const holder = tryJson(holderSchema, content);
    if ((holder && isRunning(holder)) || !removeStale(file)) return holder ?? { pid: 0, host: '' };
  }
}

/** The locks that this process holds: file and content. */
const held = new Map<string, string>();

function hold(file: string, mine: string): Release {
  if (held.size === 0) process.on('exit', releaseAll);
  held.set(mine, file);
  const beating = setInterval(() => beat(file, mine), beatMilliseconds).unref();
  // eslint-disable-next-line @typescript-eslint/require-await -- a release may take its time one day
  return async () => {
    clearInterval(beating);
    release(mine);
    if (held.size === 0) process.removeListener('exit', releaseAll);
  };
}

function releaseAll(): void {
  for (const mine of held.keys()) release(mine);
}

function release(mine: string): void {
  const file = held.get(mine);
  held.delete(mine);
  if (file !== undefined && read(file) === mine) remove(file);
}

/** Writes the same again, so that the file's time is that of the disk, whose clock may differ from ours. */
function beat(file: string, mine: string): void {
  try {
    if (read(file) !== mine) return;
    const descriptor = openSync(file, 'r+');
    writeSync(descriptor, mine, 0);
    closeSync(descriptor);
  } catch {
    // The next beat may do.
  }
}

/** @returns false when the file exists */
function create(file: string, content: string): boolean {
  let descriptor: number;
  try {
    descriptor = openSync(file, 'wx');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
  try {
    writeSync(descriptor, content);
  } catch (error) {
    // A full disk.
    remove(file);
    throw error;
  } finally {
    closeSync(descriptor);
  }
  return true;
}

/** What a lock file holds. */
const holderSchema = object({ pid: count(), host: text, scope: text, born: nullable(text) });

/**
 * Removes a lock whose holder is dead. Two processes may have found it so, and the slower one must not remove the lock
 * that the faster one has taken since: only who holds a second file looks again and removes.
 *
 * @returns false when the holder lives as far as can be told, or another process is looking
 */
function removeStale(file: string): boolean {
  const turn = `${file}.stale`;
  if (!create(turn, '')) {
    // Held for an instant only: its maker was killed in that instant.
    if (Date.now() - timeOf(turn) > turnMilliseconds) remove(turn);
    return false;
  }
  try {
    const content = read(file);
    if (content === undefined) return true;
    const isDead = isSilent(tryJson(holderSchema, content), timeOf(turn) - timeOf(file));
    if (isDead) remove(file);
    return isDead;
  } finally {
    remove(turn);
  }
}

/** @param silence milliseconds since the lock was written or beaten, by the clock of the disk */
function isSilent(holder: ProcessIdentity | undefined, silence: number): boolean {
  if (holder === undefined) return silence > nobodyMilliseconds;
  const runs = isRunning(holder);
  return runs === undefined ? silence > silenceMilliseconds : !runs;
}

/** When the file was last written, in ms; NaN when it is gone. */
function timeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? NaN;
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function remove(file: string): void {
  try {
    unlinkSync(file);
  } catch {
    // Gone already.
  }
}
