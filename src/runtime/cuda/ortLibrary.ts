import { existsSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { nameInUse, readVariable } from '../../util/environment.js';
import { RuntimeFailure } from '../../util/errors.js';
import { requireFromHere } from '../../util/packageRoot.js';
import { isAtLeast, OrtApi } from './ortApi.js';

/** GroupQueryAttention on CUDA takes an attention bias from here on. */
const MINIMUM_CUDA_ORT = [1, 29] as const;
export const CUDA_PROVIDER = 'CUDAExecutionProvider';
export const LIBRARY_VARIABLE = 'MEDUSA_PLUS_ORT_LIBRARY';

/** File name of the library on each platform. */
const FILE_NAMES: Record<string, string | undefined> = {
  linux: 'libonnxruntime.so.1',
  darwin: 'libonnxruntime.1.dylib',
  win32: 'onnxruntime.dll',
};

/**
 * The library that onnxruntime-node brings along (CPU only).
 *
 * @throws RuntimeFailure when there is none for this platform
 */
export function shippedLibrary(): string {
  const root = dirname(requireFromHere.resolve('onnxruntime-node/package.json'));
  const folder = join(root, 'bin', 'napi-v6', process.platform, process.arch);
  const path = join(folder, FILE_NAMES[process.platform] ?? 'libonnxruntime.so.1');
  if (!existsSync(path)) {
    throw new RuntimeFailure(
      `onnxruntime-node has no library for ${process.platform} ${process.arch}: ${path} is missing.`,
    );
  }
  return path;
}

/**
 * Path of the ONNX Runtime library to use for CUDA: as given, else MEDUSA_PLUS_ORT_LIBRARY. A folder means the library in
 * it.
 *
 * @throws RuntimeFailure when none is given, or there is none at that path
 */
export function locateCudaLibrary(given: string | undefined, environment = process.env): string {
  const path = given ?? readVariable(LIBRARY_VARIABLE, environment);
  if (!path) {
    throw new RuntimeFailure(
      `--provider cuda needs a GPU build of ONNX Runtime >= ${MINIMUM_CUDA_ORT.join('.')}. Give the path of its ` +
        `libonnxruntime with --ort-library or the environment variable ${LIBRARY_VARIABLE}.`,
    );
  }
  const source = given === undefined ? nameInUse(LIBRARY_VARIABLE, environment) : '--ort-library';
  if (!existsSync(path))
    throw new RuntimeFailure(`The ONNX Runtime library ${path} (${source}) does not exist.`);
  if (!statSync(path).isDirectory()) return path;
  const found = libraryIn(path);
  if (!found) throw new RuntimeFailure(`There is no ONNX Runtime library in the folder ${path} (${source}).`);
  return found;
}

/**
 * Loads a library that must be able to run on CUDA.
 *
 * @throws RuntimeFailure when it cannot be loaded, is too old, or was built without CUDA
 */
export async function loadCudaLibrary(path: string): Promise<OrtApi> {
  const api = await OrtApi.load(path);
  if (!isAtLeast(api.version, MINIMUM_CUDA_ORT)) {
    throw new RuntimeFailure(
      `${path} is ONNX Runtime ${api.version}; CUDA needs ${MINIMUM_CUDA_ORT.join('.')} or newer (attention bias in GroupQueryAttention).`,
    );
  }
  // A CUDA build names the provider even where the provider's own library is not installed beside it.
  if (!api.availableProviders().includes(CUDA_PROVIDER) || cudaProviderLibrary(path) === undefined) {
    throw new RuntimeFailure(
      `${path} (ONNX Runtime ${api.version}) comes without a CUDA provider. Use a GPU build, such as the one in the PyPI package onnxruntime-gpu.`,
    );
  }
  return api;
}

/** The library with the CUDA provider, which lies beside libonnxruntime; undefined when it does not. */
export function cudaProviderLibrary(library: string): string | undefined {
  const names = ['libonnxruntime_providers_cuda.so', 'onnxruntime_providers_cuda.dll'];
  return names.map((name) => join(dirname(realpathSync(library)), name)).find((path) => existsSync(path));
}

/** The library in a folder; its name may carry the full version. */
function libraryIn(folder: string): string | undefined {
  const pattern = /^(libonnxruntime\.so(\.\d+)*|libonnxruntime(\.\d+)*\.dylib|onnxruntime\.dll)$/;
  const name = readdirSync(folder).find((each) => pattern.test(each));
  return name && join(folder, name);
}
