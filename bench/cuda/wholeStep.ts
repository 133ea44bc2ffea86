import { greedyAcceptance } from '../../src/decoding/acceptance.js';
import { dynamicTree } from '../../src/decoding/treePolicy.js';
import type { DraftingModel } from '../../src/decoding/types.js';
import { randomTokens } from '../../src/runtime/measure.js';

export const TOP_M = 32;
export const STAGES = ['heads', 'tree', 'backbone', 'accept', 'keep'] as const;
export type Stage = (typeof STAGES)[number];

/**
 * Steps as in decoding, but for what is kept: the root and the last node, so that one row must move. The model must have
 * heads, and a past that `propose` may follow. `after` is called behind each stage.
 */
export function wholeSteps(
  model: DraftingModel,
  nodes: number,
): (after: (stage: Stage) => void) => Promise<void> {
  const policy = dynamicTree({ nodes, heads: model.headCount, topM: TOP_M });
  const acceptance = greedyAcceptance();
  const [root] = randomTokens(1, model.vocabSize);
  return async (after) => {
    const proposals = await model.propose(TOP_M, root);
    after('heads');
    const tree = policy.build(root, proposals);
    after('tree');
    const result = await model.verify(tree, { logits: false });
    after('backbone');
    acceptance.accept(tree, result);
    after('accept');
    await model.keep([0, tree.size - 1]);
    after('keep');
  };
}
