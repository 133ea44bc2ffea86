import type { NotFiniteError } from '../decoding/notFinite.js';
import { ModelError } from '../util/errors.js';

/** What a user can do about a model that gives NaN, in words that name the graph to blame. */
export function explainNotFinite(
  error: NotFiniteError,
  { model, precision, heads }: { model: string; precision: string; heads?: string },
): ModelError {
  const isHeads = error.part === 'heads';
  return new ModelError(
    `The ${isHeads ? `heads ${heads}` : 'backbone'} of model ${model} (${precision}) gave no finite numbers: ` +
      `${error.message} Its weights are damaged, or too large for this precision. \`medusa-plus doctor\` checks the ` +
      `files; if they are whole, try another --precision${isHeads ? ' or --heads none' : ''}.`,
    undefined,
    { cause: error },
  );
}
