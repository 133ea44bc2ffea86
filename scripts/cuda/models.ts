import { join } from 'node:path';
import type { DraftingModel } from '../../src/decoding/types.js';
import { chooseGraphs } from '../../src/models/choose.js';
import { readManifest } from '../../src/models/manifest.js';
import type { Manifest } from '../../src/models/manifestSchema.js';
import { CpuDevice } from '../../src/runtime/cuda/device.js';
import { SharedModel } from '../../src/runtime/cuda/sharedModel.js';
import { OrtApi } from '../../src/runtime/cuda/ortApi.js';
import { shippedLibrary } from '../../src/runtime/cuda/ortLibrary.js';
import { openModel, type OpenOptions } from '../../src/runtime/index.js';
import { MedusaError } from '../../src/util/errors.js';

// These programs end in one line when the card or a library is missing, as the command line does.
process.on('uncaughtException', (error) => {
  console.error(error instanceof MedusaError ? `error: ${error.message}` : error);
  process.exit(1);
});

/** `cpu-memory`: the card's graphs and code over main memory, to try these programs without a card. */
export type Where = 'cuda' | 'cpu-memory' | 'cpu';

export interface ModelPlan {
  readonly manifest: Manifest;
  readonly options: OpenOptions;
}

/** The graphs of a prepared model for the card, or for the CPU's own path. */
export async function planModel(folder: string, where: Where, precision: string): Promise<ModelPlan> {
  const manifest = await readManifest(folder);
  const provider = where === 'cpu' ? 'cpu' : 'cuda';
  const { backbone, heads, keep } = chooseGraphs(manifest, { provider, precision }, folder);
  const options = {
    shape: manifest.model,
    backbone: { ...backbone, path: join(folder, backbone.file) },
    heads: heads && { ...heads, path: join(folder, heads.file) },
    keep: keep && { ...keep, path: join(folder, keep.file) },
    provider,
    threads: 0,
  } as const;
  return { manifest, options };
}

export async function open(where: Where, options: OpenOptions): Promise<DraftingModel> {
  if (where !== 'cpu-memory') return openModel(options);
  const api = await OrtApi.load(shippedLibrary());
  return SharedModel.open(api, new CpuDevice(api, options.threads), options);
}

export function readWhere(text: string): Where {
  const found = (['cuda', 'cpu-memory'] as const).find((each) => each === text);
  if (found === undefined) throw new MedusaError(`--provider ${text}: expected cuda or cpu-memory.`);
  return found;
}
