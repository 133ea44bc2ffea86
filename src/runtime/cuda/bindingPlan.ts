import type { ModelShape } from '../spec.js';

/** Where everything lies in the shared layout, and what crosses to the device and back: arithmetic only. */

/** The bias spans a multiple of this many columns, so that its shape changes rarely. */
export const BIAS_BUCKET = 256;

export interface SharedPlan {
  readonly shape: ModelShape;
  /** Positions of the cache buffer. */
  readonly capacity: number;
  /** Bytes of one element of cache, hidden states and bias: 2 (float16) or 4 (float32). */
  readonly elementBytes: number;
}

/** Blocks [capacity, D] of the cache: keys then values of each layer, each with its heads. */
export function cacheBlocks({ layers, kvHeads }: ModelShape): number {
  return layers * 2 * kvHeads;
}

export function cacheBytes({ shape, capacity, elementBytes }: SharedPlan): number {
  return cacheBlocks(shape) * capacity * shape.headDim * elementBytes;
}

/** Byte offset of a layer's keys (part 0) or values (part 1), [1, G, capacity, D], in the cache buffer. */
export function cacheOffset(
  { shape, capacity, elementBytes }: SharedPlan,
  layer: number,
  part: 0 | 1,
): number {
  return (2 * layer + part) * shape.kvHeads * capacity * shape.headDim * elementBytes;
}

/**
 * T, the columns of the bias: a bucket with room for the past and this run's rows. It exceeds them by one where it
 * can, because GroupQueryAttention on the CPU takes a run of exactly T rows for a first prompt.
 */
export function biasColumns(past: number, rows: number, capacity: number): number {
  return Math.min(Math.ceil((past + rows + 1) / BIAS_BUCKET) * BIAS_BUCKET, capacity);
}

/** Cache rows to move after acceptance; positions are absolute. */
export interface RowMove {
  readonly from: readonly number[];
  readonly to: number;
}

/**
 * What must move for `rows` of a tree verified at `past` to follow the past without gaps: nothing for the leading
 * rows that lie in place already, undefined when that is all of them.
 */
export function rowMove(rows: readonly number[], past: number): RowMove | undefined {
  const inPlace = rows.findIndex((row, i) => row !== i);
  if (inPlace < 0) return undefined;
  return { from: rows.slice(inPlace).map((row) => past + row), to: past + inPlace };
}

export interface StepTraffic {
  readonly toDevice: number;
  readonly fromDevice: number;
}

/** Bytes that cross to the device and back in one step, derived from the bindings. */
export function stepTraffic(
  plan: SharedPlan,
  step: {
    readonly nodes: number;
    readonly past: number;
    readonly moved: number;
    readonly heads: number;
    readonly topM: number;
  },
): StepTraffic {
  const { nodes, past, moved, heads, topM } = step;
  const int64 = 8;
  const ids = 3 * nodes * int64; // input_ids, position_ids, output_rows
  const bias = nodes * biasColumns(past, nodes, plan.capacity) * plan.elementBytes;
  const flags = 4 + 4 + 1; // seqlens_k, total_sequence_length, want_logits
  const keep = moved > 0 ? (moved + cacheBlocks(plan.shape)) * int64 : 0;
  const propose = heads > 0 ? 2 * int64 : 0;
  return {
    toDevice: ids + bias + flags + keep + propose,
    fromDevice: nodes * int64 + heads * topM * (int64 + 4),
  };
}
