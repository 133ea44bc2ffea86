/**
 * What verifying a tree costs on a card, by the number of nodes and the length of the past:
 *
 *   npx tsx scripts/cuda/cost.ts --model FOLDER [--past 256,1024,4096] [--nodes 1,2,4,8,16,32,64] [--rounds 20]
 *       [--out cost.json] [--provider cuda] [--precision fp16]
 *
 * Prints a Markdown table: milliseconds (medians, sizes taking turns), the cost of the largest tree over that of one
 * node, and the rate at which one node reads its memory (all weights, and the past's keys and values). A past that the
 * context has no room for is shortened.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { graphBytes } from '../../src/runtime/cuda/memoryEstimate.js';
import { gpuFacts } from '../../src/runtime/facts.js';
import { measureStepCost, randomTokens } from '../../src/runtime/measure.js';
import { cacheElementsPerPosition } from '../../src/runtime/spec.js';
import { open, planModel, readText, readWhere } from './models.js';

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    past: { type: 'string', default: '256,1024,4096' },
    nodes: { type: 'string', default: '1,2,4,8,16,32,64' },
    rounds: { type: 'string', default: '20' },
    out: { type: 'string' },
    provider: { type: 'string', default: 'cuda' },
    precision: { type: 'string', default: 'fp16' },
  },
});
const numbers = (list: string): number[] => list.split(',').map(Number);
const sizes = numbers(args.nodes);

const where = readWhere(args.provider);
const { manifest, options } = await planModel(args.model!, where, args.precision);
const model = await open(where, options);
const weights = graphBytes([options.backbone.path]);
const bytesPerPosition = cacheElementsPerPosition(options.shape) * (args.precision === 'fp16' ? 2 : 4);
const rows = [];
for (const wanted of numbers(args.past)) {
  const past = Math.min(wanted, model.contextLength - Math.max(...sizes));
  model.truncate(0);
  await readText(model, randomTokens(past, model.vocabSize), { logits: false });
  const measured = await measureStepCost(model, sizes, { pastLength: past, repeats: Number(args.rounds) });
  const milliseconds = measured.map((each) => each.milliseconds);
  const bytesRead = weights + past * bytesPerPosition;
  rows.push({
    past,
    milliseconds,
    ratio: milliseconds.at(-1)! / milliseconds[0],
    bytesPerSecond: (bytesRead / milliseconds[0]) * 1000,
  });
}
await model.dispose();

const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
const titles = ['past', ...sizes.map((n) => `n = ${n}`), `cost(${sizes.at(-1)})/cost(${sizes[0]})`, 'reads'];
console.log(`${manifest.model.id}, ${args.precision}, ${args.provider}; milliseconds, medians\n`);
console.log(line(titles));
console.log(line(titles.map(() => '---')));
for (const { past, milliseconds, ratio, bytesPerSecond } of rows) {
  const times = milliseconds.map((each) => each.toFixed(2));
  console.log(line([String(past), ...times, ratio.toFixed(3), `${(bytesPerSecond / 1e9).toFixed(0)} GB/s`]));
}
if (args.out) {
  const all = { model: manifest.model.id, precision: args.precision, provider: args.provider, sizes, rows };
  writeFileSync(args.out, `${JSON.stringify({ ...all, gpus: await gpuFacts() }, null, 1)}\n`);
}
