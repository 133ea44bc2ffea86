import { lstatSync, readdirSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { preparedModels, whatIsIn } from '../models/locate.js';
import { UsageError } from '../util/errors.js';
import { takeLock } from '../util/lock.js';
import type { Report } from '../util/progressReport.js';
import { explainDiskError } from './diskErrors.js';
import { checkNothingForeign } from './foreignFiles.js';
import { hidden, lockFile, partialFolder, removePartialFolders } from './partialFolders.js';

/**
 * Removes a prepared model: its folder, and nothing that was fetched for it or that other models share.
 *
 * @param name as it is listed; a path or another spelling is not taken, whatever the file system thinks of it
 * @returns the folder that was removed
 * @throws UsageError when there is no such model, or its folder holds anything else
 */
export async function removeModel(
  modelsDir: string,
  name: string,
  report: Pick<Report, 'note'>,
): Promise<string> {
  if (!preparedModels(modelsDir).includes(name)) {
    throw new UsageError(`There is no prepared model ${name} in ${modelsDir}: ${whatIsIn(modelsDir)}.`);
  }
  const folder = join(modelsDir, name);
  try {
    // Of the preparation: a model that is being made again is removed once it is there.
    const release = await takeLock(lockFile(modelsDir, name), {
      onWait: (holder) => report.note(`Process ${holder} is preparing ${name}: waiting for it.`),
    });
    try {
      const there = lstatSync(folder, { throwIfNoEntry: false });
      if (there?.isDirectory()) checkNothingForeign(folder, readdirSync(folder));
      // At once, so that a removal that is stopped leaves no half of a model. Another one may have been first.
      if (there) await rename(folder, partialFolder(hidden(modelsDir, name)));
      await removePartialFolders(hidden(modelsDir, name));
    } finally {
      await release();
    }
  } catch (error) {
    throw explainDiskError(error, modelsDir);
  }
  return folder;
}
