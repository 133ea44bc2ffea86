import { Tensor } from './ort.js';
import type { ModelShape } from '../spec.js';
import type { Feeds } from './session.js';

/**
 * Padded capacities are multiples of this many positions. Smaller steps move the cache more often and make ONNX
 * Runtime plan for a new shape more often, larger ones make attention read more padding: at 64 these balance
 * (measured: 4-9 us a padded column and step, 1 ms a step at 256 positions, 3 ms at 1024).
 */
export const CAPACITY_STEP = 64;
/** Memory is reserved for at least this many positions (the system provides only what is touched). */
const SMALLEST_RESERVE = 2048;

/**
 * The KV cache of the split layout: for each layer a key and a value array [1, G, C, D] that the graph reads in place.
 *
 * C follows the length in steps of `CAPACITY_STEP`, because every padded column costs attention time. A step moves
 * the heads apart inside memory that was reserved for a larger capacity (doubled when it runs out), so that it costs
 * one memory move of the past and no fresh pages.
 */
export class SplitCache {
  /** Positions cached. */
  length = 0;
  /** C: positions each head's block can hold in the present layout. */
  capacity = 0;
  /** Positions that the reserved memory can hold. */
  private reserved = 0;
  /** [2 * layers][G * C * D]: key 0, value 0, key 1, ... */
  private arrays: Float32Array<ArrayBuffer>[] = [];

  constructor(
    private readonly shape: ModelShape,
    /** The graph's inputs; `past_key.{i}` and `past_value.{i}` are kept up to date here. */
    private readonly feeds: Feeds,
  ) {
    this.layOut(0);
  }

  /** Forgets positions from `length` on. The bias hides their stale rows. */
  truncate(length: number): void {
    this.length = length;
    // A much shorter past should not go on paying for the columns of the longer one.
    if (this.capacity > CAPACITY_STEP && roundUp(length) * 2 <= this.capacity) this.layOut(length);
  }

  /**
   * Appends rows of a run's packed new keys and values.
   *
   * @param packed [L, 2, G, n, D]
   * @param n rows of that run
   * @param rows the rows to append, in order
   */
  append(packed: Float32Array, n: number, rows: readonly number[]): void {
    this.reserve(this.length + rows.length);
    const { kvHeads, headDim } = this.shape;
    const runs = contiguousRuns(rows);
    let source = 0;
    for (const array of this.arrays) {
      for (let head = 0; head < kvHeads; head++) {
        let target = (head * this.capacity + this.length) * headDim;
        for (const { first, count } of runs) {
          const from = source + first * headDim;
          array.set(packed.subarray(from, from + count * headDim), target);
          target += count * headDim;
        }
        source += n * headDim;
      }
    }
    this.length += rows.length;
  }

  private reserve(length: number): void {
    if (length > this.capacity) this.layOut(length);
  }

  /** Moves to the smallest capacity for `length` positions, keeping those cached. */
  private layOut(length: number): void {
    const { layers, kvHeads, headDim } = this.shape;
    const capacity = Math.max(roundUp(length), CAPACITY_STEP);
    const kept = Math.min(this.length, length);
    const grown = capacity > this.reserved;
    if (grown)
      this.reserved = Math.max(
        capacity,
        2 * this.reserved,
        Math.min(SMALLEST_RESERVE, roundUp(this.shape.contextLength)),
      );
    for (let i = 0; i < 2 * layers; i++) {
      const old = this.arrays[i];
      const buffer = grown ? new ArrayBuffer(this.reserved * kvHeads * headDim * 4) : old.buffer;
      const array = new Float32Array(buffer, 0, kvHeads * capacity * headDim);
      if (old) moveHeads(old, this.capacity, array, capacity, kept, this.shape);
      this.arrays[i] = array;
      this.feeds[`past_${i % 2 === 0 ? 'key' : 'value'}.${i >> 1}`] = new Tensor('float32', array, [
        1,
        kvHeads,
        capacity,
        headDim,
      ]);
    }
    this.capacity = capacity;
  }
}

function roundUp(length: number): number {
  return Math.ceil(length / CAPACITY_STEP) * CAPACITY_STEP;
}

/** Copies `kept` positions of each head from one capacity to another; the arrays may share memory. */
function moveHeads(
  source: Float32Array,
  sourceCapacity: number,
  target: Float32Array,
  targetCapacity: number,
  kept: number,
  { kvHeads, headDim }: ModelShape,
): void {
  const size = kept * headDim;
  if (size === 0) return;
  const apart = targetCapacity > sourceCapacity;
  for (let i = 0; i < kvHeads; i++) {
    // Moving apart starts with the last head, moving together with the first, so that nothing is overwritten unread.
    const head = apart ? kvHeads - 1 - i : i;
    const from = head * sourceCapacity * headDim;
    target.set(
      new Float32Array(source.buffer, source.byteOffset + from * 4, size),
      head * targetCapacity * headDim,
    );
  }
}

interface RowRun {
  readonly first: number;
  readonly count: number;
}

/** Splits rows into stretches of consecutive ones: [0, 1, 5] -> 0..1, 5. */
function contiguousRuns(rows: readonly number[]): RowRun[] {
  const runs: { first: number; count: number }[] = [];
  for (const row of rows) {
    const last = runs.at(-1);
    if (last && last.first + last.count === row) last.count++;
    else runs.push({ first: row, count: 1 });
  }
  return runs;
}
