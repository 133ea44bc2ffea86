/**
 * Prepared models side by side, say of two exporters: milliseconds to open the backbone, and to verify trees:
 *
 *   npx tsx scripts/sideBySide.ts --models FOLDER,FOLDER[,...] [--precision int8] [--threads 1,2] [--nodes 1,2,4,8,16,64]
 *       [--past 256] [--rounds 60]
 *
 * They take turns (A B A B ...). Medians, each divided by the first model's; says whether the logits have the same bits. What a process opens
 * first is 4 to 9% slower than the same graph opened later: all is measured with the models opened in both orders, and geometric means are
 * given.
 */
import { parseArgs } from 'node:util';
import type { DraftingModel } from '../src/decoding/types.js';
import { prefill } from '../src/decoding/prefill.js';
import { randomTokens, randomTree } from '../src/runtime/measure.js';
import { median } from '../src/util/numbers.js';
import { openBackbone } from './support/backbone.js';

const { values: args } = parseArgs({
  options: {
    models: { type: 'string' },
    precision: { type: 'string', default: 'int8' },
    threads: { type: 'string', default: '1,2' },
    nodes: { type: 'string', default: '1,2,4,8,16,64' },
    past: { type: 'string', default: '256' },
    rounds: { type: 'string', default: '60' },
  },
});
const OPENINGS = 7;
const folders = args.models!.split(',');
const numbers = (text: string): number[] => text.split(',').map(Number);

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
}

const openings: number[][] = folders.map(() => []);
for (let i = 0; i < OPENINGS; i++) {
  for (const [at, folder] of folders.entries()) {
    let model: DraftingModel | undefined;
    openings[at].push(await timed(async () => (model = await openBackbone(folder, args.precision, 2))));
    await model!.dispose();
  }
}
console.log(`opening: ${openings.map((times) => `${median(times).toFixed(0)} ms`).join(', ')}`);

interface Comparison {
  /** [models] median milliseconds. */
  readonly times: readonly number[];
  readonly hasSameBits: boolean;
}

/** By number of nodes, with the models opened in the order of `order`. */
async function compare(threads: number, order: readonly number[]): Promise<Map<number, Comparison>> {
  const models: DraftingModel[] = [];
  for (const at of order) models[at] = await openBackbone(folders[at], args.precision, threads);
  const text = [...randomTokens(Number(args.past), models[0].vocabSize)];
  for (const model of models) await prefill(model, text, { logits: false });
  const found = new Map<number, Comparison>();
  for (const nodes of numbers(args.nodes)) {
    const tree = randomTree(nodes, models[0].vocabSize);
    const logits: Float32Array[] = [];
    for (const model of models) logits.push((await model.verify(tree, { logits: true })).logits!.slice());
    const hasSameBits = logits.every((each) => each.every((value, i) => value === logits[0][i]));
    const times: number[][] = folders.map(() => []);
    for (let round = 0; round < Number(args.rounds) / 2; round++) {
      for (const [at, model] of models.entries())
        times[at].push(await timed(() => model.verify(tree, { logits: false })));
    }
    found.set(nodes, { times: times.map(median), hasSameBits });
  }
  for (const model of models) await model.dispose();
  return found;
}

for (const threads of numbers(args.threads)) {
  const order = [...folders.keys()];
  const forth = await compare(threads, order);
  const back = await compare(threads, [...order].reverse());
  for (const [nodes, { times, hasSameBits }] of forth) {
    const others = back.get(nodes)!;
    const means = times.map((time, at) => Math.sqrt(time * others.times[at]));
    const ratios = means.slice(1).map((mean) => (mean / means[0]).toFixed(3));
    const bits = hasSameBits && others.hasSameBits ? 'same bits' : 'OTHER LOGITS';
    console.log(
      `${threads} threads, ${nodes} nodes: ${means[0].toFixed(2)} ms; ${ratios.join(', ')}; ${bits}`,
    );
  }
}
