import { greedyAcceptance } from '../../src/decoding/acceptance.js';
import { decode, type DecodeOptions, type DecodeResult } from '../../src/decoding/decode.js';
import { noTree } from '../../src/decoding/treePolicy.js';
import type { DecodeStep } from '../../src/decoding/types.js';
import type { TableModel } from './tableModel.js';

/** Runs a generation to its end. Plain, greedy and 32 tokens long unless told otherwise. */
export async function decodeAll(
  model: TableModel,
  prompt: readonly number[],
  options: Partial<DecodeOptions> = {},
): Promise<{ steps: DecodeStep[]; result: DecodeResult }> {
  const generator = decode(model, prompt, {
    policy: noTree(),
    acceptance: greedyAcceptance(),
    maxNewTokens: 32,
    clock: model.clock,
    ...options,
  });
  const steps: DecodeStep[] = [];
  for (;;) {
    const next = await generator.next();
    if (next.done) return { steps, result: next.value };
    steps.push(next.value);
  }
}
