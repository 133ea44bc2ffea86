import type { CostPoint } from '../decoding/costCurve.js';
import { allocateTree } from '../decoding/candidateTree.js';
import type { CandidateTree, DraftingModel } from '../decoding/types.js';

/** Cached positions during the measurement: a short conversation. */
const pastLength = 256;
const roundCount = 9;
/** Once a curve has taken this long, the remaining rounds are left out. */
const enoughMilliseconds = 2500;

/**
 * Measures what verifying n nodes takes, for each of `nodeCounts`. The counts take turns, round by round, so that a
 * disturbance falls on all of them, and each gets its median. The cache is empty afterwards.
 */
export async function measureStepCost(
  model: DraftingModel,
  nodeCounts: readonly number[],
  clock: () => number = () => performance.now(),
): Promise<CostPoint[]> {
  const token = (i: number): number => (i * 7919) % model.vocabSize;
  const past = Math.min(pastLength, Math.floor(model.contextLength / 2));
  const counts = nodeCounts.filter((nodes) => past + nodes <= model.contextLength);
  model.truncate(0);
  await model.prefill(Array.from({ length: past }, (_, i) => token(i)), { logits: false });
  const trees = counts.map((nodes) => bush(nodes, token));
  const times = counts.map((): number[] => []);
  const start = clock();
  for (let round = -1; round < roundCount; round++) {
    if (round >= 3 && clock() - start > enoughMilliseconds) break;
    for (const [i, tree] of trees.entries()) {
      const before = clock();
      await model.verify(tree, { logits: false });
      // The first round warms up: it allocates and decides on kernels.
      if (round >= 0) times[i].push(clock() - before);
    }
  }
  model.truncate(0);
  return counts.map((nodes, i) => ({ nodes, milliseconds: median(times[i]) }));
}

/** A tree of `nodes` nodes: each but the root hangs under the node at half its row. */
function bush(nodes: number, token: (i: number) => number): CandidateTree {
  const tree = allocateTree(nodes);
  for (let row = 0; row < nodes; row++) {
    const parent = row === 0 ? -1 : (row - 1) >> 1;
    tree.tokens[row] = token(row + 1);
    tree.parents[row] = parent;
    tree.depths[row] = row === 0 ? 0 : tree.depths[parent] + 1;
    tree.ranks[row] = row === 0 ? -1 : (row - 1) & 1;
    tree.probabilities[row] = row === 0 ? 1 : 0.5 * tree.probabilities[parent];
  }
  return tree;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
