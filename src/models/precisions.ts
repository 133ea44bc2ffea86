import { UsageError } from '../util/errors.js';

/** The precisions that the exporter makes (export/medusa_export/precisions.py); fp16 runs on CUDA, the others on CPUs. */
export const precisionNames: readonly string[] = ['int8', 'int4', 'int8-block', 'fp32', 'fp16'];

/** @throws UsageError for a precision that there is not */
export function checkPrecision(name: string): void {
  if (precisionNames.includes(name)) return;
  throw new UsageError(`precision must be one of ${precisionNames.join(', ')}, not ${JSON.stringify(name)}.`);
}
