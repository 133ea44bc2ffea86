/**
 * Whether decoding on a card is right:
 *
 *   npx tsx scripts/cuda/correctness.ts --model FOLDER [--questions builtin] [--limit 20] [--tokens 128]
 *       [--out correctness.json] [--provider cuda] [--precision fp16]
 *
 * 1. Trees give the tokens of plain decoding. Where they do not, the gap between the two tokens' logits says whether
 *    the precision could not tell them apart.
 * 2. A tree row gives the logits that its path gives when it is read in order.
 * 3. Steps that are captured as CUDA graphs give the same tokens. They run the same kernels, so any difference is a
 *    fault, and the exit code is 1.
 * 4. How often the card chooses the token that float32 on the CPU chooses, given the same text.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { loadQuestions, selectQuestions } from '../../src/bench/questions/load.js';
import { greedyAcceptance } from '../../src/decoding/acceptance.js';
import { decode } from '../../src/decoding/decode.js';
import { prefill } from '../../src/decoding/prefill.js';
import { dynamicTree, noTree } from '../../src/decoding/policy/treePolicy.js';
import { chainTree } from '../../src/decoding/tree/candidateTree.js';
import type { CandidateTree, DraftingModel, TreePolicy } from '../../src/decoding/types.js';
import { loadTokenizer } from '../../src/engine/text/load.js';
import { randomTokens, randomTree } from '../../src/runtime/measure.js';
import { open, planModel, readWhere } from './models.js';

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    questions: { type: 'string', default: 'builtin' },
    limit: { type: 'string', default: '20' },
    tokens: { type: 'string', default: '128' },
    out: { type: 'string' },
    provider: { type: 'string', default: 'cuda' },
    precision: { type: 'string', default: 'fp16' },
  },
});
const LOGITS = { logits: true };
const GREEDY = { logits: false };
/** Few nodes, and as many as the paper's trees have. */
const NODES = [8, 64];
const MOST_TOP_M = 32;
/** Rows that are read in one run where a text is read again. */
const CHAIN = 64;

interface Text {
  readonly prompt: readonly number[];
  readonly tokens: readonly number[];
}

interface Difference {
  readonly prompt: number;
  readonly nodes: number;
  readonly position: number;
  readonly plain: number;
  readonly other: number;
  /** Logit of the plain token less that of the other, from reading the text in order. */
  readonly gap: number;
}

const where = readWhere(args.provider);
const { manifest, options } = await planModel(args.model!, where, args.precision);
const prompts = await questionPrompts();
const card = await open(where, options);
const texts = await generateAll(card, noTree());
const trees: Text[][] = [];
for (const nodes of NODES) trees.push(await generateAll(card, treesOf(card, nodes)));
const differences: Difference[] = [];
for (const [i, nodes] of NODES.entries()) {
  for (const prompt of texts.keys())
    differences.push(...(await compareTexts(prompt, nodes, trees[i][prompt])));
}
const treeRows = [];
for (const past of [100, 700].filter((length) => length + 40 < card.contextLength)) {
  treeRows.push(await compareRows(past));
}
const choicesOnCard = await allChoices(card);
await card.dispose();

const capturing = await open(where, { ...options, cudaGraphs: true });
const captured = await generateAll(capturing, treesOf(capturing, NODES[1]));
await capturing.dispose();
const differentlyCaptured = captured.filter(
  ({ tokens }, i) => firstDifference(tokens, trees[1][i].tokens) >= 0,
);

const cpu = await open('cpu', (await planModel(args.model!, 'cpu', 'fp32')).options);
const choicesOnCpu = await allChoices(cpu);
await cpu.dispose();

const same = choicesOnCard.filter((token, i) => token === choicesOnCpu[i]).length;
const found = {
  model: manifest.model.id,
  prompts: texts.length,
  tokens: texts.reduce((sum, { tokens }) => sum + tokens.length, 0),
  treesAgainstPlain: differences,
  treeRowsAgainstCausal: treeRows,
  promptsThatDifferWithCudaGraphs: differentlyCaptured.length,
  agreementWithFloat32OnCpu: { positions: choicesOnCard.length, same, rate: same / choicesOnCard.length },
};
const report = JSON.stringify(found, null, 1);
if (args.out) writeFileSync(args.out, `${report}\n`);
console.log(report);
if (differentlyCaptured.length > 0) process.exitCode = 1;

async function questionPrompts(): Promise<number[][]> {
  const { tokenizer, chatTemplate } = await loadTokenizer(args.model!, manifest);
  const questions = selectQuestions(await loadQuestions(args.questions), { limit: Number(args.limit) });
  return questions.map(({ turns: [content] }) =>
    tokenizer.encode(chatTemplate.render([{ role: 'user', content }], [])),
  );
}

function treesOf({ headCount, maxTopM }: DraftingModel, nodes: number): TreePolicy {
  return dynamicTree({ nodes, heads: headCount, topM: Math.min(MOST_TOP_M, maxTopM) });
}

async function generateAll(model: DraftingModel, policy: TreePolicy): Promise<Text[]> {
  const all: Text[] = [];
  for (const prompt of prompts) {
    const steps = decode(model, prompt, {
      policy,
      acceptance: greedyAcceptance(),
      maxNewTokens: Number(args.tokens),
      eosTokenIds: manifest.tokenizer.eosTokenIds,
      clock: () => performance.now(),
    });
    let step = await steps.next();
    while (!step.done) step = await steps.next();
    all.push({ prompt, tokens: step.value.tokens });
  }
  return all;
}

function firstDifference(a: readonly number[], b: readonly number[]): number {
  const length = Math.max(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return i;
  return -1;
}

/** The first difference of a text made with trees, if there is one. */
async function compareTexts(prompt: number, nodes: number, { tokens }: Text): Promise<Difference[]> {
  const expected = texts[prompt];
  const position = firstDifference(expected.tokens, tokens);
  if (position < 0) return [];
  const [plain, other] = [expected.tokens[position] ?? -1, tokens[position] ?? -1];
  card.truncate(0);
  const { logits } = (await prefill(card, [...expected.prompt, ...tokens.slice(0, position)], LOGITS))!;
  return [{ prompt, nodes, position, plain, other, gap: logits![plain] - logits![other] }];
}

/** A random tree behind a random text: the largest difference of logits between a row and its path read in order. */
async function compareRows(past: number): Promise<object> {
  const { vocabSize } = card;
  const text = [...randomTokens(past, vocabSize)];
  const tree = randomTree(32, vocabSize);
  card.truncate(0);
  await prefill(card, text, GREEDY);
  const { logits, nextTokens } = await card.verify(tree, LOGITS);
  let largest = 0;
  let sameToken = 0;
  for (let row = 0; row < tree.size; row++) {
    card.truncate(0);
    const alone = (await prefill(card, [...text, ...pathTokens(tree, row)], LOGITS))!;
    const mine = logits!.subarray(row * vocabSize, (row + 1) * vocabSize);
    mine.forEach((value, i) => (largest = Math.max(largest, Math.abs(value - alone.logits![i]))));
    if (alone.nextTokens[0] === nextTokens[row]) sameToken++;
  }
  return { past, rows: tree.size, sameToken, largestLogitDifference: largest };
}

function pathTokens(tree: CandidateTree, row: number): number[] {
  const path: number[] = [];
  for (let at = row; at >= 0; at = tree.parents[at]) path.unshift(tree.tokens[at]);
  return path;
}

/** The next token chosen after each token of the plain texts, read as chains. */
async function allChoices(model: DraftingModel): Promise<number[]> {
  const chosen: number[] = [];
  for (const { prompt, tokens } of texts) {
    model.truncate(0);
    await prefill(model, prompt, GREEDY);
    for (let start = 0; start < tokens.length; start += CHAIN) {
      const chain = chainTree(tokens.slice(start, start + CHAIN));
      const { nextTokens } = await model.verify(chain, GREEDY);
      chosen.push(...nextTokens);
      await model.keep([...chain.depths]);
    }
  }
  return chosen;
}
