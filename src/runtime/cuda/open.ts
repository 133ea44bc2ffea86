import { dirname } from 'node:path';
import type { DraftingModel } from '../../decoding/types.js';
import { RuntimeFailure } from '../../util/errors.js';
import { prepareCommand } from '../../models/prepareCommand.js';
import type { DeviceSteps, OpenOptions } from '../spec.js';
import { CudaRuntime } from './cudaRuntime.js';
import { CudaDevice } from './device.js';
import { IoBoundModel, planFor, rowLimits } from './ioBoundModel.js';
import { graphBytes, requireMemory } from './memoryEstimate.js';
import { loadCudaLibrary, locateCudaLibrary } from './ortLibrary.js';

/** How steps reach the device, for experiments: `bound`, `packed` or `graphs`. */
export const STEPS_VARIABLE = 'MEDUSA_CUDA_STEPS';
const STEPS: readonly DeviceSteps[] = ['bound', 'packed', 'graphs'];

/** @throws RuntimeFailure when the environment asks for something unknown */
export function deviceSteps(environment = process.env): DeviceSteps | undefined {
  const wanted = environment[STEPS_VARIABLE];
  if (!wanted) return undefined;
  const found = STEPS.find((each) => each === wanted);
  if (found === undefined) {
    throw new RuntimeFailure(`${STEPS_VARIABLE}=${wanted}: unknown; it is one of ${STEPS.join(', ')}.`);
  }
  return found;
}

/**
 * Opens a model on a CUDA device. Never falls back to another.
 *
 * @throws RuntimeFailure when the library, CUDA or the device is missing or too old, or the backbone is not float16
 * @throws ModelError when a graph is missing, damaged or of another kind
 */
export async function openOnCuda(options: OpenOptions): Promise<DraftingModel> {
  const steps = options.deviceSteps ?? deviceSteps();
  const library = locateCudaLibrary(options.ortLibrary);
  const { path, precision } = options.backbone;
  if (precision !== 'fp16') {
    throw new RuntimeFailure(
      `${path} is ${precision}; CUDA's GroupQueryAttention takes float16 only. Use --precision fp16 (${prepareCommand(dirname(path), '--precision', 'fp16')}).`,
    );
  }
  const api = await loadCudaLibrary(library);
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
  return IoBoundModel.open(api, device, { ...options, deviceSteps: steps });
}
