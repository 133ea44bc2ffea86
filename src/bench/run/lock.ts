/** One writer per run folder. */
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { UsageError } from '../../errors.js';
import { writeError } from './jsonl.js';

interface Holder {
  readonly pid: number;
  readonly host: string;
  /** Tells a process from a later one that got the same id (Linux). */
  readonly born: string | null;
}

/** Takes the folder's lock and returns what releases it. A lock left by a killed process is taken over. */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const path = join(folder, '.lock');
  const mine = JSON.stringify({
    pid: process.pid,
    host: hostname(),
    born: birth(process.pid),
  } satisfies Holder);
  const draft = `${path}.${process.pid}`;
  await writeFile(draft, mine).catch((error: unknown) => {
    throw writeError(draft, error);
  });
  try {
    await claim(path, draft, folder);
  } finally {
    await rm(draft, { force: true });
  }
  return async () => {
    if ((await readFile(path, 'utf8').catch(() => '')) === mine) await rm(path, { force: true });
  };
}

/** `link` fails when the lock exists, so only one process can win. */
async function claim(path: string, draft: string, folder: string): Promise<void> {
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      await link(draft, path);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw writeError(path, error);
    }
    const text = await readFile(path, 'utf8').catch(() => undefined);
    if (text === undefined) continue;
    const holder = parse(text);
    if (holder && isAlive(holder)) {
      throw new UsageError(
        `${folder} is being written by process ${holder.pid} on ${holder.host}. Wait for it to end, ` +
          `or give another --output. (If that process is gone, delete ${path}.)`,
      );
    }
    await removeStale(path, text);
  }
  throw new UsageError(`${folder} is being taken by another process; try again`);
}

/** Moves the lock aside and puts it back if it was not the stale one after all. */
async function removeStale(path: string, text: string): Promise<void> {
  const aside = `${path}.stale.${process.pid}`;
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  if ((await readFile(aside, 'utf8').catch(() => text)) !== text)
    await link(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
}

function parse(text: string): Holder | undefined {
  try {
    return JSON.parse(text) as Holder;
  } catch {
    return undefined;
  }
}

function isAlive(holder: Holder): boolean {
  if (holder.host !== hostname()) return true;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  return holder.born === null || birth(holder.pid) === holder.born;
}

/** Start time of a process in clock ticks since boot; null where /proc does not tell. */
function birth(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}
