/**
 * The ways to send a step to the device side by side: bound, packed, graphs (CUDA graphs):
 *
 *   steps --model <folder> --out <results> [--tokens 128] [--past 256,1024] [--nodes 1,8,64] [--rounds 30]
 *       [--provider cuda] [--precision fp16]
 *
 * Each generates greedily from the same prompts, plainly and with trees of 64; differences to `bound` are listed. Then
 * the milliseconds of a verification. Writes steps-<model>.json, anew after each way.
 */
import './oneLine.js';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { greedyAcceptance } from '../../src/decoding/acceptance.js';
import { decode, type DecodeResult } from '../../src/decoding/decode.js';
import { dynamicTree, noTree } from '../../src/decoding/policy/treePolicy.js';
import type { DraftingModel, TreePolicy } from '../../src/decoding/types.js';
import { measureStepCost, randomTokens } from '../../src/runtime/measure.js';
import { modelOptions, openFor, readProvider } from './openModels.js';

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    out: { type: 'string' },
    tokens: { type: 'string', default: '128' },
    past: { type: 'string', default: '256,1024' },
    nodes: { type: 'string', default: '1,8,64' },
    rounds: { type: 'string', default: '30' },
    provider: { type: 'string', default: 'cuda' },
    precision: { type: 'string', default: 'fp16' },
  },
});
const WAYS = ['bound', 'packed', 'graphs'] as const;
const PROMPT_LENGTHS = [5, 60, 200];
const TOP_M = 32;

interface Outcome {
  readonly steps: (typeof WAYS)[number];
  readonly error?: string;
  /** Generated tokens of each prompt and tree that differ from those of `bound`, from the first difference on. */
  readonly differences?: readonly string[];
  readonly tokens?: number;
  readonly costs?: readonly { past: number; nodes: number; milliseconds: number }[];
}

mkdirSync(args.out!, { recursive: true });
const { manifest, options } = await modelOptions(args.model!, readProvider(args.provider), args.precision);
const prompts = PROMPT_LENGTHS.map((length) => [...randomTokens(length, options.shape.vocabSize)]);
const outcomes: Outcome[] = [];
let reference: Map<string, readonly number[]> | undefined;
for (const steps of WAYS) {
  try {
    const model = await openFor(readProvider(args.provider), { ...options, deviceSteps: steps });
    try {
      const texts = await generateAll(model);
      reference ??= texts;
      outcomes.push({
        steps,
        differences: compare(reference, texts),
        tokens: [...texts.values()].reduce((sum, { length }) => sum + length, 0),
        costs: await costs(model),
      });
    } finally {
      await model.dispose();
    }
  } catch (error) {
    if (reference === undefined) throw error;
    // What one way cannot do is a finding; the others still run.
    outcomes.push({ steps, error: (error as Error).message });
  }
  const path = join(args.out!, `steps-${manifest.model.id}.json`);
  writeFileSync(path, `${JSON.stringify({ model: manifest.model.id, outcomes }, null, 1)}\n`);
  console.log(JSON.stringify(outcomes.at(-1)));
}
if (outcomes.some(({ error, differences }) => error !== undefined || differences!.length > 0))
  process.exitCode = 1;

async function generateAll(model: DraftingModel): Promise<Map<string, readonly number[]>> {
  const policies: Record<string, TreePolicy> = { plain: noTree() };
  if (model.headCount > 0) {
    policies['dynamic 64'] = dynamicTree({ nodes: 64, heads: model.headCount, topM: TOP_M });
  }
  const texts = new Map<string, readonly number[]>();
  for (const [i, prompt] of prompts.entries()) {
    for (const [name, policy] of Object.entries(policies)) {
      const { tokens } = await generate(model, prompt, policy);
      texts.set(`prompt ${i}, ${name}`, tokens);
    }
  }
  return texts;
}

async function generate(
  model: DraftingModel,
  prompt: readonly number[],
  policy: TreePolicy,
): Promise<DecodeResult> {
  const steps = decode(model, prompt, {
    policy,
    acceptance: greedyAcceptance(),
    maxNewTokens: Number(args.tokens),
    clock: () => performance.now(),
  });
  for (;;) {
    const { done, value } = await steps.next();
    if (done) return value;
  }
}

function compare(
  expected: ReadonlyMap<string, readonly number[]>,
  found: ReadonlyMap<string, readonly number[]>,
): string[] {
  return [...expected].flatMap(([name, tokens]) => {
    const at = tokens.findIndex((token, i) => token !== found.get(name)?.[i]);
    return at < 0 ? [] : [`${name}: from token ${at} of ${tokens.length}`];
  });
}

async function costs(model: DraftingModel): Promise<NonNullable<Outcome['costs']>> {
  const all: { past: number; nodes: number; milliseconds: number }[] = [];
  const sizes = args.nodes.split(',').map(Number);
  for (const past of args.past.split(',').map(Number)) {
    model.truncate(0);
    const curve = await measureStepCost(model, sizes, { pastLength: past, repeats: Number(args.rounds) });
    all.push(...curve.map(({ nodes, milliseconds }) => ({ past, nodes, milliseconds })));
  }
  return all;
}
