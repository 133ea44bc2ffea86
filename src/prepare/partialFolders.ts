import { readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** What belongs to a model that is being prepared has this name, and an ending: hidden, for it is no model. */
export const hidden = (modelsDir: string, name: string): string => join(modelsDir, `.${name}`);

/** Held by who makes or removes a model. */
export const lockFile = (modelsDir: string, name: string): string => `${hidden(modelsDir, name)}.lock`;

const mark = '.partial-';

/** A folder to work in before `target` is complete: beside it, and named after this process. */
export function partialFolder(target: string): string {
  return `${target}${mark}${process.pid}`;
}

/** Removes all partial folders of `target`. For the holder of its lock: nobody else is using them. */
export async function removePartialFolders(target: string): Promise<void> {
  const prefix = basename(target) + mark;
  for (const name of await readdir(dirname(target)).catch(() => [])) {
    if (name.startsWith(prefix)) await removeFolder(join(dirname(target), name));
  }
}

/** Removes a folder, also while a child of a killed process still writes into it for a moment. */
export async function removeFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
}
