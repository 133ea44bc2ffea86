import { join } from 'node:path';
import type { DraftingModel } from '../../src/decoding/types.js';
import { chooseGraphs } from '../../src/models/choose.js';
import { readManifest } from '../../src/models/manifest.js';
import type { Manifest } from '../../src/models/manifestSchema.js';
import { CpuDevice } from '../../src/runtime/cuda/device.js';
import { IoBoundModel } from '../../src/runtime/cuda/ioBoundModel.js';
import { OrtApi } from '../../src/runtime/cuda/ortApi.js';
import { shippedLibrary } from '../../src/runtime/cuda/ortLibrary.js';
import { type DeviceSteps, openModel, type OpenOptions } from '../../src/runtime/index.js';

/** `cpu`: the CPU's own graphs. `cpu-memory`: the device's graphs and code over main memory, to try a bench without a card. */
export type BenchProvider = 'cpu' | 'cuda' | 'cpu-memory';

/** What the CUDA benches open: a prepared model on the device, or its fp32 graphs on the CPU. */
export async function modelOptions(
  folder: string,
  provider: BenchProvider,
  precision: string,
): Promise<{ manifest: Manifest; options: OpenOptions }> {
  const manifest = await readManifest(folder);
  const wished = provider === 'cpu' ? 'cpu' : 'cuda';
  const { backbone, heads, keep } = chooseGraphs(manifest, { provider: wished, precision }, folder);
  const options = {
    shape: manifest.model,
    backbone: { ...backbone, path: join(folder, backbone.file) },
    heads: heads && { ...heads, path: join(folder, heads.file) },
    keep: keep && { ...keep, path: join(folder, keep.file) },
    provider: wished,
    threads: 0,
  } as const;
  return { manifest, options };
}

export async function openFor(provider: BenchProvider, options: OpenOptions): Promise<DraftingModel> {
  if (provider !== 'cpu-memory') return openModel(options);
  const api = await OrtApi.load(shippedLibrary());
  return IoBoundModel.open(api, new CpuDevice(api, options.threads), options);
}

export async function open(
  folder: string,
  provider: BenchProvider,
  precision: string,
  deviceSteps?: DeviceSteps,
): Promise<DraftingModel> {
  return openFor(provider, { ...(await modelOptions(folder, provider, precision)).options, deviceSteps });
}

/** Milliseconds that a model has spent inside ONNX Runtime; undefined where it does not count them. */
export function runTime(model: DraftingModel): number | undefined {
  return model instanceof IoBoundModel ? model.runTime : undefined;
}

export function readProvider(text: string): BenchProvider {
  const found = (['cpu', 'cuda', 'cpu-memory'] as const).find((each) => each === text);
  if (found === undefined) throw new Error(`--provider ${text}: expected cuda, cpu or cpu-memory.`);
  return found;
}

export function readSteps(text: string): DeviceSteps {
  const found = (['bound', 'packed', 'graphs'] as const).find((each) => each === text);
  if (found === undefined) throw new Error(`--steps ${text}: expected bound, packed or graphs.`);
  return found;
}
