import { readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isAlive } from './lock.js';

/** A folder to work in before `target` is complete: beside it, and named after this process. */
export function partialFolder(target: string): string {
  return `${target}${mark}${process.pid}`;
}

const mark = '.partial-';

/** Removes this process's partial folder of `target`, and those of processes that were killed. */
export async function removePartialFolders(target: string): Promise<void> {
  const prefix = basename(target) + mark;
  for (const name of await readdir(dirname(target)).catch(() => [])) {
    if (!name.startsWith(prefix)) continue;
    const owner = Number.parseInt(name.slice(prefix.length), 10);
    if (owner !== process.pid && isAlive(owner)) continue;
    await rm(join(dirname(target), name), { recursive: true, force: true });
  }
}
