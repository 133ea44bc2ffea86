import type { Int8Products } from './cpu/kernels.js';
import type { OpenModel, OpenOptions } from './spec.js';
import { switchOffTelemetryInWorker } from './telemetry.js';

export { measureHeads, measureRowExactness, measureStepCost } from './measure.js';
export type * from './spec.js';

/**
 * Opens a backbone and its heads. Each provider's libraries are loaded only when it is the one asked for: a GPU build
 * of ONNX Runtime should not share the process with the one that onnxruntime-node brings.
 *
 * @throws ModelError when a graph is missing, damaged or does not fit
 * @throws RuntimeFailure when ONNX Runtime or a library it needs is missing, too old, or fails
 */
export async function openModel(options: OpenOptions): Promise<OpenModel> {
  await switchOffTelemetryInWorker();
  if (options.provider === 'cuda') return (await import('./cuda/open.js')).openOnCuda(options);
  return (await import('./cpu/splitModel.js')).SplitModel.open(options);
}

/**
 * Whether the provider could run anything on this machine.
 *
 * @throws RuntimeFailure when a library or a device is missing
 */
export async function checkProvider(
  provider: OpenOptions['provider'],
  ortLibrary: string | undefined,
): Promise<void> {
  if (provider !== 'cuda') return;
  await switchOffTelemetryInWorker();
  await (await import('./cuda/open.js')).checkCuda(ortLibrary);
}

/** What the products of int8 graphs are like on this machine (cpu/kernels.ts). */
export async function int8Products(): Promise<Int8Products> {
  await switchOffTelemetryInWorker();
  return (await import('./cpu/kernels.js')).int8Products();
}
