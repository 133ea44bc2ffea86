import type { VerifyOptions } from '../../decoding/types.js';
import { cacheOffset, type SharedPlan } from './bindingPlan.js';
import { type Buffers, floatType } from './buffers.js';
import type { IoBinding, Place } from './ioSession.js';

/** The rows of one run of the backbone: a chunk of a prompt, or a tree. */
export interface RunRows {
  /** [n] */
  readonly ids: Int32Array;
  /** [n] row of each row's parent, -1 for the root. */
  readonly parents: Int32Array;
  /** [n] */
  readonly depths: Int32Array;
  /** [r] consecutive rows whose result is wanted. */
  readonly outputRows: ArrayLike<number>;
}

export interface RunResults {
  /** [r] */
  readonly nextTokens: Int32Array;
  /** [r, V], when all were asked for. */
  readonly logits?: Float32Array;
  /** See `VerifiedRows`. */
  readonly logitsOf?: (row: number) => Float32Array;
}

/** One way to get a run's inputs to the device and its results back. Hidden states stay there, in `Buffers.hidden`. */
export interface BackboneRunner {
  /** Runs `rows` behind `past` cached positions; the cache has room for them. */
  run(rows: RunRows, past: number, logits: VerifyOptions['logits']): Promise<RunResults>;
  /** Frees what the runner made itself; sessions and device memory have owners of their own. */
  release(): void;
}

/** Binds the cache, in and out, at the same addresses: GroupQueryAttention then writes in place. */
export function bindCache(binding: IoBinding, plan: SharedPlan, buffers: Buffers): void {
  const { layers, kvHeads, headDim } = plan.shape;
  const block = [1, kvHeads, plan.capacity, headDim];
  for (let layer = 0; layer < layers; layer++) {
    for (const [part, name] of [
      [0, 'key'],
      [1, 'value'],
    ] as const) {
      const place: Place = buffers.cacheAt(cacheOffset(plan, layer, part));
      binding.bindInput(`cache_${name}.${layer}`, place, floatType(plan), block);
      binding.bindOutput(`cache_${name}_out.${layer}`, place, floatType(plan), block);
    }
  }
}
