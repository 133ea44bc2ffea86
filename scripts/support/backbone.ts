import { join } from 'node:path';
import type { DraftingModel } from '../../src/decoding/types.js';
import { chooseGraphs } from '../../src/models/choose.js';
import { readManifest } from '../../src/models/manifest.js';
import { openModel } from '../../src/runtime/index.js';

/** The backbone of a prepared model by itself, on the CPU, without heads. */
export async function openBackbone(
  folder: string,
  precision: string,
  threads: number,
): Promise<DraftingModel> {
  const manifest = await readManifest(folder);
  const { backbone } = chooseGraphs(manifest, { provider: 'cpu', precision }, folder);
  const file = { ...backbone, path: join(folder, backbone.file) };
  return openModel({ shape: manifest.model, backbone: file, provider: 'cpu', threads });
}
