import { join } from 'node:path';
import { prefill } from '../../src/decoding/prefill.js';
import type { CandidateTree, DraftingModel, VerifiedRows, VerifyOptions } from '../../src/decoding/types.js';
import { openModel, type OpenOptions } from '../../src/runtime/index.js';
import { CpuDevice } from '../../src/runtime/cuda/device.js';
import { SharedModel } from '../../src/runtime/cuda/sharedModel.js';
import { OrtApi } from '../../src/runtime/cuda/ortApi.js';
import { shippedLibrary } from '../../src/runtime/cuda/ortLibrary.js';

export { pathTo } from '../../src/decoding/tree/candidateTree.js';

/** The random model in test/fixtures/tiny, through both paths. */

export const folder = join(import.meta.dirname, '../fixtures/tiny');
export const file = (name: string): string => join(folder, name);

export const shape = {
  layers: 2,
  hiddenSize: 64,
  queryHeads: 4,
  kvHeads: 2,
  headDim: 16,
  vocabSize: 512,
  contextLength: 512,
};

export const splitOptions: OpenOptions = {
  shape,
  backbone: { path: file('backbone.fp32.onnx'), precision: 'fp32', layout: 'split' },
  heads: { path: file('heads.tiny.fp32.onnx'), precision: 'fp32', count: 4, maxTopM: 64 },
  provider: 'cpu',
  threads: 1,
};

export const sharedOptions: OpenOptions = {
  ...splitOptions,
  backbone: { path: file('backbone.fp32.shared.onnx'), precision: 'fp32', layout: 'shared', capacity: 512 },
  keep: { path: file('keep.fp32.onnx'), precision: 'fp32' },
};

export const int8Options: OpenOptions = {
  ...splitOptions,
  backbone: { path: file('backbone.int8.onnx'), precision: 'int8', layout: 'split' },
  heads: { ...splitOptions.heads!, path: file('heads.tiny.int8.onnx'), precision: 'int8' },
};

/** The same weights in float16, as on a CUDA device. */
const folder16 = join(import.meta.dirname, '../fixtures/tiny16');
export const float16Options: OpenOptions = {
  ...sharedOptions,
  backbone: {
    ...sharedOptions.backbone,
    path: join(folder16, 'backbone.fp16.shared.onnx'),
    precision: 'fp16',
  },
  keep: { path: join(folder16, 'keep.fp16.onnx'), precision: 'fp16' },
  heads: { ...splitOptions.heads!, path: join(folder16, 'heads.tiny.fp16.onnx'), precision: 'fp16' },
};

export function openSplit(options: Partial<OpenOptions> = {}): Promise<DraftingModel> {
  return openModel({ ...splitOptions, ...options });
}

/** The IoBinding path with main memory as its device. */
export async function openShared(options: Partial<OpenOptions> = {}): Promise<SharedModel> {
  const api = await OrtApi.load(shippedLibrary());
  return SharedModel.open(api, new CpuDevice(api, 1), { ...sharedOptions, ...options });
}

/** A tree from tokens and parents. */
export function tree(tokens: readonly number[], parents: readonly number[]): CandidateTree {
  const depths: number[] = [];
  parents.forEach((parent) => depths.push(parent < 0 ? 0 : depths[parent] + 1));
  return {
    size: tokens.length,
    tokens: Int32Array.from(tokens),
    parents: Int32Array.from(parents),
    depths: Int32Array.from(depths),
    ranks: new Int32Array(tokens.length).fill(-1, 0, 1),
    probabilities: new Float32Array(tokens.length).fill(1),
  };
}

/** Reproducible numbers below `limit`. */
export function randomNumbers(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

export function randomIds(count: number, seed: number): number[] {
  const random = randomNumbers(seed);
  return Array.from({ length: count }, () => random(shape.vocabSize));
}

/** A random tree: each node hangs below any earlier one. */
export function randomTree(size: number, seed: number, maxDepth = Infinity): CandidateTree {
  const random = randomNumbers(seed);
  const parents = [-1];
  const depths = [0];
  while (parents.length < size) {
    const parent = random(parents.length);
    if (depths[parent] >= maxDepth) continue;
    parents.push(parent);
    depths.push(depths[parent] + 1);
  }
  return tree(randomIds(size, seed + 1), parents);
}

/** Appends a text of any length; the last row's result. */
export async function read(
  model: DraftingModel,
  ids: readonly number[],
  options: VerifyOptions,
): Promise<VerifiedRows> {
  return (await prefill(model, ids, options))!;
}

/** Largest absolute difference. */
export function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  let largest = 0;
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs(a[i] - b[i]));
  return largest;
}
