/**
 * Microseconds to build a candidate tree, from products of marginals and from conditional probabilities:
 *
 *   npx tsx scripts/treeBuild.ts [RANK]     (192, that of the default heads' table)
 *
 * Each call sees another of 256 random proposals, so that no branch is learnt by heart. The conditional table has the size of a
 * real one (its rows lie far apart) and is read from a file, as real ones are. Drafts come from a text of 2000 tokens that repeats
 * phrases of 100, which is compared with the index before each tree, and from as many recycled tokens.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CandidateTreeBuilder } from '../src/decoding/tree/candidateTree.js';
import type { ConditionalTable } from '../src/decoding/tree/conditionalTable.js';
import { DraftMemory } from '../src/decoding/draft/draftMemory.js';
import { DraftSources } from '../src/decoding/draft/draftSources.js';
import { createRandom } from '../src/decoding/random.js';
import { fillTreeBias, splitLayout, writeInt64 } from '../src/decoding/tree/treeMask.js';
import type { HeadProposals } from '../src/decoding/types.js';
import { openConditional } from '../src/models/conditional.js';

const heads = 4;
const topM = 32;
const vocabSize = 49152;
const draftVocabSize = 16384;
const spread = Math.floor(vocabSize / draftVocabSize);
const rank = Number(process.argv[2] ?? 192);
const distances = 2;
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
    ids: Int32Array.from({ length: heads * topM }, () => spread * Math.floor(random() * draftVocabSize)),
  };
}

/** Values that make scores of about -1 to 1. */
function randomValues(count: number): Float32Array {
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = 0.6 * (random() - 0.5);
  return values;
}

const folder = await mkdtemp(join(tmpdir(), 'medusa-plus-trees-'));

/** Every third token is in the draft vocabulary. */
async function randomTable(activation: ConditionalTable['activation']): Promise<ConditionalTable> {
  const [file, levels] = [`${activation}.bin`, heads];
  const content = [
    Int32Array.from({ length: draftVocabSize }, (_, row) => spread * row),
    randomValues(distances * vocabSize * rank),
    randomValues(draftVocabSize * rank),
    randomValues(levels * rank),
    randomValues(levels * rank).map((x) => 1 + x),
  ].map(({ buffer }) => Buffer.from(buffer));
  await writeFile(join(folder, file), Buffer.concat(content));
  const bytes = content.reduce((sum, { length }) => sum + length, 0);
  const sizes = { rank, distances, vocabSize, draftVocabSize, levels, bytes };
  const unread = { sha256: '', sourceSha256: undefined };
  return openConditional(folder, { file, activation, context: false, ...sizes, ...unread });
}

/** Microseconds of a call. The batches are short (half a millisecond), so that a busy machine leaves some of them alone. */
function measure(call: (i: number) => void): { best: number; median: number } {
  let next = 0;
  const time = (calls: number): number => {
    const start = performance.now();
    for (let i = 0; i < calls; i++) call(next++);
    return ((performance.now() - start) * 1000) / calls;
  };
  const calls = Math.max(1, Math.min(256, Math.round(500 / time(256))));
  const batches = Array.from({ length: 1000 }, () => time(calls)).sort((a, b) => a - b);
  return { best: batches[0], median: batches[500] };
}

const past = 256;
const capacity = 512;
const largest = 64;
const ids = new BigInt64Array(largest);
const positions = new BigInt64Array(largest);
const bias = new Float32Array(largest * (capacity + largest));
const proposals = Array.from({ length: 256 }, randomProposals);

const phrases = Array.from({ length: 5 }, () =>
  Array.from({ length: 100 }, () => spread * Math.floor(random() * draftVocabSize)),
);
const text = Array.from({ length: 20 }, () => phrases[Math.floor(random() * phrases.length)]).flat();
text.push(...text.slice(0, 50));

interface Drafted {
  readonly sources?: DraftSources;
  readonly withoutHeads?: boolean;
}

function measureJoint(
  name: string,
  table: ConditionalTable | undefined,
  { sources, withoutHeads = false }: Drafted = {},
): void {
  const builder = new CandidateTreeBuilder(table, sources);
  const options = { depth: heads, sourceDepth: Infinity, text };
  const find = (nodes: number, i: number): number =>
    builder.find(text.at(-1)!, withoutHeads ? undefined : proposals[i & 255], { nodes, ...options });
  // Compiled for every size before the first is measured.
  for (let i = 0; i < 20000; i++) builder.take(find(1 + (i % largest), i));
  for (const nodes of [8, 16, 32, 64]) {
    const stages = [
      measure((i) => find(nodes, i)),
      measure((i) => builder.take(find(nodes, i))),
      measure((i) => {
        const tree = builder.take(find(nodes, i));
        writeInt64(ids, tree.tokens, nodes);
        writeInt64(positions, tree.depths, nodes, past);
        fillTreeBias(bias, tree.parents, nodes, splitLayout(past, capacity, nodes));
      }),
    ];
    const cells = stages.map(({ best, median }) => `${best.toFixed(2)} (${median.toFixed(2)})`.padStart(24));
    console.log(name.padEnd(18) + String(nodes).padStart(5) + cells.join(''));
  }
}

console.log(
  `K = ${heads}, m = ${topM}; tables of r = ${rank}, D = ${distances}, V = ${vocabSize}, V' = ${draftVocabSize}; ` +
    `past ${past}, capacity ${capacity}; microseconds, best (median)`,
);
const titles = ['search', 'search + tree', '+ ids, positions, mask'].map((title) => title.padStart(24));
console.log(`${'joint'.padEnd(18)}nodes${titles.join('')}`);
measureJoint('product', undefined);
measureJoint('conditional', await randomTable('none'));
const table = await randomTable('silu');
measureJoint('conditional, silu', table);
const sources = new DraftSources(recycling(), { lookup: true, recycle: true });
measureJoint('all sources', table, { sources });
measureJoint('no heads', undefined, { sources, withoutHeads: true });
await rm(folder, { recursive: true });

/** A memory in which each token of the text was followed by some others. */
function recycling(): DraftMemory {
  const memory = new DraftMemory();
  for (let i = 1; i < text.length; i++) {
    const { ids } = proposals[i & 255];
    for (let rank = 0; rank < 4; rank++) memory.recycled.observe(text[i - 1], text[i], ids[rank]);
  }
  return memory;
}
