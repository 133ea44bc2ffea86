import type { RunDecoding } from '../../src/bench/run/decodingSchema.js';
import { runDecoding } from '../../src/bench/run/variants.js';
import { resolveDecodingOptions } from '../../src/engine/options/resolve.js';

/** What run.json keeps of the decoding options of a model with four heads: the defaults, but for the draft, heads alone, and for what is given. */
export function madeDecoding(given: Partial<RunDecoding> = {}): RunDecoding {
  const resolved = resolveDecodingOptions(
    { draft: ['heads'] },
    {
      model: 'made',
      modelFolder: '/nowhere',
      heads: 'made',
      headCount: 4,
      maxTopM: 32,
      hasConditional: false,
    },
  );
  return { ...runDecoding(resolved, {}), ...given };
}
