import { outputOf } from '../util/childProcess.js';
import { nodeRuntimeVersion } from './cpu/facts.js';
import { CudaRuntime } from './cuda/cudaRuntime.js';
import { OrtApi } from './cuda/ortApi.js';
import { cudaProviderLibrary, shippedLibrary } from './cuda/ortLibrary.js';
import { messageOf } from './messages.js';

/** What `medusa-plus doctor` asks about: nothing here throws, a failure is a finding. */

/** The ONNX Runtime inside onnxruntime-node, which the CPU provider uses. */
export interface NodeRuntimeFacts {
  /** Version of the package onnxruntime-node. */
  readonly version: string;
  readonly library: string | undefined;
}

export function nodeRuntimeFacts(): NodeRuntimeFacts {
  const version = nodeRuntimeVersion();
  try {
    return { version, library: shippedLibrary() };
  } catch {
    return { version, library: undefined };
  }
}

/** One libonnxruntime, as the C API presents it. */
export interface LibraryFacts {
  readonly path: string;
  readonly version?: string;
  readonly providers?: readonly string[];
  /** Why nothing is known about it. */
  readonly error?: string;
}

/** Loads a library and asks it for its version and execution providers. */
export async function libraryFacts(path: string): Promise<LibraryFacts> {
  try {
    const api = await OrtApi.load(path);
    return { path, version: api.version, providers: api.availableProviders() };
  } catch (cause) {
    return { path, error: messageOf(cause) };
  }
}

/** The CUDA provider beside a libonnxruntime. */
export interface CudaProviderFacts {
  readonly path: string;
  /** Libraries that the loader does not find, by name. */
  readonly missing: readonly string[];
  readonly error?: string;
}

/**
 * The CUDA provider library in the folder of `library`, and what it lacks; undefined when there is none.
 *
 * @param library path of libonnxruntime
 */
export async function cudaProviderFacts(library: string): Promise<CudaProviderFacts | undefined> {
  const path = cudaProviderLibrary(library);
  if (path === undefined) return undefined;
  try {
    return { path, missing: await missingLibraries(path) };
  } catch (cause) {
    return { path, missing: [], error: messageOf(cause) };
  }
}

/**
 * Bytes of the first CUDA device, asked of the CUDA runtime itself.
 *
 * @throws RuntimeFailure when the runtime, a driver or a device is missing, or they do not fit each other
 */
export async function cudaMemory(): Promise<{ free: number; total: number }> {
  const cuda = await CudaRuntime.load();
  cuda.useDevice();
  return cuda.memory();
}

/** Libraries that `path` needs, directly or through others, and that the loader does not find (Linux). */
async function missingLibraries(path: string): Promise<string[]> {
  return parseLdd(await outputOf('ldd', [path]));
}

/** The names that ldd reports as not found. */
export function parseLdd(output: string): string[] {
  const missing = output.split('\n').flatMap((line) => /^\s*(\S+) => not found/.exec(line)?.[1] ?? []);
  return [...new Set(missing)];
}

export interface GpuFacts {
  readonly name: string;
  readonly memoryMiB: number;
  readonly driver: string;
}

/** The GPUs that nvidia-smi lists; undefined when it is not there or fails. */
export async function gpuFacts(): Promise<GpuFacts[] | undefined> {
  try {
    const query = '--query-gpu=name,memory.total,driver_version';
    return parseGpus(await outputOf('nvidia-smi', [query, '--format=csv,noheader,nounits']));
  } catch {
    return undefined;
  }
}

/** "name, memory, driver" lines. */
export function parseGpus(output: string): GpuFacts[] {
  return output
    .split('\n')
    .map((line) => line.split(',').map((part) => part.trim()))
    .filter((parts) => parts.length === 3)
    .map(([name, memory, driver]) => ({ name, memoryMiB: Number(memory), driver }));
}
