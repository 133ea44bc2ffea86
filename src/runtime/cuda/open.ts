import type { DraftingModel } from '../../decoding/types.js';
import type { OpenOptions } from '../spec.js';
import { CudaRuntime } from './cudaRuntime.js';
import { CudaDevice } from './device.js';
import { IoBoundModel, planFor, rowLimits } from './ioBoundModel.js';
import { graphBytes, requireMemory } from './memoryEstimate.js';
import { loadCudaLibrary, locateCudaLibrary } from './ortLibrary.js';

/**
 * Opens a model on a CUDA device. Never falls back to another.
 *
 * @throws RuntimeFailure when the library, CUDA or the device is missing or too old
 * @throws ModelError when a graph is missing, damaged or of another kind
 */
export async function openOnCuda(options: OpenOptions): Promise<DraftingModel> {
  const api = await loadCudaLibrary(locateCudaLibrary(options.ortLibrary));
  const plan = planFor(options);
  const device = new CudaDevice(api, await CudaRuntime.load(), options.deviceId ?? 0);
  try {
    const weights = graphBytes([options.backbone, options.heads].flatMap((graph) => graph?.path ?? []));
    const { prefill, usual } = rowLimits(options, plan);
    requireMemory(plan, weights, { perRun: prefill, verified: usual }, device.freeMemory());
  } catch (error) {
    device.dispose();
    throw error;
  }
  return IoBoundModel.open(api, device, options);
}
