import { join } from 'node:path';
import type { DraftingModel } from '../../src/decoding/types.js';
import { chooseGraphs } from '../../src/model/choose.js';
import { readManifest, type Manifest } from '../../src/model/manifest.js';
import { openModel, type OpenOptions } from '../../src/runtime/index.js';

/** What the CUDA benches open: a prepared model on the device, or its fp32 graphs on the CPU. */
export async function modelOptions(
  folder: string,
  provider: 'cpu' | 'cuda',
  precision: string,
): Promise<{ manifest: Manifest; options: OpenOptions }> {
  const manifest = await readManifest(folder);
  const { backbone, heads, keep } = chooseGraphs(manifest, { provider, precision });
  const options = {
    shape: manifest.model,
    backbone: { ...backbone, path: join(folder, backbone.file) },
    heads: heads && { ...heads, path: join(folder, heads.file) },
    keep: keep && { ...keep, path: join(folder, keep.file) },
    provider,
    threads: 0,
  };
  return { manifest, options };
}

export async function open(
  folder: string,
  provider: 'cpu' | 'cuda',
  precision: string,
): Promise<DraftingModel> {
  return openModel((await modelOptions(folder, provider, precision)).options);
}
