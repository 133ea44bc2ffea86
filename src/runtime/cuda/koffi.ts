import type koffi from 'koffi';
import { RuntimeFailure } from '../../errors.js';
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
  // Native code runs on stacks that koffi allocates; its defaults (128 KiB off the main thread) are too small for
  // creating a session.
  loaded.config({
    sync_stack_size: 8 << 20,
    async_stack_size: 8 << 20,
    resident_async_pools: 2,
    max_async_calls: 16,
  });
  return loaded;
}
