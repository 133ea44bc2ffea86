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
  /** The bias always spans the capacity: the Attention of opset 24 wants a mask over the whole cache. */
  readonly wholeBias?: boolean;
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
export function biasColumns(
  { capacity, wholeBias }: Pick<SharedPlan, 'capacity' | 'wholeBias'>,
  past: number,
  rows: number,
): number {
  if (wholeBias) return capacity;
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

/** Trees up to here are padded to a power of two, larger ones and prompts to a multiple of it. */
const LARGEST_POWER = 64;

/** The number of rows that a run of `rows` is padded to where shapes must repeat. */
export function rowBucket(rows: number): number {
  if (rows > LARGEST_POWER) return Math.ceil(rows / LARGEST_POWER) * LARGEST_POWER;
  return 2 ** Math.ceil(Math.log2(rows));
}

/** Shapes of one run: n rows, r of which give a result, T columns of the bias. */
export interface RunShape {
  readonly rows: number;
  readonly outputs: number;
  readonly columns: number;
}

/** Byte offsets of a run's inputs in one buffer, and its length. */
export interface PackedInputs {
  readonly bias: number;
  readonly ids: number;
  readonly positions: number;
  readonly outputRows: number;
  readonly lastKey: number;
  readonly bytes: number;
}

/** What cudaMalloc aligns to. */
const PACKING = 256;

/** Places the inputs that change with each run one after the other, so that one copy sends them all. */
export function packInputs({ rows, outputs, columns }: RunShape, elementBytes: number): PackedInputs {
  let end = 0;
  const place = (bytes: number): number => {
    const offset = end;
    end = Math.ceil((offset + bytes) / PACKING) * PACKING;
    return offset;
  };
  return {
    bias: place(rows * columns * elementBytes),
    ids: place(rows * 8),
    positions: place(rows * 8),
    outputRows: place(outputs * 8),
    lastKey: place(4),
    bytes: end,
  };
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
    readonly readsToken?: boolean;
  },
  packed = false,
): StepTraffic {
  const { nodes, past, moved, heads, topM, readsToken } = step;
  const int64 = 8;
  const rows = packed ? Math.min(rowBucket(nodes), plan.capacity - past) : nodes;
  const columns = biasColumns(plan, past, rows);
  const inputs = packed
    ? packInputs({ rows, outputs: rows, columns }, plan.elementBytes).bytes
    : // input_ids, position_ids, output_rows; the bias; seqlens_k, total_sequence_length
      3 * rows * int64 + rows * columns * plan.elementBytes + 4 + 4;
  const keep = moved > 0 ? (moved + cacheBlocks(plan.shape)) * int64 : 0;
  // row and top_m; token
  const propose = heads > 0 ? (readsToken ? 3 : 2) * int64 : 0;
  return {
    toDevice: inputs + keep + propose,
    fromDevice: rows * int64 + heads * topM * (int64 + 4),
  };
}
