/**
 * Attention masks and position ids of candidate trees, written into the caller's buffers.
 *
 * A node sees the cached positions, its ancestors and itself. Parents precede children, so each row of the mask is its
 * parent's row with one more open column: a block copy and one store per node.
 */

/** Where the columns of one mask row lie. */
export interface BiasLayout {
  /** Columns of a row. */
  readonly rowLength: number;
  /** Cached positions: columns 0..past - 1 are open. */
  readonly past: number;
  /** Column of row 0 of the tree; >= past. Columns between `past` and here are padding. */
  readonly treeColumn: number;
  /** The value that closes a column; open columns hold 0. */
  readonly closed: number;
}

/** Closes a column in float32 scores without making -Infinity - (-Infinity) possible. */
export const closedFloat32 = -1e9;
/** -10000 as the bits of a float16, whose range ends at 65504. */
export const closedFloat16Bits = 0xf0e2;

/**
 * Layout "split": [n, capacity + n], the padded past first, then the tree.
 */
export function splitLayout(past: number, capacity: number, nodes: number): BiasLayout {
  return { rowLength: capacity + nodes, past, treeColumn: capacity, closed: closedFloat32 };
}

/**
 * Layout "shared": [n, total], where the tree's keys follow the past directly.
 *
 * @param closed -10000 for a Float32Array, `closedFloat16Bits` for a Uint16Array of float16 bits
 */
export function sharedLayout(past: number, total: number, closed: number): BiasLayout {
  return { rowLength: total, past, treeColumn: past, closed };
}

/**
 * Writes the additive attention bias of a tree.
 *
 * @param target [nodes, rowLength] float32 values, or float16 bits
 * @param parents [nodes] row of each node's parent, -1 for the root
 */
export function fillTreeBias(
  target: Float32Array | Uint16Array,
  parents: ArrayLike<number>,
  nodes: number,
  layout: BiasLayout,
): void {
  const { rowLength, past, treeColumn, closed } = layout;
  if (target.length < nodes * rowLength || treeColumn < past || rowLength < treeColumn + nodes) {
    throw new RangeError(
      `A bias of ${nodes} rows of ${rowLength} columns (past ${past}, tree at ${treeColumn}) does not fit ` +
        `a buffer of ${target.length} values.`,
    );
  }
  target.fill(0, 0, past);
  target.fill(closed, past, rowLength);
  target[treeColumn] = 0;
  for (let row = 1; row < nodes; row++) {
    const from = parents[row] * rowLength;
    target.copyWithin(row * rowLength, from, from + rowLength);
    target[row * rowLength + treeColumn + row] = 0;
  }
}

/** [rows] parents of a chain: -1, 0, 1, ... */
export function chainParents(rows: number): Int32Array {
  return Int32Array.from({ length: rows }, (_, row) => row - 1);
}

/**
 * Writes `values[i] + offset` as int64, for token ids (offset 0) and position ids (depths, offset = past length).
 * Goes through the 32-bit halves, because a BigInt per element costs more than the rest of the step's set-up.
 *
 * @param target [count] at least
 * @param values [count] with values[i] + offset in 0..2^31 - 1
 */
export function writeInt64(
  target: BigInt64Array,
  values: ArrayLike<number>,
  count: number,
  offset = 0,
): void {
  const halves = new Int32Array(target.buffer, target.byteOffset, 2 * count);
  for (let i = 0; i < count; i++) {
    halves[2 * i + lowHalf] = values[i] + offset;
    halves[2 * i + 1 - lowHalf] = 0;
  }
}

/** Index of the low half of an int64 in memory: 0 on the little-endian machines ONNX Runtime runs on. */
const lowHalf = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 0 : 1;
