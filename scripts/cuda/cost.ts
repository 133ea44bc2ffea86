/**
 * What a step costs on the CUDA device:
 *
 *   cost --model <folder> --out <results> [--past 256,1024,4096] [--nodes 1,2,4,8,16,32,64] [--rounds 20]
 *       [--copy-rate copyRate.json] [--steps packed] [--provider cuda] [--precision fp16]
 *
 * For each past: milliseconds of a verification of n nodes (medians, sizes taking turns), the ratio to n = 1, bytes over
 * PCIe (from the bindings), the memory rate that n = 1 achieves against the card's copy rate; and whole steps by stage.
 * Says which targets are met. Writes cost-<model>.json and .md, anew after each past.
 */
import './oneLine.js';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { SharedPlan } from '../../src/runtime/cuda/bindingPlan.js';
import { graphBytes } from '../../src/runtime/cuda/memoryEstimate.js';
import { gpuFacts, gpuMemoryUsed } from '../../src/runtime/facts.js';
import { measureStepCost, randomTokens } from '../../src/runtime/measure.js';
import { cacheElementsPerPosition } from '../../src/runtime/spec.js';
import { judgeTargets, type PastCost, renderCost, type WholeStep } from './costReport.js';
import { modelOptions, openFor, readProvider, readSteps } from './openModels.js';
import { medianStep, trafficOf, wholeSteps } from './wholeStep.js';

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    out: { type: 'string' },
    past: { type: 'string', default: '256,1024,4096' },
    nodes: { type: 'string', default: '1,2,4,8,16,32,64' },
    rounds: { type: 'string', default: '20' },
    'copy-rate': { type: 'string' },
    steps: { type: 'string', default: 'packed' },
    provider: { type: 'string', default: 'cuda' },
    precision: { type: 'string', default: 'fp16' },
  },
});
const GREEDY = { logits: false };
const WHOLE_NODES = 64;
/** Whole steps before the timed ones: until then Node.js still compiles the loop, which a text of any length soon has behind it. */
const WARM_UP = 40;
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
      ...trafficOf(options, plan, { nodes, past, moved: 3 }, deviceSteps),
    })),
    bytesRead: weights + past * cacheElementsPerPosition(options.shape) * plan.elementBytes,
    whole: model.headCount > 0 ? await stepsBehind(past) : undefined,
  };
}

async function stepsBehind(past: number): Promise<WholeStep> {
  model.truncate(past - 1);
  await model.prefill(randomTokens(1, model.vocabSize), GREEDY);
  const step = wholeSteps(model, WHOLE_NODES);
  for (let i = 0; i < WARM_UP; i++) await step();
  const timed: WholeStep[] = [];
  for (let i = 0; i < rounds; i++) timed.push(await step());
  return medianStep(timed);
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
  const name = `cost-${manifest.model.id}${deviceSteps === 'packed' ? '' : `-${deviceSteps}`}`;
  const text = renderCost(measurement);
  const all = { ...measurement, weights, targets: judgeTargets(measurement), gpus: await gpuFacts() };
  writeFileSync(join(args.out!, `${name}.md`), text);
  writeFileSync(join(args.out!, `${name}.json`), `${JSON.stringify(all, null, 1)}\n`);
  if (table.length === args.past.split(',').length) console.log(text);
}
