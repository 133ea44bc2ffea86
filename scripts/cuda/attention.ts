/**
 * GroupQueryAttention with a bias against the Attention of opset 24, on pairs of models that export/attention_variants.py
 * wrote:
 *
 *   attention --pairs <folder> --out <results> [--nodes 1,8,64] [--rounds 30] [--provider cuda] [--precision fp16]
 *
 * For each capacity: whether both give the same rows for one tree, then the milliseconds of a verification at a past
 * near the capacity, the two taking turns. Writes attention.json, anew after each capacity.
 */
import './oneLine.js';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { DraftingModel } from '../../src/decoding/types.js';
import { randomTokens, randomTree } from '../../src/runtime/measure.js';
import { median } from '../../src/util/numbers.js';
import { open, readProvider } from './openModels.js';

const { values: args } = parseArgs({
  options: {
    pairs: { type: 'string' },
    out: { type: 'string' },
    nodes: { type: 'string', default: '1,8,64' },
    rounds: { type: 'string', default: '30' },
    provider: { type: 'string', default: 'cuda' },
    precision: { type: 'string', default: 'fp16' },
  },
});
const KINDS = ['group-query', 'attention-24'] as const;
/** Room left behind the past: the largest tree, and one more so that the bias exceeds past and rows. */
const ROOM = 65;

mkdirSync(args.out!, { recursive: true });
const capacities = readdirSync(args.pairs!)
  .flatMap((name) => /^group-query-(\d+)$/.exec(name)?.[1] ?? [])
  .map(Number)
  .sort((a, b) => a - b);
if (capacities.length === 0)
  throw new Error(`--pairs ${args.pairs}: there are no folders group-query-<capacity>.`);
const results: object[] = [];
for (const capacity of capacities) {
  results.push(await compareAt(capacity));
  writeFileSync(join(args.out!, 'attention.json'), `${JSON.stringify(results, null, 1)}\n`);
  console.log(JSON.stringify(results.at(-1)));
}

async function compareAt(capacity: number): Promise<object> {
  const models: DraftingModel[] = [];
  try {
    for (const kind of KINDS) {
      const folder = join(args.pairs!, `${kind}-${capacity}`);
      models.push(await open(folder, readProvider(args.provider), args.precision));
    }
    const past = capacity - ROOM;
    const text = randomTokens(past, models[0].vocabSize);
    for (const model of models) await model.prefill(text, { logits: false });
    return { capacity, past, ...(await agreement(models)), times: await times(models) };
  } finally {
    for (const model of models) await model.dispose();
  }
}

/** One tree through both: the largest difference of logits, and how many rows choose the same token. */
async function agreement(
  models: readonly DraftingModel[],
): Promise<{ largestLogitDifference: number; sameToken: string }> {
  const tree = randomTree(32, models[0].vocabSize);
  const [a, b] = [
    await models[0].verify(tree, { logits: true }),
    await models[1].verify(tree, { logits: true }),
  ];
  let largest = 0;
  a.logits!.forEach((value, i) => (largest = Math.max(largest, Math.abs(value - b.logits![i]))));
  const same = a.nextTokens.filter((token, row) => token === b.nextTokens[row]).length;
  return { largestLogitDifference: largest, sameToken: `${same} of ${tree.size}` };
}

async function times(models: readonly DraftingModel[]): Promise<object[]> {
  const measured: object[] = [];
  for (const nodes of args.nodes.split(',').map(Number)) {
    const tree = randomTree(nodes, models[0].vocabSize);
    const lists = models.map((): number[] => []);
    for (let round = -2; round < Number(args.rounds); round++) {
      for (const [i, model] of models.entries()) {
        const begin = performance.now();
        await model.verify(tree, { logits: false });
        if (round >= 0) lists[i].push(performance.now() - begin);
      }
    }
    measured.push({ nodes, ...Object.fromEntries(KINDS.map((kind, i) => [kind, median(lists[i])])) });
  }
  return measured;
}
