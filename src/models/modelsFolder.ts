import { accessSync, constants } from 'node:fs';
import { join, resolve } from 'node:path';
import { cacheFolder } from '../util/cacheFolder.js';
import { findPackageRoot } from '../util/packageRoot.js';

/**
 * The folder of the prepared models: as asked, else as the environment says, else onnx/ of a checkout one may write
 * to, else a folder in the user's cache.
 */
export function modelsFolder(
  asked: string | undefined,
  environment: NodeJS.ProcessEnv = process.env,
): string {
  const given = asked ?? environment.MEDUSA_PLUS_MODELS;
  if (given) return resolve(given);
  const root = findPackageRoot();
  const checkout = root === undefined ? undefined : join(root, 'onnx');
  return checkout !== undefined && isWritable(checkout) ? checkout : cacheFolder(environment);
}

function isWritable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
