/**
 * Whether decoding on the CUDA device is right:
 *
 *   correctness --model <folder> --questions <question.jsonl | builtin> --out <results> [--turns 40] [--tokens 128]
 *       [--provider cuda] [--precision fp16]
 *
 * 1. Trees give the tokens of plain decoding; where they do not, the gap between the two tokens' logits says whether
 *    float16 could not tell them apart. 2. A tree row equals its path run causally. 3. How often float16 on the device
 *    chooses the token that float32 on the CPU chooses, given the same text. Writes correctness.json.
 */
import './oneLine.js';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadQuestions, selectQuestions } from '../../src/bench/questions/load.js';
import type { CandidateTree, DraftingModel } from '../../src/decoding/types.js';
import { MedusaEngine } from '../../src/engine/engine.js';
import type { GenerateOptions } from '../../src/engine/options/generateOptions.js';
import { randomTokens, randomTree } from '../../src/runtime/measure.js';
import { open } from './openModels.js';

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    questions: { type: 'string', default: 'builtin' },
    out: { type: 'string' },
    turns: { type: 'string', default: '40' },
    tokens: { type: 'string', default: '128' },
    provider: { type: 'string', default: 'cuda' },
    precision: { type: 'string', default: 'fp16' },
  },
});
const folder = args.model!;
const provider = args.provider === 'cpu' ? 'cpu' : 'cuda';
const LOGITS = { logits: true };
const GREEDY = { logits: false };

interface Text {
  readonly prompt: readonly number[];
  readonly tokens: readonly number[];
}

interface Difference {
  readonly turn: number;
  readonly tree: string;
  readonly position: number;
  readonly plain: number;
  readonly other: number;
  /** Logit of the plain token less that of the other, from a run over the text as a prompt. */
  readonly gap: number;
}

const variants: Record<string, GenerateOptions> = {
  'dynamic 8': { tree: 'dynamic', nodes: 8 },
  'dynamic 64': { tree: 'dynamic', nodes: 64 },
  'static 64': { tree: 'static', nodes: 64 },
};

mkdirSync(args.out!, { recursive: true });
const { texts, differences } = await compareTrees();
// Written after each part: a run that is cut short keeps what it found.
const summary: Record<string, unknown> = {
  turns: texts.length,
  tokens: texts.reduce((sum, { tokens }) => sum + tokens.length, 0),
  identical: Object.fromEntries(
    Object.keys(variants).map((tree) => [
      tree,
      texts.length - differences.filter((each) => each.tree === tree).length,
    ]),
  ),
};
save({ differences });
const device = await open(folder, provider, args.precision);
const gaps: Difference[] = [];
for (const difference of differences) {
  gaps.push({ ...difference, gap: await logitGap(device, texts[difference.turn], difference) });
}
save({ differences: gaps });
save({ treeRowsAgainstCausal: await compareRows(device) });
save({ agreementWithFloat32OnCpu: await compareWithCpu(device, texts) });
await device.dispose();
console.log(JSON.stringify({ ...summary, differences: gaps.slice(0, 10) }, null, 1));

function save(part: Record<string, unknown>): void {
  Object.assign(summary, part);
  writeFileSync(join(args.out!, 'correctness.json'), `${JSON.stringify(summary, null, 1)}\n`);
}

/** Generates each turn plainly and with each kind of tree. */
async function compareTrees(): Promise<{ texts: Text[]; differences: Omit<Difference, 'gap'>[] }> {
  const questions = selectQuestions(await loadQuestions(args.questions), { limit: Number(args.turns) });
  const engine = await MedusaEngine.open({ model: folder, provider, precision: args.precision });
  const found: Omit<Difference, 'gap'>[] = [];
  const plainTexts: Text[] = [];
  try {
    for (const [turn, question] of questions.entries()) {
      const answer = (options: GenerateOptions): ReturnType<MedusaEngine['complete']> =>
        engine.complete(question.turns[0], { ...options, temperature: 0, maxNewTokens: Number(args.tokens) });
      const plain = await answer({ tree: 'none' });
      plainTexts.push({ prompt: plain.promptTokenIds, tokens: plain.tokenIds });
      for (const [tree, options] of Object.entries(variants)) {
        const { tokenIds } = await answer(options);
        const position = firstDifference(plain.tokenIds, tokenIds);
        if (position < 0) continue;
        const [a, b] = [plain.tokenIds[position] ?? -1, tokenIds[position] ?? -1];
        found.push({ turn, tree, position, plain: a, other: b });
      }
      process.stderr.write(`\rturn ${turn + 1} of ${questions.length} `);
    }
  } finally {
    await engine.dispose();
  }
  return { texts: plainTexts, differences: found };
}

function firstDifference(a: readonly number[], b: readonly number[]): number {
  const length = Math.max(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return i;
  return -1;
}

async function logitGap(
  model: DraftingModel,
  { prompt, tokens }: Text,
  { position, plain, other }: Omit<Difference, 'gap'>,
): Promise<number> {
  model.truncate(0);
  const { logits } = await model.prefill([...prompt, ...tokens.slice(0, position)], LOGITS);
  return logits![plain] - logits![other];
}

/** Random trees behind random texts: the largest difference of logits between a row and its path read in order. */
async function compareRows(model: DraftingModel): Promise<object[]> {
  const results: object[] = [];
  for (const past of [100, 700].filter((length) => length + 40 < model.contextLength)) {
    const text = [...randomTokens(past, model.vocabSize)];
    const tree = randomTree(32, model.vocabSize);
    model.truncate(0);
    await model.prefill(text, GREEDY);
    const { logits, nextTokens } = await model.verify(tree, LOGITS);
    let largest = 0;
    let sameToken = 0;
    for (let row = 0; row < tree.size; row++) {
      model.truncate(0);
      const alone = await model.prefill([...text, ...pathTokens(tree, row)], LOGITS);
      const mine = logits!.subarray(row * model.vocabSize, (row + 1) * model.vocabSize);
      mine.forEach((value, i) => (largest = Math.max(largest, Math.abs(value - alone.logits![i]))));
      if (alone.nextTokens[0] === nextTokens[row]) sameToken++;
    }
    results.push({ past, rows: tree.size, largestLogitDifference: largest, sameToken });
  }
  return results;
}

function pathTokens(tree: CandidateTree, row: number): number[] {
  const path: number[] = [];
  for (let at = row; at >= 0; at = tree.parents[at]) path.unshift(tree.tokens[at]);
  return path;
}

/** Both models read the plain texts; counts the positions at which they choose the same next token. */
async function compareWithCpu(model: DraftingModel, all: readonly Text[]): Promise<object> {
  const cpu = await open(folder, 'cpu', 'fp32');
  let same = 0;
  let count = 0;
  try {
    for (const text of all) {
      const [a, b] = [await choices(model, text), await choices(cpu, text)];
      a.forEach((token, i) => (same += token === b[i] ? 1 : 0));
      count += a.length;
    }
  } finally {
    await cpu.dispose();
  }
  return { positions: count, same, rate: same / count };
}

/** The next token chosen after each token of the answer, read as chains of up to 64 rows. */
async function choices(model: DraftingModel, { prompt, tokens }: Text): Promise<number[]> {
  const chosen: number[] = [];
  model.truncate(0);
  await model.prefill(prompt, GREEDY);
  for (let start = 0; start < tokens.length; start += 64) {
    const chain = chainOf(tokens.slice(start, start + 64));
    const { nextTokens } = await model.verify(chain, GREEDY);
    chosen.push(...nextTokens);
    await model.keep([...chain.depths]);
  }
  return chosen;
}

function chainOf(tokens: readonly number[]): CandidateTree {
  const depths = Int32Array.from(tokens.keys());
  return {
    size: tokens.length,
    tokens: Int32Array.from(tokens),
    parents: depths.map((depth) => depth - 1),
    depths,
    ranks: new Int32Array(tokens.length),
    probabilities: new Float32Array(tokens.length).fill(1),
  };
}
