/**
 * ONNX Runtime 1.29 and later keeps a device id and sends usage events on Linux and macOS, unless this variable is 1 in
 * the environment of the process when the library is loaded. So this module comes before every import of it. A value
 * that the user has set stays as it is.
 */
import { isMainThread } from 'node:worker_threads';

const variable = 'ORT_DISABLE_TELEMETRY';
process.env[variable] ??= '1';

/**
 * The same for a Worker, whose `process.env` is a copy that native code does not see: the variable is set in the process
 * through the C library. Must have ended before ONNX Runtime is loaded. Without koffi, an optional dependency, nothing
 * is done.
 */
export async function switchOffTelemetryInWorker(): Promise<void> {
  if (isMainThread || process.platform === 'win32') return;
  try {
    const { loadKoffi } = await import('./cuda/koffi.js');
    const koffi = await loadKoffi();
    const setenv = koffi.load(null).func('int setenv(const char *name, const char *value, int overwrite)');
    setenv(variable, process.env[variable], 0);
  } catch {
    // README says what to do where koffi is not installed.
  }
}
