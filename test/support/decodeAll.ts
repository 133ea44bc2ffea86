import { greedyAcceptance } from '../../src/decoding/acceptance.js';
import { decode, type DecodeResult, type LoopOptions } from '../../src/decoding/decode.js';
import { noTree } from '../../src/decoding/policy/treePolicy.js';
import type { DecodeStep, DraftingModel } from '../../src/decoding/types.js';

/** Runs a generation to its end. Plain, greedy and 32 tokens long unless told otherwise. */
export async function decodeAll(
  model: DraftingModel & Partial<Pick<LoopOptions, 'clock'>>,
  prompt: readonly number[],
  options: Partial<LoopOptions> = {},
): Promise<{ steps: DecodeStep[]; result: DecodeResult }> {
  const generator = decode(model, prompt, {
    policy: noTree(),
    acceptance: greedyAcceptance(),
    maxNewTokens: 32,
    clock: model.clock ?? (() => performance.now()),
    ...options,
  });
  const steps: DecodeStep[] = [];
  for (;;) {
    const next = await generator.next();
    if (next.done) return { steps, result: next.value };
    steps.push(next.value);
  }
}
