/** What the runtime must be told to open a model: plain structs, so that it reads no manifest itself. */
import type { DraftingModel } from '../decoding/types.js';

/** The sizes of the backbone that the runtime needs for its buffers. */
export interface ModelShape {
  readonly layers: number;
  readonly hiddenSize: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  /** Most positions the backbone was made for. */
  readonly contextLength: number;
}

/** Where the past keys and values live: `split` outside the graph (CPU), `shared` written by the graph in place. */
export type CacheLayout = 'split' | 'shared';

export interface BackboneFile {
  readonly path: string;
  /** `fp32`, `fp16`, `int8`, `int8-block`, `int4`; decides the element type of the shared layout. */
  readonly precision: string;
  readonly layout: CacheLayout;
  /** Cache capacity the graph was exported for; null or undefined when the runtime may choose. */
  readonly capacity?: number | null;
}

export interface HeadsFile {
  readonly path: string;
  readonly precision: string;
  /** Number of heads in the graph. */
  readonly count: number;
  /** Most candidates per head the graph can return. */
  readonly maxTopM: number;
  /** r, when the graph has the output `context` [count, r] and it is wanted. */
  readonly contextSize?: number;
  /** Whether the graph has the input `token` [1]: the next tree's root. Default false. */
  readonly readsToken?: boolean;
}

export interface KeepFile {
  readonly path: string;
  readonly precision: string;
}

/** Where the graphs run. */
export type Provider = 'cpu' | 'cuda';

export interface OpenOptions {
  readonly shape: ModelShape;
  readonly backbone: BackboneFile;
  /** Without heads the model decodes plainly: `headCount` is 0. */
  readonly heads?: HeadsFile;
  /** Needed by the shared layout. */
  readonly keep?: KeepFile;
  readonly provider: Provider;
  /** Threads of the backbone on the CPU; 0 lets ONNX Runtime choose (one per core). */
  readonly threads: number;
  /** Most positions to cache; the backbone's own limit when absent. */
  readonly contextLength?: number;
  /** Most nodes `verify` will be given; sizes device buffers. Default 1024. */
  readonly maxNodes?: number;
  /** Prompt rows per run; default chosen per provider. */
  readonly prefillRows?: number;
  /** Fewest rows of a run on the CPU; by default what the precision's kernels need here (cpu/kernels.ts). */
  readonly leastRows?: number;
  /** Path of the ONNX Runtime library for `cuda` (else the environment variable MEDUSA_PLUS_ORT_LIBRARY). */
  readonly ortLibrary?: string;
  /** Whether steps are captured as CUDA graphs and replayed; by default as MEDUSA_PLUS_CUDA_GRAPHS says. */
  readonly cudaGraphs?: boolean;
}

export interface OpenModel extends DraftingModel {
  /**
   * Goes on with another number of threads, between any two calls but `verify` and `keep`; what is cached stays. Takes as long as opening the
   * model, and both are in memory for a moment. Absent on CUDA.
   */
  useThreads?(threads: number): Promise<void>;
}

/** Elements of the cache per position, keys and values of all layers together. */
export function cacheElementsPerPosition(shape: ModelShape): number {
  return shape.layers * 2 * shape.kvHeads * shape.headDim;
}
