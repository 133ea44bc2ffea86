import { lstatSync, readdirSync, realpathSync } from 'node:fs';
import { join, sep } from 'node:path';
import { manifestName } from '../models/fileNames.js';
import { UsageError } from '../util/errors.js';
import { checkNothingForeign } from './foreignFiles.js';

/**
 * Checks that nothing is lost when a model replaces what lies in its place: a prepared model may go, with --force even a damaged
 * one; anything else stays, in its folder too, and so does what the model is made from.
 *
 * @param folder of the model, `modelsDir/name`
 * @param sources files and folders that the model is made from
 * @throws UsageError when `folder` is neither a prepared model nor an empty folder, or holds a source or foreign files
 */
export function checkTarget(folder: string, sources: readonly string[]): void {
  const there = lstatSync(folder, { throwIfNoEntry: false });
  if (there === undefined) return;
  const remedy = 'Move it away, or give another name with --id or another folder with --models-dir.';
  // A link is replaced, not what it leads to.
  if (there.isSymbolicLink()) return;
  const source = sources.find((each) => isWithin(each, folder));
  if (source !== undefined)
    throw new UsageError(`${source} lies where the model would and would be lost. ${remedy}`);
  const names = there.isDirectory() ? readdirSync(folder) : undefined;
  if (names?.length === 0) return;
  if (names?.includes(manifestName)) return checkNothingForeign(folder, names);
  const what = names === undefined ? 'a file' : `a folder without ${manifestName}`;
  throw new UsageError(`${folder} is ${what}, not a prepared model, and would be lost. ${remedy}`);
}

/** Whether a path that is there is the folder or lies in it. */
function isWithin(path: string, folder: string): boolean {
  let real: string;
  try {
    real = realpathSync(path);
  } catch {
    return false;
  }
  return `${real}${sep}`.startsWith(join(realpathSync(folder), sep));
}
