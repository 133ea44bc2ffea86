import type { TableActivation } from './conditionalTable.js';
import { kernelBytes } from './scoreKernelBytes.js';

type Weigh = (
  query: number,
  terms: number,
  biases: number,
  gains: number,
  rows: number,
  probabilities: number,
  weights: number,
  rank: number,
  width: number,
  silu: boolean,
) => void;

/** Values of a SIMD vector: ranks and widths are padded to whole ones, with zeros. */
const LANES = 4;
const FLOAT32 = 4;
const WASM_PAGE = 65536;

let compiled: WebAssembly.Module | undefined;

/**
 * The arithmetic of a conditional search, in WebAssembly with SIMD (scoreKernel.as.ts): the weights p e^s of a node's
 * children, from the terms that make their query. float32 throughout.
 */
export class ScoreKernel {
  /** [width, rounded up] p e^s after `weigh`. */
  weights: Float32Array = new Float32Array(0);

  private readonly memory = new WebAssembly.Memory({ initial: 1 });
  private readonly call: Weigh;
  private readonly paddedRank: number;
  private paddedWidth = 0;
  private heads = 0;
  /** Terms of the query so far. */
  private terms = 0;
  /** Byte offsets in the memory; the terms begin at 0. */
  private biasesAt = 0;
  private gainsAt = 0;
  private probabilitiesAt = 0;
  private rowsAt = 0;
  private weightsAt = 0;
  private values = new Float32Array(this.memory.buffer);

  /**
   * @param mostTerms of a query
   * @param own [K, rank] each, biases and gains of every head, where the table has some
   */
  constructor(
    private readonly rank: number,
    private readonly activation: TableActivation,
    private readonly mostTerms: number,
    private readonly own?: { readonly biases: Float32Array; readonly gains: Float32Array },
  ) {
    compiled ??= new WebAssembly.Module(Buffer.from(kernelBytes, 'base64'));
    const { exports } = new WebAssembly.Instance(compiled, { env: { memory: this.memory } });
    this.call = exports.weigh as Weigh;
    this.paddedRank = padded(rank);
  }

  /** Makes room for `heads` lists of `width` candidates. What was there is gone when there was too little. */
  reserve(heads: number, width: number): void {
    if (heads <= this.heads && padded(width) === this.paddedWidth) return;
    this.paddedWidth = padded(width);
    this.heads = heads;
    const { paddedRank, paddedWidth, rank, own } = this;
    const ownHeads = own === undefined ? 0 : own.gains.length / rank;
    this.weightsAt = Math.max(this.mostTerms, 1) * paddedRank * FLOAT32;
    this.biasesAt = this.weightsAt + paddedWidth * FLOAT32;
    this.gainsAt = this.biasesAt + ownHeads * paddedRank * FLOAT32;
    this.probabilitiesAt = this.gainsAt + ownHeads * paddedRank * FLOAT32;
    this.rowsAt = this.probabilitiesAt + heads * paddedWidth * FLOAT32;
    const bytes = this.rowsAt + heads * paddedWidth * paddedRank * FLOAT32;
    const missing = bytes - this.memory.buffer.byteLength;
    if (missing > 0) this.memory.grow(Math.ceil(missing / WASM_PAGE));
    // Growing the memory detaches every view of it.
    this.values = new Float32Array(this.memory.buffer).fill(0);
    this.weights = this.values.subarray(this.weightsAt / FLOAT32, this.weightsAt / FLOAT32 + paddedWidth);
    for (let head = 0; head < ownHeads; head++) {
      const of = (values: Float32Array): Float32Array => values.subarray(head * rank, (head + 1) * rank);
      this.values.set(of(own!.biases), this.biasesAt / FLOAT32 + head * paddedRank);
      this.values.set(of(own!.gains), this.gainsAt / FLOAT32 + head * paddedRank);
    }
  }

  /**
   * Sets a candidate of a head: its probability and, from `row` on in `source`, what its score is the product with; a
   * negative `row` stands for zeros.
   */
  setCandidate(head: number, slot: number, probability: number, source: Float32Array, row: number): void {
    const { values, paddedRank, paddedWidth, rank } = this;
    const at = head * paddedWidth + slot;
    values[this.probabilitiesAt / FLOAT32 + at] = probability;
    const to = this.rowsAt / FLOAT32 + at * paddedRank;
    if (row < 0) values.fill(0, to, to + rank);
    else values.set(source.subarray(row, row + rank), to);
  }

  /** Adds the `rank` values from `from` on to the query that is weighed next. */
  addTerm(source: Float32Array, from: number): void {
    this.values.set(source.subarray(from, from + this.rank), this.terms++ * this.paddedRank);
  }

  /** Turns the terms into `weights`, for the candidates of a head. */
  weigh(head: number): void {
    const { paddedRank, paddedWidth, own } = this;
    const first = head * paddedWidth * FLOAT32;
    const ofHead = head * paddedRank * FLOAT32;
    this.call(
      0,
      this.terms,
      own === undefined ? 0 : this.biasesAt + ofHead,
      own === undefined ? 0 : this.gainsAt + ofHead,
      this.rowsAt + first * paddedRank,
      this.probabilitiesAt + first,
      this.weightsAt,
      paddedRank,
      paddedWidth,
      this.activation === 'silu',
    );
    this.terms = 0;
  }
}

function padded(count: number): number {
  return Math.ceil(count / LANES) * LANES;
}
