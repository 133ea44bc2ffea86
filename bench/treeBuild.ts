/**
 * Microseconds to build a candidate tree: `npx tsx bench/treeBuild.ts`. Medians over batches; each call sees another
 * of 256 random proposals, so that no branch is learnt by heart.
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

/** Median microseconds of a call. */
function measure(call: (i: number) => void): number {
  const calls = 2000;
  const batches: number[] = [];
  for (let batch = 0; batch < 60; batch++) {
    const start = performance.now();
    for (let i = 0; i < calls; i++) call(i);
    batches.push(((performance.now() - start) * 1000) / calls);
  }
  return batches.slice(10).sort((a, b) => a - b)[25];
}

const proposals = Array.from({ length: 256 }, randomProposals);
const builder = new CandidateTreeBuilder();
const past = 256;
const capacity = 512;
const ids = new BigInt64Array(64);
const positions = new BigInt64Array(64);

console.log(`K = ${heads}, m = ${topM}; past ${past}, capacity ${capacity}; microseconds, median`);
console.log('nodes  search  search + tree  + ids, positions, mask');
for (const nodes of [8, 16, 32, 64]) {
  const bias = new Float32Array(64 * (capacity + 64));
  const options = { nodes, depth: heads };
  const search = measure((i) => builder.find(proposals[i & 255], options));
  const build = measure((i) => builder.take(1, builder.find(proposals[i & 255], options)));
  const all = measure((i) => {
    const tree = builder.take(1, builder.find(proposals[i & 255], options));
    writeInt64(ids, tree.tokens, nodes);
    writeInt64(positions, tree.depths, nodes, past);
    fillTreeBias(bias, tree.parents, nodes, splitLayout(past, capacity, nodes));
  });
  console.log(
    [nodes, search, build, all].map((value, i) => value.toFixed(i && 2).padStart(i ? 8 : 5)).join('  '),
  );
}
