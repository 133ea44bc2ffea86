/**
 * Microseconds to build a candidate tree: `npx tsx bench/treeBuild.ts`. Each call sees another of 256
 * random proposals, so that no branch is learnt by heart.
 */
import { CandidateTreeBuilder } from '../src/decoding/candidateTree.js';
import { createRandom } from '../src/decoding/random.js';
import { fillTreeBias, splitLayout, writeInt64 } from '../src/decoding/treeMask.js';
import type { HeadProposals } from '../src/decoding/types.js';

const heads = 4;
const topM = 32;
const random = createRandom(1);

function randomProposals(): HeadProposals {
  const probabilities = new Float32Array(heads * topM);
  for (let head = 0; head < heads; head++) {
    const weights = Array.from({ length: topM }, () => Math.exp(-8 * random())).sort((a, b) => b - a);
    const total = weights.reduce((sum, weight) => sum + weight, 0) * (1 + random());
    weights.forEach((weight, rank) => (probabilities[head * topM + rank] = weight / total));
  }
  return {
    heads,
    topM,
    probabilities,
    ids: Int32Array.from({ length: heads * topM }, () => random() * 49152),
  };
}

/** Microseconds of a call. The batches are short, so that a busy machine leaves some of them alone. */
function measure(call: (i: number) => void): { best: number; median: number } {
  const calls = 256;
  const batches: number[] = [];
  for (let batch = 0; batch < 1000; batch++) {
    const start = performance.now();
    for (let i = 0; i < calls; i++) call(i);
    batches.push(((performance.now() - start) * 1000) / calls);
  }
  batches.sort((a, b) => a - b);
  return { best: batches[0], median: batches[500] };
}

const proposals = Array.from({ length: 256 }, randomProposals);
const builder = new CandidateTreeBuilder();
const past = 256;
const capacity = 512;
const ids = new BigInt64Array(64);
const positions = new BigInt64Array(64);

// Compiled for every size before the first is measured.
for (let i = 0; i < 30000; i++)
  builder.take(1, builder.find(proposals[i & 255], { nodes: 1 + (i & 63), depth: heads }));

console.log(`K = ${heads}, m = ${topM}; past ${past}, capacity ${capacity}; microseconds, best (median)`);
console.log(
  `nodes${['search', 'search + tree', '+ ids, positions, mask'].map((title) => title.padStart(24)).join('')}`,
);
for (const nodes of [8, 16, 32, 64]) {
  const bias = new Float32Array(64 * (capacity + 64));
  const options = { nodes, depth: heads };
  const stages = [
    measure((i) => builder.find(proposals[i & 255], options)),
    measure((i) => builder.take(1, builder.find(proposals[i & 255], options))),
    measure((i) => {
      const tree = builder.take(1, builder.find(proposals[i & 255], options));
      writeInt64(ids, tree.tokens, nodes);
      writeInt64(positions, tree.depths, nodes, past);
      fillTreeBias(bias, tree.parents, nodes, splitLayout(past, capacity, nodes));
    }),
  ];
  const cells = stages.map(({ best, median }) => `${best.toFixed(2)} (${median.toFixed(2)})`.padStart(24));
  console.log(String(nodes).padStart(5) + cells.join(''));
}
