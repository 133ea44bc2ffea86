/**
 * This program beside llama.cpp in Node.js, with the same token ids as prompts:
 *
 *   npm install --prefix DIR node-llama-cpp       # not a dependency of this project
 *   npx tsx scripts/peers.ts --llama DIR --gguf FILE[,FILE] [--model NAME] [--precision int8] [--threads 1]
 *       [--models-dir FOLDER] [--questions builtin] [--limit 8] [--tokens 160] [--rounds 3] [--agreement]
 *
 * The engines take turns: all answer a prompt, greedily and from empty caches, before the next one is asked, and each time another
 * begins. Tokens per second are new tokens over wall time, prefill included: medians over the rounds, geometric means over
 * the prompts. `--agreement` prints the share of positions of the fp32 model's own answers where an engine's best token is fp32's; it needs
 * `prepare --precision int8,fp32`.
 */
import { cpus } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { loadQuestions, selectQuestions } from '../src/bench/questions/load.js';
import { prefill } from '../src/decoding/prefill.js';
import type { CandidateTree, DraftingModel } from '../src/decoding/types.js';
import { MedusaEngine, type DecodingOptions } from '../src/index.js';
import { chooseGraphs } from '../src/models/choose.js';
import { locateModel } from '../src/models/locate.js';
import { readManifest } from '../src/models/manifest.js';
import { modelsFolder } from '../src/models/modelsFolder.js';
import { openModel } from '../src/runtime/index.js';
import { median, sum } from '../src/util/numbers.js';

const { values: args } = parseArgs({
  options: {
    llama: { type: 'string' },
    gguf: { type: 'string' },
    model: { type: 'string' },
    'models-dir': { type: 'string' },
    precision: { type: 'string', default: 'int8' },
    threads: { type: 'string', default: '1' },
    questions: { type: 'string', default: 'builtin' },
    limit: { type: 'string', default: '8' },
    tokens: { type: 'string', default: '160' },
    rounds: { type: 'string', default: '3' },
    agreement: { type: 'boolean', default: false },
  },
});
const modelsDir = modelsFolder(args['models-dir']);
const [threads, tokens, rounds] = [args.threads, args.tokens, args.rounds].map(Number);

/** The parts of node-llama-cpp that are used here. */
interface Sequence {
  clearHistory(): Promise<void>;
  evaluate(ids: readonly number[], options: { temperature: 0 }): AsyncGenerator<number>;
  controlledEvaluate(
    input: readonly (number | [number, object])[],
  ): Promise<({ next: { token?: number | null } } | undefined)[]>;
}
interface LlamaPackage {
  readonly getLlama: (options: object) => Promise<{
    systemInfo: string;
    loadModel(options: object): Promise<{
      createContext(options: object): Promise<{ getSequence(options?: object): Sequence }>;
    }>;
  }>;
  readonly InputLookupTokenPredictor: new () => object;
}

/** Something that answers: greedily, from empty caches, at most `tokens` tokens and no further than its end token. */
interface Engine {
  readonly name: string;
  readonly answer: (prompt: readonly number[], text: string) => Promise<readonly number[]>;
  /** What it would write after each token of `answer`, the last one left out, and first after the prompt. */
  readonly best?: (prompt: readonly number[], answer: readonly number[]) => Promise<readonly number[]>;
}

async function ours(): Promise<{ engines: Engine[]; encode: (text: string) => number[] }> {
  const open = (heads?: 'none'): Promise<MedusaEngine> =>
    MedusaEngine.open({ model: args.model, modelsDir, precision: args.precision, threads, heads });
  const [engine, headless] = [await open(), await open('none')];
  const one = (name: string, from: MedusaEngine, options: DecodingOptions): Engine => ({
    name: `medusa-plus ${engine.facts.precision}, ${name}`,
    answer: async (_, text) => {
      from.forget();
      return (await from.complete(text, { ...options, temperature: 0, maxNewTokens: tokens })).tokenIds;
    },
  });
  const plain = { ...one('plain', engine, { tree: 'none' }), best: bestOf(await backbone(args.precision)) };
  return {
    engines: [plain, one('default', engine, {}), one('default without heads', headless, {})],
    encode: (text) => engine.encodePrompt(text),
  };
}

/** A graph of the model by itself, to look at what it prefers. */
async function backbone(precision: string): Promise<DraftingModel> {
  const { folder } = locateModel(args.model, modelsDir);
  const manifest = await readManifest(folder);
  const { backbone: graph } = chooseGraphs(manifest, { provider: 'cpu', precision }, folder);
  const file = { ...graph, path: join(folder, graph.file) };
  return openModel({ shape: manifest.model, backbone: file, provider: 'cpu', threads });
}

function bestOf(model: DraftingModel): NonNullable<Engine['best']> {
  return async (prompt, answer) => {
    model.truncate(0);
    const first = (await prefill(model, prompt, { logits: false }))!;
    if (answer.length < 2) return [first.nextTokens[0]];
    const { nextTokens } = await model.verify(chain(answer.slice(0, -1)), { logits: false });
    return [first.nextTokens[0], ...nextTokens];
  };
}

/** A tree of one path. */
function chain(ids: readonly number[]): CandidateTree {
  return {
    size: ids.length,
    tokens: Int32Array.from(ids),
    parents: Int32Array.from(ids, (_, i) => i - 1),
    depths: Int32Array.from(ids.keys()),
    ranks: new Int32Array(ids.length).fill(-1),
    probabilities: new Float32Array(ids.length).fill(1),
  };
}

async function theirs(): Promise<Engine[]> {
  const packageFile = join(resolve(args.llama!), 'node_modules/node-llama-cpp/dist/index.js');
  const { getLlama, InputLookupTokenPredictor } = (await import(
    pathToFileURL(packageFile).href
  )) as LlamaPackage;
  const llama = await getLlama({ gpu: false, build: 'never', maxThreads: threads, logLevel: 'error' });
  console.log(`llama.cpp: ${llama.systemInfo}`);
  const engines: Engine[] = [];
  for (const file of args.gguf!.split(',')) {
    const model = await llama.loadModel({ modelPath: resolve(file), gpuLayers: 0 });
    for (const drafts of [false, true]) {
      const context = await model.createContext({ contextSize: 4096, threads, flashAttention: true });
      const sequence = context.getSequence(
        drafts ? { tokenPredictor: new InputLookupTokenPredictor() } : undefined,
      );
      engines.push({
        name: `llama.cpp ${basename(file, '.gguf')}, ${drafts ? 'with its prompt lookup' : 'plain'}`,
        answer: async (prompt) => {
          await sequence.clearHistory();
          const found: number[] = [];
          for await (const id of sequence.evaluate(prompt, { temperature: 0 })) {
            found.push(id);
            if (found.length >= tokens) break;
          }
          return found;
        },
        best: drafts
          ? undefined
          : async (prompt, answer) => {
              await sequence.clearHistory();
              const asked = [...prompt.slice(-1), ...answer.slice(0, -1)].map(
                (id) =>
                  [id, { generateNext: { token: true, options: { temperature: 0 } } }] as [number, object],
              );
              const results = await sequence.controlledEvaluate([...prompt.slice(0, -1), ...asked]);
              return results.slice(prompt.length - 1).map((each) => each?.next.token ?? -1);
            },
      });
    }
  }
  return engines;
}

const geometricMean = (values: readonly number[]): number =>
  Math.exp(sum(values.map(Math.log)) / values.length);

const { engines: own, encode } = await ours();
const engines = [...own, ...(await theirs())];
const questions = selectQuestions(await loadQuestions(args.questions), { limit: Number(args.limit) });
const prompts = questions.map(({ turns }) => ({ text: turns[0], ids: encode(turns[0]) }));
console.log(`${cpus()[0].model}, ${threads} threads, ${prompts.length} prompts, at most ${tokens} tokens`);

const rates = engines.map(() => prompts.map((): number[] => []));
for (const { answer } of engines) await answer(prompts[0].ids, prompts[0].text);
for (let round = 0; round < rounds; round++) {
  for (const [p, { ids, text }] of prompts.entries()) {
    for (let turn = 0; turn < engines.length; turn++) {
      const e = (turn + p + round) % engines.length;
      const begin = performance.now();
      const answer = await engines[e].answer(ids, text);
      rates[e][p].push((1000 * answer.length) / (performance.now() - begin));
    }
  }
}

const agreements = engines.map((): number[] => []);
if (args.agreement) {
  const reference = bestOf(await backbone('fp32'));
  for (const { ids } of prompts) {
    const answer: number[] = [];
    // fp32's own greedy answer, token by token: of the last row of what it has.
    while (answer.length < tokens) answer.push((await reference(ids, [...answer, 0])).at(-1)!);
    for (const [e, { best }] of engines.entries())
      if (best) agreements[e].push(...(await best(ids, answer)).map((id, i) => Number(id === answer[i])));
  }
}

console.log('| engine | tokens/s | over plain | agreement with fp32 |\n|---|---|---|---|');
const middle = rates.map((each) => each.map(median));
engines.forEach(({ name }, e) => {
  const over = geometricMean(middle[e].map((rate, p) => rate / middle[0][p]));
  const agreement = agreements[e].length === 0 ? '' : (sum(agreements[e]) / agreements[e].length).toFixed(4);
  console.log(`| ${name} | ${geometricMean(middle[e]).toFixed(1)} | ${over.toFixed(2)}x | ${agreement} |`);
});
process.exit(0);
