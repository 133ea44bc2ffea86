import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { manifestName } from '../models/fileNames.js';
import { checkModelName, preparedModels } from '../models/locate.js';
import { UsageError } from '../util/errors.js';
import { takeLock } from '../util/lock.js';

/**
 * Removes a prepared model: its folder, and nothing that was fetched for it.
 *
 * @throws UsageError when there is no such model
 */
export async function removeModel(modelsDir: string, name: string, signal?: AbortSignal): Promise<string> {
  const folder = join(modelsDir, checkModelName(name));
  if (!existsSync(join(folder, manifestName))) {
    const there = preparedModels(modelsDir).join(', ') || 'none';
    throw new UsageError(`There is no prepared model ${name} in ${modelsDir} (there are: ${there}).`);
  }
  // Of the preparation: a model that is being made again is removed once it is there.
  const release = await takeLock(join(modelsDir, `.${name}.lock`), { signal });
  try {
    await rm(folder, { recursive: true, force: true });
  } finally {
    await release();
  }
  return folder;
}
