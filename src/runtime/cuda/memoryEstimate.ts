import { existsSync, statSync } from 'node:fs';
import { RuntimeFailure } from '../../util/errors.js';
import { cacheBytes, type SharedPlan } from './bindingPlan.js';

/** Bytes a model needs on the device. */
export interface MemoryEstimate {
  /** Weights of the backbone and the heads. */
  readonly weights: number;
  /** The KV cache, allocated whole. */
  readonly cache: number;
  /** Activations of the largest run, and what CUDA and its libraries take for themselves. */
  readonly workspace: number;
  readonly total: number;
}

/** CUDA context, kernels and cuBLAS workspace. */
const CUDA_ITSELF = 640 * 2 ** 20;

/**
 * What a model will need for its cache's capacity. Weights and cache are exact, the workspace is an upper guess: the
 * attention scores of the unfused kernel twice in float32, a layer's activations, and the logits.
 *
 * @param weightBytes bytes of all weight files
 * @param rows most rows of one run, and the most of them that reach the LM head
 */
export function estimateDeviceMemory(
  plan: SharedPlan,
  weightBytes: number,
  rows: { readonly perRun: number; readonly verified: number },
): MemoryEstimate {
  const { queryHeads, headDim, hiddenSize, vocabSize } = plan.shape;
  const scores = queryHeads * rows.perRun * plan.capacity * 4 * 2;
  const expandedKeys = 2 * queryHeads * headDim * plan.capacity * plan.elementBytes;
  // Normed rows, queries, keys, values, and an MLP of about four times the hidden size, twice.
  const activations = rows.perRun * hiddenSize * 16 * plan.elementBytes;
  const logits = rows.verified * vocabSize * (plan.elementBytes + 4);
  const workspace = CUDA_ITSELF + scores + expandedKeys + activations + logits;
  const cache = cacheBytes(plan);
  return { weights: weightBytes, cache, workspace, total: weightBytes + cache + workspace };
}

/**
 * Checks an estimate against what is free, before anything is allocated.
 *
 * @throws RuntimeFailure that says how many positions would fit
 */
export function requireMemory(
  plan: SharedPlan,
  weightBytes: number,
  rows: { readonly perRun: number; readonly verified: number },
  free: number,
): void {
  const needed = estimateDeviceMemory(plan, weightBytes, rows);
  if (needed.total <= free) return;
  const parts = `weights ${gibibytes(needed.weights)}, cache ${gibibytes(needed.cache)}, work ${gibibytes(needed.workspace)}`;
  const fits = largestCapacity(plan, weightBytes, rows, free);
  const remedy =
    fits > 0
      ? `${fits} positions would fit: free memory on the device, or take a model of a shorter context.`
      : 'Not even a short context fits: free memory on the device, or take a smaller model.';
  throw new RuntimeFailure(
    `The model needs ${gibibytes(needed.total)} on the CUDA device for ${plan.capacity} positions (${parts}), but only ${gibibytes(free)} are free. ${remedy}`,
  );
}

/** Largest multiple of 256 positions that fits; 0 when none does. */
function largestCapacity(
  plan: SharedPlan,
  weightBytes: number,
  rows: { readonly perRun: number; readonly verified: number },
  free: number,
): number {
  const total = (capacity: number): number =>
    estimateDeviceMemory({ ...plan, capacity }, weightBytes, rows).total;
  const perPosition = total(1) - total(0);
  return Math.max(0, Math.floor((free - total(0)) / perPosition / 256) * 256);
}

/** Bytes of graphs with their external weight files (`<graph>.data`). */
export function graphBytes(paths: readonly string[]): number {
  const files = paths.flatMap((path) => [path, `${path}.data`]).filter((path) => existsSync(path));
  return files.reduce((sum, path) => sum + statSync(path).size, 0);
}

export function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
