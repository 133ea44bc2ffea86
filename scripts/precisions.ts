/**
 * The precisions of a prepared model in one table: fidelity to fp32, tokens per second plain and by default, size on disk:
 *
 *   npx medusa-plus prepare --precision int8,int8-block,int4,fp32
 *   npx tsx scripts/precisions.ts [--model NAME] [--models-dir FOLDER] [--precisions int8,int4] [--only fidelity|speed]
 *       [--threads 1] [--questions builtin] [--limit 8] [--tokens 96] [--rounds 3]
 *
 * Fidelity: over fp32's own greedy answers, the share of positions where a precision's best token is fp32's, and KL(fp32 || precision)
 * of the next token (mean and 99th percentile). Speed: greedy, caches and memory emptied before each answer; the precisions take turns,
 * and each time another begins. New tokens over wall time, prefill included: medians over the rounds, geometric means over the prompts.
 * fp32 has to be there for fidelity. Size: the backbone's files.
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { loadQuestions, selectQuestions } from '../src/bench/questions/load.js';
import { prefill } from '../src/decoding/prefill.js';
import { chainTree } from '../src/decoding/tree/candidateTree.js';
import { MedusaEngine } from '../src/index.js';
import { locateModel } from '../src/models/locate.js';
import { readManifest } from '../src/models/manifest.js';
import { modelsFolder } from '../src/models/modelsFolder.js';
import { median, sum } from '../src/util/numbers.js';
import { openBackbone } from './support/backbone.js';
import { geometricMean, takeTurns } from './support/turns.js';

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    'models-dir': { type: 'string' },
    precisions: { type: 'string' },
    only: { type: 'string' },
    threads: { type: 'string', default: '1' },
    questions: { type: 'string', default: 'builtin' },
    limit: { type: 'string', default: '8' },
    tokens: { type: 'string', default: '96' },
    rounds: { type: 'string', default: '3' },
  },
});
const REFERENCE = 'fp32';
const mean = (values: readonly number[]): number => sum(values) / values.length;
const modelsDir = modelsFolder(args['models-dir']);
const [threads, tokens, rounds] = [args.threads, args.tokens, args.rounds].map(Number);
const { folder } = locateModel(args.model, modelsDir);
const manifest = await readManifest(folder);
const split = manifest.backbones.filter(({ layout }) => layout === 'split');
const precisions = args.precisions?.split(',') ?? split.map(({ precision }) => precision);
const questions = selectQuestions(await loadQuestions(args.questions), { limit: Number(args.limit) });
const prompts = questions.map(({ turns }) => turns[0]);

interface Row {
  agreement?: string;
  kl?: string;
  p99?: string;
  plain?: string;
  byDefault?: string;
}
const table = new Map<string, Row>(precisions.map((precision) => [precision, {}]));

const open = (precision: string): Promise<MedusaEngine> =>
  MedusaEngine.open({ model: args.model, modelsDir, precision, threads });

/** What fp32 answers: prompt and answer as token ids. */
async function answers(): Promise<{ prompt: readonly number[]; answer: readonly number[] }[]> {
  await using engine = await open(REFERENCE);
  const found = [];
  for (const text of prompts) {
    const { promptTokenIds, tokenIds } = await engine.complete(text, { tree: 'none', maxNewTokens: tokens });
    found.push({ prompt: promptTokenIds, answer: tokenIds });
  }
  return found;
}

/** For each text its rows of logits: after the prompt's last token, and after each of the answer's but its last. */
async function allLogits(
  precision: string,
  texts: Awaited<ReturnType<typeof answers>>,
): Promise<Float32Array[][]> {
  const model = await openBackbone(folder, precision, threads);
  const found: Float32Array[][] = [];
  for (const { prompt, answer } of texts) {
    model.truncate(0);
    await prefill(model, prompt.slice(0, -1), { logits: false });
    const rows = [...prompt.slice(-1), ...answer.slice(0, -1)];
    const { logits, vocabSize } = await model.verify(chainTree(rows), { logits: true });
    found.push(rows.map((_, i) => logits!.slice(i * vocabSize, (i + 1) * vocabSize)));
  }
  await model.dispose();
  return found;
}

function logSoftmax(logits: Float32Array): Float64Array {
  const most = logits.reduce((a, b) => Math.max(a, b));
  let total = 0;
  for (const each of logits) total += Math.exp(each - most);
  return Float64Array.from(logits, (each) => each - most - Math.log(total));
}

function bestOf(values: Float64Array): number {
  return values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
}

async function measureFidelity(): Promise<void> {
  const texts = await answers();
  const expected = (await allLogits(REFERENCE, texts)).flat().map(logSoftmax);
  console.log(`fidelity: ${expected.length} tokens of ${texts.length} answers`);
  for (const [precision, row] of table) {
    const found = (await allLogits(precision, texts)).flat().map(logSoftmax);
    const kl = found.map((q, i) =>
      expected[i].reduce((total, p, token) => total + Math.exp(p) * (p - q[token]), 0),
    );
    const agreement = mean(found.map((q, i) => Number(bestOf(q) === bestOf(expected[i]))));
    row.agreement = `${(100 * agreement).toFixed(1)}%`;
    row.kl = mean(kl).toFixed(4);
    row.p99 = kl.sort((a, b) => a - b)[Math.floor(0.99 * (kl.length - 1))].toFixed(3);
  }
}

async function measureSpeed(): Promise<void> {
  const engines = new Map<string, MedusaEngine>();
  for (const precision of precisions) engines.set(precision, await open(precision));
  const ways = precisions.flatMap((precision) =>
    ([{ tree: 'none' }, {}] as const).map((options) => ({ engine: engines.get(precision)!, options })),
  );
  for (const { engine } of ways) await engine.complete(prompts[0], { maxNewTokens: 8 });
  const rates = await takeTurns({ ways: ways.length, prompts: prompts.length, rounds }, async (way, p) => {
    const { engine, options } = ways[way];
    engine.forget();
    return (await engine.complete(prompts[p], { ...options, maxNewTokens: tokens })).tokenIds.length;
  });
  const means = rates.map((each) => geometricMean(each.map(median)).toFixed(1));
  precisions.forEach((precision, i) => {
    Object.assign(table.get(precision)!, { plain: means[2 * i], byDefault: means[2 * i + 1] });
  });
  for (const engine of engines.values()) await engine.dispose();
}

if (args.only !== 'speed') await measureFidelity();
if (args.only !== 'fidelity') await measureSpeed();

console.log(
  `${manifest.model.id}, ${cpus()[0].model}, ${threads} threads, ${prompts.length} prompts, at most ${tokens} tokens`,
);
console.log(
  '| precision | greedy agreement | mean KL | p99 KL | plain, tokens/s | default, tokens/s | MB |\n|---|---|---|---|---|---|---|',
);
for (const [precision, { agreement, kl, p99, plain, byDefault }] of table) {
  const { files } = split.find((each) => each.precision === precision)!;
  const megabytes = (sum(files.map(({ bytes }) => bytes)) / 1e6).toFixed(0);
  const cells = [precision, agreement, kl, p99, plain, byDefault, megabytes].map((cell) => cell ?? '');
  console.log(`| ${cells.join(' | ')} |`);
}
