import type { CostPoint } from '../decoding/policy/costCurve.js';

/** What an engine has open. */
export interface EngineFacts {
  readonly model: string;
  readonly modelFolder: string;
  readonly provider: 'cpu' | 'cuda';
  readonly precision: string;
  /** Name of the loaded heads; undefined when there are none. */
  readonly heads: string | undefined;
  readonly headCount: number;
  readonly maxTopM: number;
  /** Whether the heads carry a table for joint `conditional`. */
  readonly hasConditional: boolean;
  /** In use now: fewer than `calmThreads` while other programs keep processors busy. */
  readonly threads: number;
  /** As asked, or found best on a calm machine. */
  readonly calmThreads: number;
  /** What verifying a tree costs here with these threads, by its nodes, as measured when the model was first opened. */
  readonly costs: readonly CostPoint[];
  /**
   * Whether a row gives the same bits alone and in a tree on this machine, so that greedy text is that of plain decoding
   * whatever the tree; undefined on CUDA, where it is not measured.
   */
  readonly exactRows: boolean | undefined;
  readonly contextLength: number;
  /** The chat template in place of the model's own: a built-in one's name, or a file; undefined for the model's own. */
  readonly chatTemplate?: string;
}
