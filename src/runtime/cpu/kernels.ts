import { encodeGraph, type SmallGraph } from './smallGraph.js';
import { InferenceSession, Tensor } from './ort.js';

/**
 * What ONNX Runtime's quantised kernels compute on this machine. Which kernel runs depends on the processor, the
 * architecture and the version of ONNX Runtime, so it is run and its results are looked at.
 */

/**
 * Products of uint8 activations and int8 weights. Where the processor has no instruction for them, ONNX Runtime adds
 * pairs of products in 16 bits, which saturate.
 *
 * - `exact`: whole numbers without error.
 * - `unsigned`: exact when the session keeps the weights as uint8 (`session.x64quantprecision`), which takes longer.
 * - `saturating`: wrong for large values either way.
 */
export type Int8Products = 'exact' | 'unsigned' | 'saturating';

/** Session options under which int8 products are as exact as they can be here. */
export const unsignedWeights = { x64quantprecision: '1' };

let known: Promise<Int8Products> | undefined;

/** Measured once a process. */
export function int8Products(): Promise<Int8Products> {
  known ??= measureInt8Products();
  return known;
}

async function measureInt8Products(): Promise<Int8Products> {
  if (await isExactWith({})) return 'exact';
  return (await isExactWith(unsignedWeights)) ? 'unsigned' : 'saturating';
}

const K = 256;
const N = 32;

/** The products of the int8 graphs at their extremes: activations of 255 (zero point 128), weights of +-127. */
export const extremes: SmallGraph = {
  op: 'MatMulIntegerToFloat',
  inputs: ['x', 'weight', 'one', 'scale', 'zero'],
  constants: {
    // [K, N]: columns by turns positive and negative.
    weight: {
      type: 'int8',
      dims: [K, N],
      data: Int8Array.from({ length: K * N }, (_, i) => (i % 2 ? -127 : 127)),
    },
    one: { type: 'float32', dims: [], data: Float32Array.of(1) },
    scale: { type: 'float32', dims: [N], data: new Float32Array(N).fill(1) },
    zero: { type: 'uint8', dims: [], data: Uint8Array.of(128) },
  },
  inputType: 'uint8',
  columns: K,
  outputs: N,
};

async function isExactWith(session: Record<string, string>): Promise<boolean> {
  return withGraph(extremes, session, async (run) => {
    for (const rows of [1, 7]) {
      const y = await run(new Tensor('uint8', new Uint8Array(rows * K).fill(255), [rows, K]));
      if (!y.every((value, i) => value === (i % 2 ? -1 : 1) * 127 * 127 * K)) return false;
    }
    return true;
  });
}

/** Numbers of rows at which kernels change their ways: single rows, pairs, blocks of 4 to 16, a remainder. */
const rowCounts = [1, 2, 3, 4, 5, 8, 13, 16, 33];

const leastRowsKnown = new Map<number, Promise<number | undefined>>();

/**
 * The fewest rows that block-quantised products (MatMulNBits) must be given so that a row's result does not depend on
 * how many rows there are: 1 where a row alone gives the same bits as among others. Measured once a process.
 *
 * @param bits of a weight, 4 or 8
 * @returns undefined when no number up to 8 is enough
 */
export function leastRowsOfBlocks(bits: 4 | 8): Promise<number | undefined> {
  let found = leastRowsKnown.get(bits);
  if (!found) leastRowsKnown.set(bits, (found = measureLeastRows(bits)));
  return found;
}

async function measureLeastRows(bits: 4 | 8): Promise<number | undefined> {
  const most = rowCounts[rowCounts.length - 1];
  const x = Float32Array.from({ length: most * K }, (_, i) => noise(i) - 0.5);
  return withGraph(blockProducts(bits), {}, async (run) => {
    const results = new Map<number, Float32Array>();
    for (const rows of rowCounts) {
      results.set(rows, await run(new Tensor('float32', x.subarray(0, rows * K), [rows, K])));
    }
    const all = results.get(most)!;
    const agrees = (rows: number): boolean => results.get(rows)!.every((value, i) => value === all[i]);
    return [1, 2, 4, 8].find((least) => rowCounts.every((rows) => rows < least || agrees(rows)));
  });
}

const BLOCK = 32;

/** Products with weights in blocks of 32 with zero points, as the graphs of int4 and int8-block have them. */
function blockProducts(bits: 4 | 8): SmallGraph {
  const blocks = K / BLOCK;
  const blockBytes = (BLOCK * bits) / 8;
  const randomBytes = (length: number, seed: number): Uint8Array =>
    Uint8Array.from({ length }, (_, i) => 256 * noise(seed + i));
  return {
    op: 'MatMulNBits',
    attributes: { K, N, bits, block_size: BLOCK, accuracy_level: 4 },
    inputs: ['x', 'codes', 'scale', 'zero'],
    constants: {
      codes: {
        type: 'uint8',
        dims: [N, blocks, blockBytes],
        data: randomBytes(N * blocks * blockBytes, 1e6),
      },
      scale: {
        type: 'float32',
        dims: [N * blocks],
        data: Float32Array.from({ length: N * blocks }, (_, i) => 0.5 + noise(2e6 + i)),
      },
      zero: {
        type: 'uint8',
        dims: [(N * blocks * bits) / 8],
        data: randomBytes((N * blocks * bits) / 8, 3e6),
      },
    },
    inputType: 'float32',
    columns: K,
    outputs: N,
  };
}

/** A number in [0, 1) that looks random and is the same in every run. */
function noise(index: number): number {
  const value = Math.sin(index + 1) * 43758.5453;
  return value - Math.floor(value);
}

async function withGraph<T>(
  graph: SmallGraph,
  session: Record<string, string>,
  work: (run: (x: Tensor) => Promise<Float32Array>) => Promise<T>,
): Promise<T> {
  const opened = await InferenceSession.create(encodeGraph(graph), {
    executionProviders: ['cpu'],
    intraOpNumThreads: 1,
    extra: { session },
  });
  try {
    return await work(async (x) => (await opened.run({ x })).y.data as Float32Array);
  } finally {
    await opened.release();
  }
}
