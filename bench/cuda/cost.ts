/**
 * What a step costs on the CUDA device:
 *
 *   cost --model <folder> --out <results> [--past 256,1024,4000] [--nodes 1,2,4,8,16,32,64] [--rounds 20]
 *       [--copy-rate copyRate.json] [--provider cuda] [--precision fp16]
 *
 * For each past: milliseconds of a verification of n nodes (medians, sizes taking turns), the ratio to n = 1, bytes over
 * PCIe (from the bindings), the memory rate that n = 1 achieves against the card's copy rate; heads, keep, and the
 * share of whole steps spent outside the backbone. Writes cost-<model>.json and .md.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { DraftingModel } from '../../src/decoding/types.js';
import { cacheElementsPerPosition } from '../../src/runtime/spec.js';
import { graphBytes } from '../../src/runtime/cuda/memoryEstimate.js';
import { stepTraffic, type SharedPlan } from '../../src/runtime/cuda/bindingPlan.js';
import { gpuFacts, gpuMemoryUsed } from '../../src/runtime/facts.js';
import { openModel } from '../../src/runtime/index.js';
import { measureStepCost, median, randomTokens, randomTree } from '../../src/runtime/measure.js';
import { modelOptions } from './openModels.js';

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    out: { type: 'string' },
    past: { type: 'string', default: '256,1024,4000' },
    nodes: { type: 'string', default: '1,2,4,8,16,32,64' },
    rounds: { type: 'string', default: '20' },
    'copy-rate': { type: 'string' },
    provider: { type: 'string', default: 'cuda' },
    precision: { type: 'string', default: 'fp16' },
  },
});
const GREEDY = { logits: false };
const TOP_M = 32;
const provider = args.provider === 'cpu' ? 'cpu' : 'cuda';
const { manifest, options } = await modelOptions(args.model!, provider, args.precision);
const sizes = args.nodes.split(',').map(Number);
const rounds = Number(args.rounds);
const plan: SharedPlan = {
  shape: options.shape,
  capacity: options.backbone.capacity ?? options.shape.contextLength,
  elementBytes: args.precision === 'fp16' ? 2 : 4,
};
const weights = graphBytes([options.backbone.path]);

const memoryBefore = await gpuMemoryUsed();
const model = await openModel(options);
const table: Awaited<ReturnType<typeof costAt>>[] = [];
for (const past of args.past.split(',').map(Number)) {
  if (past + Math.max(...sizes) > model.contextLength) continue;
  table.push(await costAt(past));
  process.stderr.write(`past ${past} done\n`);
}
const memoryAfter = await gpuMemoryUsed();
await model.dispose();
report();

async function costAt(past: number) {
  await model.prefill(randomTokens(past - model.cachedLength, model.vocabSize), GREEDY);
  const curve = await measureStepCost(model, sizes, { pastLength: past, repeats: rounds });
  const one = curve.find(({ nodes }) => nodes === 1)?.milliseconds;
  const read = weights + past * cacheElementsPerPosition(options.shape) * plan.elementBytes;
  return {
    past,
    steps: curve.map(({ nodes, milliseconds }) => ({
      nodes,
      milliseconds,
      ratio: one && milliseconds / one,
      traffic: stepTraffic(plan, { nodes, past, moved: 3, heads: model.headCount, topM: TOP_M }),
    })),
    /** Bytes that a plain step must read, by its time. */
    readRate: one && (read / one) * 1000,
    whole: model.headCount > 0 ? await wholeSteps(model, past) : undefined,
  };
}

/** Steps of 64 nodes as in decoding, two rows accepted out of place: medians of each stage and of all. */
async function wholeSteps(drafting: DraftingModel, past: number) {
  const stages = {
    heads: [] as number[],
    tree: [] as number[],
    backbone: [] as number[],
    keep: [] as number[],
  };
  const totals: number[] = [];
  await drafting.verify(randomTree(1, drafting.vocabSize), GREEDY);
  await drafting.keep([0]);
  for (let step = 0; step < rounds; step++) {
    const times = [performance.now()];
    await drafting.propose(TOP_M);
    times.push(performance.now());
    const tree = randomTree(64, drafting.vocabSize);
    times.push(performance.now());
    await drafting.verify(tree, GREEDY);
    times.push(performance.now());
    await drafting.keep([0, 2]);
    times.push(performance.now());
    Object.values(stages).forEach((list, i) => list.push(times[i + 1] - times[i]));
    totals.push(times[4] - times[0]);
  }
  drafting.truncate(past);
  const total = median(totals);
  const medians = Object.fromEntries(Object.entries(stages).map(([name, list]) => [name, median(list)]));
  return { ...medians, total, outsideBackbone: 1 - medians.backbone / total };
}

function report(): void {
  const copy = args['copy-rate']
    ? (JSON.parse(readFileSync(args['copy-rate'], 'utf8')) as { bytes_per_second: number }).bytes_per_second
    : undefined;
  const { id } = manifest.model;
  const result = {
    model: id,
    provider,
    precision: args.precision,
    weights,
    memoryBefore,
    memoryAfter,
    copy,
    table,
  };
  const lines = [`# Cost of a step: ${id}, ${args.precision}, ${provider}`, ''];
  lines.push(
    `| past | ${sizes.map((n) => `n = ${n}`).join(' | ')} | cost(64)/cost(1) | read rate | of copy rate |`,
  );
  lines.push(`|---|${'---|'.repeat(sizes.length + 3)}`);
  for (const { past, steps, readRate } of table) {
    const cells = steps.map(({ milliseconds }) => milliseconds.toFixed(2));
    const share = readRate && copy ? `${((100 * readRate) / copy).toFixed(0)}%` : '';
    const rate = readRate ? `${(readRate / 1e9).toFixed(0)} GB/s` : '';
    lines.push(
      `| ${past} | ${cells.join(' | ')} | ${steps.at(-1)?.ratio?.toFixed(3)} | ${rate} | ${share} |`,
    );
  }
  lines.push('', 'Milliseconds, medians. Whole steps of 64 nodes:', '');
  for (const { past, whole } of table) if (whole) lines.push(`- past ${past}: ${JSON.stringify(whole)}`);
  const traffic = table.at(-1)?.steps.at(-1)?.traffic;
  if (traffic)
    lines.push(
      `- over PCIe at n = ${sizes.at(-1)}: ${traffic.toDevice} bytes there, ${traffic.fromDevice} back`,
    );
  mkdirSync(args.out!, { recursive: true });
  writeFileSync(join(args.out!, `cost-${id}.md`), `${lines.join('\n')}\n`);
  void gpuFacts().then((gpus) =>
    writeFileSync(join(args.out!, `cost-${id}.json`), `${JSON.stringify({ ...result, gpus }, null, 1)}\n`),
  );
  console.log(lines.join('\n'));
}
