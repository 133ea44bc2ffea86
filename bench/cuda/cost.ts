/**
 * What a step costs on the CUDA device:
 *
 *   cost --model <folder> --out <results> [--past 256,1024,4096] [--nodes 1,2,4,8,16,32,64] [--rounds 20]
 *       [--copy-rate copyRate.json] [--steps bound] [--provider cuda] [--precision fp16]
 *
 * For each past: milliseconds of a verification of n nodes (medians, sizes taking turns), the ratio to n = 1, bytes over
 * PCIe (from the bindings), the memory rate that n = 1 achieves against the card's copy rate; and whole steps by stage.
 * Says which targets are met. Writes cost-<model>.json and .md, anew after each past.
 */
import './oneLine.js';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { greedyAcceptance } from '../../src/decoding/acceptance.js';
import { dynamicTree } from '../../src/decoding/treePolicy.js';
import type { DraftingModel } from '../../src/decoding/types.js';
import { stepTraffic, type SharedPlan } from '../../src/runtime/cuda/bindingPlan.js';
import { graphBytes } from '../../src/runtime/cuda/memoryEstimate.js';
import { gpuFacts, gpuMemoryUsed } from '../../src/runtime/facts.js';
import { measureStepCost, median, randomTokens } from '../../src/runtime/measure.js';
import { cacheElementsPerPosition } from '../../src/runtime/spec.js';
import { judgeTargets, type PastCost, renderCost, type WholeStep } from './costReport.js';
import { modelOptions, openFor, readProvider, readSteps, runTime } from './openModels.js';

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    out: { type: 'string' },
    past: { type: 'string', default: '256,1024,4096' },
    nodes: { type: 'string', default: '1,2,4,8,16,32,64' },
    rounds: { type: 'string', default: '20' },
    'copy-rate': { type: 'string' },
    steps: { type: 'string', default: 'bound' },
    provider: { type: 'string', default: 'cuda' },
    precision: { type: 'string', default: 'fp16' },
  },
});
const GREEDY = { logits: false };
const TOP_M = 32;
const WHOLE_NODES = 64;
/** Whole steps before the timed ones. */
const WARM_UP = 2;
const provider = readProvider(args.provider);
const deviceSteps = readSteps(args.steps);
const { manifest, options } = await modelOptions(args.model!, provider, args.precision);
const sizes = args.nodes.split(',').map(Number);
const rounds = Number(args.rounds);
const plan: SharedPlan = {
  shape: options.shape,
  capacity: options.backbone.capacity ?? options.shape.contextLength,
  elementBytes: args.precision === 'fp16' ? 2 : 4,
  wholeBias: options.backbone.attention === 'attention-24',
};
const weights = graphBytes([options.backbone.path]);

mkdirSync(args.out!, { recursive: true });
const memoryBefore = await gpuMemoryUsed();
const model = await openFor(provider, { ...options, deviceSteps });
const table: PastCost[] = [];
for (const past of args.past.split(',').map(Number)) {
  // The last of them may leave no room for the steps measured behind it: as far as it goes.
  table.push(await costAt(Math.min(past, model.contextLength - WHOLE_NODES - 2 * (rounds + WARM_UP))));
  await report();
}
await model.dispose();

async function costAt(past: number): Promise<PastCost> {
  model.truncate(0);
  await model.prefill(randomTokens(past, model.vocabSize), GREEDY);
  const curve = await measureStepCost(model, sizes, { pastLength: past, repeats: rounds });
  return {
    past,
    steps: curve.map(({ nodes, milliseconds }) => ({
      nodes,
      milliseconds,
      ...stepTraffic(
        plan,
        {
          nodes,
          past,
          moved: 3,
          heads: model.headCount,
          topM: TOP_M,
          readsToken: options.heads?.readsToken,
        },
        deviceSteps !== 'bound',
      ),
    })),
    bytesRead: weights + past * cacheElementsPerPosition(options.shape) * plan.elementBytes,
    whole: model.headCount > 0 ? await wholeSteps(model, past) : undefined,
  };
}

/** Steps of 64 nodes as in decoding, but for what is kept: a leaf's path, so that rows must move. */
async function wholeSteps(drafting: DraftingModel, past: number): Promise<WholeStep> {
  const policy = dynamicTree({ nodes: WHOLE_NODES, heads: drafting.headCount, topM: TOP_M });
  const acceptance = greedyAcceptance();
  const names = ['heads', 'tree', 'backbone', 'accept', 'keep'] as const;
  const times = Object.fromEntries(names.map((name) => [name, [] as number[]]));
  const [totals, inRuns]: [number[], number[]] = [[], []];
  drafting.truncate(past - 1);
  await drafting.prefill(randomTokens(1, drafting.vocabSize), GREEDY);
  const [root] = randomTokens(1, drafting.vocabSize);
  for (let step = -WARM_UP; step < rounds; step++) {
    const before = runTime(drafting);
    const marks = [performance.now()];
    const proposals = await drafting.propose(TOP_M, root);
    marks.push(performance.now());
    const tree = policy.build(root, proposals);
    marks.push(performance.now());
    const result = await drafting.verify(tree, GREEDY);
    marks.push(performance.now());
    acceptance.accept(tree, result);
    marks.push(performance.now());
    await drafting.keep([0, tree.size - 1]);
    marks.push(performance.now());
    if (step < 0) continue;
    names.forEach((name, i) => times[name].push(marks[i + 1] - marks[i]));
    totals.push(marks[5] - marks[0]);
    if (before !== undefined) inRuns.push(runTime(drafting)! - before);
  }
  const medians = Object.fromEntries(names.map((name) => [name, median(times[name])]));
  return {
    ...(medians as Record<(typeof names)[number], number>),
    total: median(totals),
    runs: inRuns.length > 0 ? median(inRuns) : undefined,
  };
}

async function report(): Promise<void> {
  const copyRate = args['copy-rate']
    ? (JSON.parse(readFileSync(args['copy-rate'], 'utf8')) as { bytes_per_second: number }).bytes_per_second
    : undefined;
  const measurement = {
    model: manifest.model.id,
    provider,
    precision: args.precision,
    steps: deviceSteps,
    copyRate,
    memoryBefore,
    memoryAfter: await gpuMemoryUsed(),
    table,
  };
  const name = `cost-${manifest.model.id}${deviceSteps === 'bound' ? '' : `-${deviceSteps}`}`;
  const text = renderCost(measurement);
  const all = { ...measurement, weights, targets: judgeTargets(measurement), gpus: await gpuFacts() };
  writeFileSync(join(args.out!, `${name}.md`), text);
  writeFileSync(join(args.out!, `${name}.json`), `${JSON.stringify(all, null, 1)}\n`);
  if (table.length === args.past.split(',').length) console.log(text);
}
