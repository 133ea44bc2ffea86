import { UsageError } from '../util/errors.js';

/** The precisions that the exporter makes (export/medusa_export/precisions.py); fp16 runs on CUDA, the others on CPUs. */
export const precisionNames: readonly string[] = ['int8', 'int4', 'int8-block', 'fp32', 'fp16'];

/** Those with int8 products, whose weights are kept as int8 or as uint8: int8 itself, the others for their LM head. */
export const int8Precisions: readonly string[] = ['int8', 'int8-block', 'int4'];

/** Families that cannot be had in int8, whose rotation the norms of their layers do not allow. */
const familiesWithoutInt8: readonly string[] = ['gemma3'];

/** What CPUs run of a family where no precision is named (export/medusa_export/precisions.py). */
export const defaultPrecisionOf = (family: string): string =>
  familiesWithoutInt8.includes(family) ? 'int8-block' : 'int8';

/** Whether a model of this family can be made in a precision. */
export const canHave = (family: string, precision: string): boolean =>
  precision !== 'int8' || defaultPrecisionOf(family) === 'int8';

/** @throws UsageError for a precision that there is not */
export function checkPrecision(name: string): void {
  if (precisionNames.includes(name)) return;
  throw new UsageError(`precision must be one of ${precisionNames.join(', ')}, not ${JSON.stringify(name)}.`);
}
