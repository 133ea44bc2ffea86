import type { Report } from '../../util/progressReport.js';
import { checkOptions, type Kind } from './check.js';
import { modelTable, type ModelOptions } from './modelOptions.js';

export interface EngineOptions extends ModelOptions {
  /** Most nodes a tree will have (default 64): device buffers are sized for it. */
  maxNodes?: number;
  /**
   * Measure what a step costs here, where it is not known (default true). Without it, and with `threads` given, generations
   * need a number of `nodes`.
   */
  measure?: boolean;
  /** Measure what a step costs even where it is known (default false). */
  measureAgain?: boolean;
  /**
   * Use fewer threads while other programs keep processors busy (default true, on the CPU and where no number of `threads` is
   * given).
   */
  followLoad?: boolean;
  /** Told what takes long before the engine is ready: preparing, measuring. */
  report?: Report;
  signal?: AbortSignal;
}

const kinds = {
  maxNodes: 'a whole number',
  measure: 'true or false',
  measureAgain: 'true or false',
  followLoad: 'true or false',
  report: 'an object with begin, progress and note',
  signal: 'an AbortSignal',
} as const satisfies Record<Exclude<keyof EngineOptions, keyof ModelOptions>, Kind>;

/** @throws UsageError naming the option */
export const checkEngineOptions = (options: unknown): void => checkOptions(options, modelTable, kinds);
