import type { ModelShape } from '../spec.js';

/** Where everything lies in the shared layout, and what crosses to the device and back: arithmetic only. */

const INT64 = 8;
const INT32 = 4;
const FLOAT32 = 4;

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
export function biasColumns({ capacity }: Pick<SharedPlan, 'capacity'>, past: number, rows: number): number {
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

/** What cudaMalloc aligns to. */
const PACKING = 256;

/** Byte offsets of tensors in one buffer, and the length up to the last one's end. */
export type Packed<Name extends string> = Readonly<Record<Name | 'bytes', number>>;

/** Places tensors of the given bytes one after the other, so that one copy sends them all. */
function pack<Name extends string>(sizes: Record<Name, number>): Packed<Name> {
  let end = 0;
  const offsets = {} as Record<Name | 'bytes', number>;
  for (const name of Object.keys(sizes) as Name[]) {
    offsets[name] = Math.ceil(end / PACKING) * PACKING;
    end = offsets[name] + sizes[name];
  }
  offsets.bytes = end;
  return offsets;
}

export type PackedInputs = Packed<'bias' | 'ids' | 'positions' | 'outputRows' | 'lastKey'>;

/** The inputs of the backbone that change with each run. */
export function packInputs({ rows, outputs, columns }: RunShape, elementBytes: number): PackedInputs {
  return pack({
    bias: rows * columns * elementBytes,
    ids: rows * INT64,
    positions: rows * INT64,
    outputRows: outputs * INT64,
    lastKey: INT32,
  });
}

/** The inputs of the heads that change with each run: the row's number and, for heads that read one, a token. */
export function packHeadInputs(readsToken: boolean): Packed<'row' | 'token'> {
  return { row: 0, token: INT64, bytes: readsToken ? 2 * INT64 : INT64 };
}

/** What the heads give: lists of `topM` candidates, and hidden terms of `contextSize` values where a table reads some. */
export function packProposals(
  heads: number,
  topM: number,
  contextSize = 0,
): Packed<'ids' | 'probabilities' | 'hiddenTerms'> {
  return pack({
    ids: heads * topM * INT64,
    probabilities: heads * topM * FLOAT32,
    hiddenTerms: heads * contextSize * FLOAT32,
  });
}

/** The inputs of a move within the cache. */
export function packMove(shape: ModelShape, moved: number): Packed<'writeIndices' | 'rows'> {
  return pack({ writeIndices: cacheBlocks(shape) * INT64, rows: moved * INT64 });
}
