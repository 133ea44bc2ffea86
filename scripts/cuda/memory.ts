/**
 * The device memory that a model takes, beside what is computed before it is opened:
 *
 *   npx tsx scripts/cuda/memory.ts --model FOLDER [--precision fp16]
 *
 * After opening, behind a prompt that fills the context but for a few trees, after trees of 1 to 256 nodes, and after
 * closing. The CUDA runtime is asked, so other programs on the device count in. Needs a card: main memory has no such
 * counter.
 */
import { parseArgs } from 'node:util';
import { prefill } from '../../src/decoding/prefill.js';
import { planFor, rowLimits } from '../../src/runtime/cuda/sharedModel.js';
import { estimateDeviceMemory, graphBytes } from '../../src/runtime/cuda/memoryEstimate.js';
import { cudaMemory } from '../../src/runtime/facts.js';
import { randomTokens, randomTree } from '../../src/runtime/measure.js';
import { open, planModel } from './models.js';

const { values: args } = parseArgs({
  options: { model: { type: 'string' }, precision: { type: 'string', default: 'fp16' } },
});
const TREES = [1, 8, 64, 256];
/** Positions left for the trees. */
const ROOM = 512;
const MOST_TOP_M = 32;

const { manifest, options } = await planModel(args.model!, 'cuda', args.precision);
const plan = planFor(options);
const used = async (): Promise<number> => {
  const { free, total } = await cudaMemory();
  return total - free;
};
const model = await open('cuda', options);
// The context of CUDA itself is counted in: it comes with the first model, and is part of the estimate.
const opened = await used();
await prefill(model, randomTokens(plan.capacity - ROOM, model.vocabSize), { logits: false });
const prompt = await used();
for (const nodes of TREES) {
  await model.verify(randomTree(nodes, model.vocabSize), { logits: false });
  await model.keep([0]);
  if (model.headCount > 0) await model.propose(Math.min(MOST_TOP_M, model.maxTopM), 0);
}
const trees = await used();
await model.dispose();
const closed = await used();

const weights = graphBytes([options.backbone, options.heads].flatMap((graph) => graph?.path ?? []));
const { prefill: perRun, usual } = rowLimits(options, plan);
const { total: estimate } = estimateDeviceMemory(plan, weights, { perRun, verified: usual });
console.log(`${manifest.model.id}, ${args.precision}, capacity ${plan.capacity}; MiB in use on the device\n`);
for (const [when, bytes] of Object.entries({ opened, prompt, trees, closed, estimate })) {
  console.log(`${when.padEnd(10)}${(bytes / 2 ** 20).toFixed(0)}`);
}
