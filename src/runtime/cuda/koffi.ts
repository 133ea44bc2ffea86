import type koffi from 'koffi';
import { RuntimeFailure } from '../../util/errors.js';
import { messageOf } from '../messages.js';

export type Koffi = typeof koffi;

let loading: Promise<Koffi> | undefined;

/**
 * The foreign-function library, loaded on first use: only the ONNX Runtime C API needs it, and it is an optional
 * dependency.
 *
 * @throws RuntimeFailure when it is not installed
 */
export function loadKoffi(): Promise<Koffi> {
  loading ??= importKoffi();
  return loading;
}

async function importKoffi(): Promise<Koffi> {
  let loaded: Koffi;
  try {
    loaded = (await import('koffi')).default;
  } catch (cause) {
    throw new RuntimeFailure(
      `The package koffi, which --provider cuda needs, cannot be loaded: ${messageOf(cause)}. Install it with \`npm install koffi\`.`,
      undefined,
      { cause },
    );
  }
  configure(loaded);
  return loaded;
}

/** Native code runs on stacks that koffi allocates. Its default off the main thread, 128 KiB, is too small to create a session. */
const STACK_BYTES = 8 << 20;
const LEAST_STACK_BYTES = 1 << 20;

/** @throws RuntimeFailure when another user of koffi in this process has fixed too small a stack */
function configure(koffi: Koffi): void {
  try {
    koffi.config({
      sync_stack_size: STACK_BYTES,
      async_stack_size: STACK_BYTES,
      resident_async_pools: 2,
      max_async_calls: 16,
    });
  } catch (cause) {
    // It cannot be changed once any library is loaded.
    const { sync_stack_size: here, async_stack_size: elsewhere } = koffi.config() as Record<string, number>;
    if (Math.min(here, elsewhere) >= LEAST_STACK_BYTES) return;
    throw new RuntimeFailure(
      `koffi was used in this process before with stacks of ${here} and ${elsewhere} bytes; ONNX Runtime needs ${LEAST_STACK_BYTES}. ` +
        'Open the model before the other library is loaded, or call koffi.config({ sync_stack_size, async_stack_size }) first.',
      undefined,
      { cause },
    );
  }
}
