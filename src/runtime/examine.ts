import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { locateCudaLibrary, shippedLibrary } from './cuda/ortLibrary.js';
import { OrtApi } from './cuda/ortApi.js';

export interface RuntimeFacts {
  readonly version: string;
  /** Path of the library. */
  readonly library: string;
  /** Those that can be used, by their short names: a library also lists those whose own library is not beside it. */
  readonly providers: readonly string[];
}

/**
 * What an ONNX Runtime library says of itself: the one given (a file or its folder), else the one onnxruntime-node
 * ships.
 *
 * @throws RuntimeFailure when it is missing or cannot be loaded
 */
export async function examineRuntime(given?: string): Promise<RuntimeFacts> {
  if (given !== undefined) return ask(locateCudaLibrary(given));
  const library = shippedLibrary();
  // Loads the binding as well: a library that is there but not loadable must not pass.
  await import('onnxruntime-node');
  try {
    return await ask(library);
  } catch {
    // Without koffi, an optional dependency, the library itself cannot be asked.
    const manifest = createRequire(import.meta.url)('onnxruntime-node/package.json') as { version: string };
    return { version: manifest.version, library, providers: ['CPU'] };
  }
}

async function ask(path: string): Promise<RuntimeFacts> {
  const api = await OrtApi.load(path);
  const names = api.availableProviders().map((name) => name.replace(/ExecutionProvider$/, ''));
  const files = readdirSync(dirname(path)).join('\n').toLowerCase();
  const hasLibrary = (name: string): boolean => files.includes(`providers_${name.toLowerCase()}.`);
  return {
    version: api.version,
    library: path,
    providers: names.filter((name) => !isSeparate(name) || hasLibrary(name)),
  };
}

/** Providers that come as a library of their own. */
const isSeparate = (name: string): boolean => ['CUDA', 'Tensorrt'].includes(name);
