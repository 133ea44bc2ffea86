import { dirname } from 'node:path';
import type { DraftingModel } from '../../decoding/types.js';
import { readSwitch } from '../../util/environment.js';
import { RuntimeFailure } from '../../util/errors.js';
import { prepareCommand } from '../../models/prepareCommand.js';
import type { OpenOptions } from '../spec.js';
import { CudaRuntime } from './cudaRuntime.js';
import { CudaDevice } from './device.js';
import { SharedModel, planFor, rowLimits } from './sharedModel.js';
import { graphBytes, requireMemory } from './memoryEstimate.js';
import { loadCudaLibrary, locateCudaLibrary } from './ortLibrary.js';

/**
 * Whether anything could run on CUDA here: said before a model is asked for its graphs.
 *
 * @throws RuntimeFailure when the library, CUDA or the device is missing or too old
 */
export async function checkCuda(ortLibrary: string | undefined): Promise<void> {
  await loadCudaLibrary(locateCudaLibrary(ortLibrary));
  await CudaRuntime.load();
}

/**
 * Opens a model on a CUDA device. Never falls back to another.
 *
 * @throws RuntimeFailure when the library, CUDA or the device is missing or too old, or the backbone is not float16
 * @throws ModelError when a graph is missing, damaged or of another kind
 */
export async function openOnCuda(options: OpenOptions): Promise<DraftingModel> {
  const cudaGraphs = options.cudaGraphs ?? readSwitch('MEDUSA_PLUS_CUDA_GRAPHS');
  const library = locateCudaLibrary(options.ortLibrary);
  const { path, precision } = options.backbone;
  if (precision !== 'fp16') {
    throw new RuntimeFailure(
      `${path} is ${precision}; CUDA's GroupQueryAttention takes float16 only. Use --precision fp16 (${prepareCommand(dirname(path), '--precision', 'fp16')}).`,
    );
  }
  const api = await loadCudaLibrary(library);
  const plan = planFor(options);
  const device = new CudaDevice(api, await CudaRuntime.load());
  try {
    const weights = graphBytes([options.backbone, options.heads].flatMap((graph) => graph?.path ?? []));
    const { prefill, usual } = rowLimits(options, plan);
    requireMemory(plan, weights, { perRun: prefill, verified: usual }, device.freeMemory());
  } catch (error) {
    device.dispose();
    throw error;
  }
  return SharedModel.open(api, device, { ...options, cudaGraphs });
}
