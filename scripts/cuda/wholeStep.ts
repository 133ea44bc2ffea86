import { greedyAcceptance } from '../../src/decoding/acceptance.js';
import { dynamicTree } from '../../src/decoding/policy/treePolicy.js';
import type { DraftingModel } from '../../src/decoding/types.js';
import { type SharedPlan, type StepTraffic, stepTraffic } from '../../src/runtime/cuda/bindingPlan.js';
import type { DeviceSteps, OpenOptions } from '../../src/runtime/index.js';
import { randomTokens } from '../../src/runtime/measure.js';
import { median } from '../../src/util/numbers.js';
import type { WholeStep } from './costReport.js';
import { runTime } from './openModels.js';

export const TOP_M = 32;
export const STAGES = ['heads', 'tree', 'backbone', 'accept', 'keep'] as const;

/**
 * Steps as in decoding, but for what is kept: the root and the last node, so that one row must move. The model must have
 * heads, and a past that `propose` may follow.
 *
 * @returns what runs one step and gives its milliseconds
 */
export function wholeSteps(model: DraftingModel, nodes: number): () => Promise<WholeStep> {
  const policy = dynamicTree({ nodes, heads: model.headCount, topM: TOP_M });
  const acceptance = greedyAcceptance();
  const [root] = randomTokens(1, model.vocabSize);
  return async () => {
    const before = runTime(model);
    const begin = performance.now();
    let last = begin;
    const lap = (): number => {
      const now = performance.now();
      const time = now - last;
      last = now;
      return time;
    };
    const proposals = await model.propose(TOP_M, root);
    const heads = lap();
    const tree = policy.build(root, proposals);
    const treeTime = lap();
    const result = await model.verify(tree, { logits: false });
    const backbone = lap();
    acceptance.accept(tree, result);
    const accept = lap();
    await model.keep([0, tree.size - 1]);
    const keep = lap();
    const runs = before === undefined ? undefined : runTime(model)! - before;
    return { heads, tree: treeTime, backbone, accept, keep, total: last - begin, runs };
  };
}

/** The median of each time. */
export function medianStep(steps: readonly WholeStep[]): WholeStep {
  const of = (name: keyof WholeStep): number => median(steps.map((step) => step[name]!));
  const [heads, tree, backbone, accept, keep] = STAGES.map(of);
  const runs = steps[0].runs === undefined ? undefined : of('runs');
  return { heads, tree, backbone, accept, keep, total: of('total'), runs };
}

/** What crosses in one step of a model opened with `options`, derived from the bindings. */
export function trafficOf(
  { heads }: Pick<OpenOptions, 'heads'>,
  plan: SharedPlan,
  step: { readonly nodes: number; readonly past: number; readonly moved: number },
  steps: DeviceSteps,
): StepTraffic {
  const { count = 0, contextSize, readsToken } = heads ?? {};
  return stepTraffic(
    plan,
    { ...step, heads: count, topM: TOP_M, contextSize, readsToken },
    steps !== 'bound',
  );
}
