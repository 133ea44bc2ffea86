/**
 * How far the sources of drafts beside heads could go, were the right one of their candidates always known:
 *
 *   npx tsx scripts/draftCeiling.ts --questions FILE [--categories summary,rag] [--limit N] [--tokens 200] [--threads 2]
 *       [--model NAME] [--models-dir FOLDER]
 *
 * Answers the questions greedily without heads, with trees of 8 nodes, drafts kept from question to question. Then an oracle goes
 * through the same answers: after each token its tree is the path of the right tokens, for as long as some source names them,
 * at any rank. It knows what the run knew by then, rejected rows too. `named`: the sources as they are. `anywhere`: also
 * what followed the last token of the path at any earlier place of the text. No weighing of the candidates can do better.
 *
 * Tokens per step: the fewest steps with trees of at most n nodes. Speed-up over plain decoding: the cheapest trees of at most 16
 * nodes by the cost curve of this machine, and the time that the prompts took in this run.
 */
import { parseArgs } from 'node:util';
import { loadQuestions, selectQuestions } from '../src/bench/questions/load.js';
import { createAcceptance } from '../src/decoding/acceptance.js';
import { decode } from '../src/decoding/decode.js';
import { DraftMemory } from '../src/decoding/draft/draftMemory.js';
import { DraftSources, mostSourced } from '../src/decoding/draft/draftSources.js';
import { CostCurve } from '../src/decoding/policy/costCurve.js';
import { dynamicTree } from '../src/decoding/policy/treePolicy.js';
import type { StepObservation } from '../src/decoding/types.js';
import { openEngineParts } from '../src/engine/open.js';
import { modelsFolder } from '../src/models/modelsFolder.js';
import { sum } from '../src/util/numbers.js';

const { values: args } = parseArgs({
  options: {
    questions: { type: 'string' },
    categories: { type: 'string' },
    limit: { type: 'string' },
    tokens: { type: 'string', default: '200' },
    threads: { type: 'string' },
    model: { type: 'string' },
    'models-dir': { type: 'string' },
  },
});
const sizes = [4, 8, 16];
const oracles = ['named', 'anywhere'] as const;
const use = { lookup: true, recycle: true };

/** An answer, and how far each oracle gets after each of its tokens. */
interface Answer {
  readonly category: string;
  readonly promptTokens: number;
  readonly prefillTime: number;
  readonly steps: number;
  /** [new tokens - 1, oracles] right tokens after the root that are at hand. */
  readonly reach: readonly (readonly number[])[];
}

const parts = await openEngineParts({
  model: args.model,
  modelsDir: modelsFolder(args['models-dir']),
  heads: 'none',
  threads: args.threads === undefined ? undefined : Number(args.threads),
});
const { facts, model, tokenizer, chatTemplate } = parts;
const costs = new CostCurve(parts.costs);
const controlTexts = tokenizer.specialTokens.map(({ content }) => content);

/** Learns as the run does, a step behind. */
const seer = new DraftSources(new DraftMemory(), use);
const policy = dynamicTree({
  nodes: 8,
  heads: 0,
  topM: 1,
  sources: new DraftSources(new DraftMemory(), use),
});

async function answer(category: string, question: string): Promise<Answer> {
  const prompt = tokenizer.encode(
    chatTemplate.render([{ role: 'user', content: question }], controlTexts, {}),
  );
  const seen = new Map<number, StepObservation>();
  const steps = decode(model, prompt, {
    policy: {
      ...policy,
      observe: (step) => {
        seen.set(step.text.length, { ...step, text: [...step.text] });
        policy.observe(step);
      },
    },
    acceptance: createAcceptance({ name: 'greedy' }),
    maxNewTokens: Number(args.tokens),
    eosTokenIds: parts.eosTokenIds,
    clock: () => performance.now(),
  });
  let next = await steps.next();
  while (!next.done) next = await steps.next();
  const { tokens, prefillTime, steps: count } = next.value;
  const reach = reachOf([...prompt, ...tokens], prompt.length, seen);
  return { category, promptTokens: prompt.length, prefillTime, steps: count, reach };
}

function reachOf(text: readonly number[], first: number, seen: Map<number, StepObservation>): number[][] {
  const all: number[][] = [];
  for (let root = first; root < text.length - 1; root++) {
    const before = text.slice(0, root + 1);
    seer.begin(before, sizes.at(-1)!);
    const reach = oracles.map(() => 0);
    for (let depth = 0; depth < sizes.at(-1)! - 1 && root + depth + 1 < text.length; depth++) {
      const path = text.slice(root + 1, root + 1 + depth).reverse();
      const named = names(depth, path, text[root + depth + 1]);
      const known = [named, named || follows(before, text[root + depth], text[root + depth + 1])];
      known.forEach((isKnown, oracle) => (reach[oracle] += isKnown && reach[oracle] === depth ? 1 : 0));
    }
    all.push(reach);
    learn(text, root, seen.get(root + 1));
  }
  return all;
}

/** Learns the row of the root, and the rejected ones of the run's step there: its accepted ones tell of tokens yet to come. */
function learn(text: readonly number[], root: number, step: StepObservation | undefined): void {
  const { recycled } = seer.memory;
  if (step) {
    const { tree, nextTokens, rows } = step;
    for (let row = 1; row < tree.size; row++) {
      if (rows.includes(row)) continue;
      recycled.observe(tree.tokens[tree.parents[row]], tree.tokens[row], nextTokens[row]);
    }
  }
  recycled.observe(text[root - 1] ?? -1, text[root], text[root + 1]);
}

/** Whether a source names `right` after the text and `path`. */
function names(node: number, path: readonly number[], right: number): boolean {
  const count = seer.collect(node, path, path.length);
  return seer.tokens.subarray(node * mostSourced, node * mostSourced + count).includes(right);
}

function follows(text: readonly number[], token: number, right: number): boolean {
  return text.some((each, at) => at > 0 && each === right && text[at - 1] === token);
}

/** What the cheapest steps of an answer cost in sum, when one of n nodes behind `past` positions costs `cost(n, past)`. */
function cheapest(
  { reach, promptTokens }: Answer,
  oracle: number,
  most: number,
  cost: (n: number, past: number) => number,
): number {
  const from = new Float64Array(reach.length + 1);
  for (let at = reach.length - 1; at >= 0; at--) {
    from[at] = Infinity;
    const longest = Math.min(most, reach[at][oracle] + 1, reach.length - at);
    for (let n = 1; n <= longest; n++) {
      from[at] = Math.min(from[at], cost(n, promptTokens + at) + from[at + n]);
    }
  }
  return from[0];
}

const set = await loadQuestions(args.questions ?? 'builtin');
const questions = selectQuestions(set, {
  categories: args.categories?.split(','),
  limit: args.limit === undefined ? undefined : Number(args.limit),
});
const answers: Answer[] = [];
for (const { category, turns } of questions) answers.push(await answer(category, turns[0]));
await model.dispose();

console.log(
  `${facts.model} ${facts.precision}, ${facts.threads} threads, ${questions.length} questions of ${set.name}`,
);
console.log(
  `milliseconds of a step: ${[1, ...sizes].map((n) => `n = ${n} ${costs.at(n).toFixed(1)}`).join(', ')}\n`,
);
const columns = ['oracle', ...sizes.map((n) => `n = ${n}`), 'speed-up', 'without prefill'];
console.log(`| category | tokens | prefill | n = 8 as it is | ${columns.join(' | ')} |`);
console.log(`|${'---|'.repeat(4 + columns.length)}`);
const categories = [...new Set(answers.map(({ category }) => category))];
for (const category of [...categories, 'all']) {
  const chosen = answers.filter((each) => category === 'all' || each.category === category);
  const total = (of: (each: Answer) => number): number => sum(chosen.map(of));
  const tokens = total(({ reach }) => reach.length);
  const prefill = total(({ prefillTime }) => prefillTime);
  const plain = total(({ reach, promptTokens }) => sum(reach.map((_, at) => costs.at(1, promptTokens + at))));
  oracles.forEach((name, oracle) => {
    const steps = sizes.map((n) => total((each) => cheapest(each, oracle, n, () => 1)));
    const drafted = total((each) => cheapest(each, oracle, 16, (n, past) => costs.at(n, past)));
    const share = `${Math.round((100 * prefill) / (prefill + plain))}%`;
    const asItIs = (tokens / total((each) => each.steps)).toFixed(2);
    const ratios = [
      ...steps.map((count) => tokens / count),
      (prefill + plain) / (prefill + drafted),
      plain / drafted,
    ];
    const cells = [category, tokens, share, asItIs, name, ...ratios.map((ratio) => ratio.toFixed(2))];
    console.log(`| ${cells.join(' | ')} |`);
  });
}
