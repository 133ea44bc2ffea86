/**
 * The device memory that a model takes, beside what is computed before it is opened:
 *
 *   memory --model <folder> --out <results> [--steps packed] [--precision fp16]
 *
 * After opening, behind a prompt that fills the context but for a few trees, and after trees of 1 to 256 nodes. Asked of the CUDA
 * runtime, so other programs on the device count in. On the null device (bench/cuda/null) it is what ONNX Runtime and this program
 * allocate; a card also needs what CUDA takes for itself. Writes memory-<model>.json.
 */
import './oneLine.js';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { planFor, rowLimits } from '../../src/runtime/cuda/ioBoundModel.js';
import { estimateDeviceMemory, graphBytes } from '../../src/runtime/cuda/memoryEstimate.js';
import { cudaMemory } from '../../src/runtime/facts.js';
import { randomTokens, randomTree } from '../../src/runtime/measure.js';
import { modelOptions, openFor, readSteps } from './openModels.js';
import { TOP_M } from './wholeStep.js';

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    out: { type: 'string' },
    steps: { type: 'string', default: 'packed' },
    precision: { type: 'string', default: 'fp16' },
  },
});
const TREES = [1, 8, 64, 256];
/** Positions left for the trees. */
const ROOM = 512;

const { manifest, options } = await modelOptions(args.model!, 'cuda', args.precision);
const plan = planFor(options);
const used = async (): Promise<number> => {
  const { free, total } = await cudaMemory();
  return total - free;
};
const before = await used();
const model = await openFor('cuda', { ...options, deviceSteps: readSteps(args.steps) });
const opened = (await used()) - before;
await model.prefill(randomTokens(plan.capacity - ROOM, model.vocabSize), { logits: false });
const prompt = (await used()) - before;
for (const nodes of TREES) {
  await model.verify(randomTree(nodes, model.vocabSize), { logits: false });
  await model.keep([0]);
  if (model.headCount > 0) await model.propose(TOP_M, 0);
}
const trees = (await used()) - before;
await model.dispose();
const left = (await used()) - before;

const weights = graphBytes([options.backbone, options.heads].flatMap((graph) => graph?.path ?? []));
const { prefill, usual } = rowLimits(options, plan);
const estimate = estimateDeviceMemory(plan, weights, { perRun: prefill, verified: usual });
const found = { model: manifest.model.id, steps: args.steps, estimate, opened, prompt, trees, left };
mkdirSync(args.out!, { recursive: true });
writeFileSync(join(args.out!, `memory-${manifest.model.id}.json`), `${JSON.stringify(found, null, 1)}\n`);
const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
console.log(
  `${manifest.model.id}, ${args.steps}, capacity ${plan.capacity}: opened ${mebibytes(opened)}, long prompt ${mebibytes(prompt)}, ` +
    `trees ${mebibytes(trees)}, left behind ${mebibytes(left)}; estimate ${mebibytes(estimate.total)}`,
);
