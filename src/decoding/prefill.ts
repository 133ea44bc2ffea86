import type { DraftingModel, VerifiedRows, VerifyOptions } from './types.js';

export interface PrefillOptions extends VerifyOptions {
  /** Told how many of the tokens have been run, after each part. */
  readonly onPrompt?: (done: number, of: number) => void;
  /** Ends the prefill after the part that is running. */
  readonly signal?: AbortSignal;
}

/**
 * Appends a text of any length to a model's cache: the one place that cuts texts into the parts a model takes. A long one
 * may take long, and an abort should not.
 *
 * @returns the last row's result; undefined when aborted, where what has been run stays cached
 */
export async function prefill(
  model: DraftingModel,
  ids: ArrayLike<number>,
  { logits, signal, onPrompt }: PrefillOptions,
): Promise<VerifiedRows | undefined> {
  const text = Int32Array.from(ids);
  const part = model.promptRows ?? text.length;
  for (let start = 0; !signal?.aborted; start += part) {
    const isLast = start + part >= text.length;
    const result = await model.prefill(text.subarray(start, start + part), { logits: isLast && logits });
    onPrompt?.(Math.min(start + part, text.length), text.length);
    if (isLast) return result;
  }
  return undefined;
}
