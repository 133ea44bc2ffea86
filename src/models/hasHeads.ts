import { locateModel } from './locate.js';
import { readManifest } from './manifest.js';
import { modelsFolder } from './modelsFolder.js';

interface Choice {
  readonly model?: string;
  readonly modelsDir?: string;
  /** Name of the heads, or `none`. */
  readonly heads?: string;
}

/** Whether trees of heads can be made; also true of what cannot be said yet, as of a model that is not there. */
export async function hasHeads({ model, modelsDir, heads }: Choice): Promise<boolean> {
  if (heads !== undefined) return heads !== 'none';
  try {
    const { folder, isPrepared } = locateModel(model, modelsFolder(modelsDir));
    return !isPrepared || (await readManifest(folder)).heads.length > 0;
  } catch {
    return true;
  }
}
