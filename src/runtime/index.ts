import type { DraftingModel } from '../decoding/types.js';
import { SplitModel } from './cpu/splitModel.js';
import type { OpenOptions } from './spec.js';

export type * from './spec.js';

/**
 * Opens a backbone and its heads.
 *
 * @throws ModelError when a graph is missing, damaged or does not fit
 * @throws RuntimeFailure when ONNX Runtime or a library it needs is missing or fails
 */
export async function openModel(options: OpenOptions): Promise<DraftingModel> {
  return SplitModel.open(options);
}
