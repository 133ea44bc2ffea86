/**
 * This program beside llama.cpp in Node.js and onnxruntime-genai in Python, with the same token ids as prompts:
 *
 *   npm install --prefix DIR node-llama-cpp       # neither is a dependency of this project
 *   python3 -m venv ENV && ENV/bin/pip install onnxruntime-genai
 *   ENV/bin/pip install torch transformers accelerate gguf onnx_ir      # for `build` only
 *   ENV/bin/python export/medusa_export/measure/genai.py build FILE.gguf FOLDER
 *   npx tsx scripts/peers.ts [--llama DIR --gguf FILE[,FILE]] [--genai ENV/bin/python --genai-models FOLDER/int8,FOLDER/int4]
 *       [--model NAME] [--models-dir FOLDER] [--precision int8] [--threads 1] [--questions builtin] [--limit 8] [--tokens 160] [--rounds 3]
 *       [--agreement]
 *
 * The engines take turns: all answer a prompt, greedily and from empty caches, before the next one is asked, and each time another
 * begins. Tokens per second are new tokens over wall time, prefill included: medians over the rounds, geometric means over
 * the prompts. An engine with drafts is also asked how many of its answers are those of the same engine without. `--agreement` prints the share
 * of positions of the fp32 model's own answers where an engine's best token is fp32's; it needs `prepare --precision int8,fp32`. Alone with
 * `--rounds 0`: that takes time and no quiet machine.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { loadQuestions, selectQuestions } from '../src/bench/questions/load.js';
import { prefill } from '../src/decoding/prefill.js';
import { chainTree } from '../src/decoding/tree/candidateTree.js';
import type { DraftingModel } from '../src/decoding/types.js';
import { MedusaEngine, type DecodingOptions, type GenerationResult } from '../src/index.js';
import { locateModel } from '../src/models/locate.js';
import { modelsFolder } from '../src/models/modelsFolder.js';
import { cpuFeatures, nodeRuntimeVersion } from '../src/runtime/cpu/facts.js';
import { int8Products } from '../src/runtime/index.js';
import { childEnvironment } from '../src/util/childProcess.js';
import { findProgram } from '../src/util/findProgram.js';
import { median, sum } from '../src/util/numbers.js';
import { packageRoot } from '../src/util/packageRoot.js';
import { openBackbone } from './support/backbone.js';
import { geometricMean, takeTurns } from './support/turns.js';

const { values: args } = parseArgs({
  options: {
    llama: { type: 'string' },
    gguf: { type: 'string' },
    genai: { type: 'string' },
    'genai-models': { type: 'string' },
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
/** Tokens that each engine answers before any is timed. */
const WARM_UP = 32;
/** Milliseconds before an answer: threads of the engine before it wait for more work, busily, for up to 30 ms. */
const REST = 50;

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
    llamaCppRelease: { release: string };
    loadModel(options: object): Promise<{
      createContext(options: object): Promise<{ getSequence(options?: object): Sequence }>;
    }>;
  }>;
  readonly InputLookupTokenPredictor: new () => object;
}

interface Prompt {
  readonly text: string;
  /** Its token ids, in the chat template. */
  readonly ids: readonly number[];
}

/** Something that answers: greedily, from empty caches, at most `most` tokens and no further than its end token. */
interface Engine {
  readonly name: string;
  readonly answer: (prompt: Prompt, most: number) => Promise<readonly number[]>;
  /** The same without drafts, whose answers its own should be. */
  readonly plain?: Engine;
  /** What it would write after each token of `answer`, the last one left out, and first after the prompt. */
  readonly best?: (prompt: readonly number[], answer: readonly number[]) => Promise<readonly number[]>;
}

function openOurs(precision: string, heads?: 'none'): Promise<MedusaEngine> {
  return MedusaEngine.open({ model: args.model, modelsDir, precision, threads, heads });
}

/** Without the end token, which the others do not give either. */
function answerOf({ tokenIds, statistics }: GenerationResult): readonly number[] {
  return statistics.finishReason === 'eos' ? tokenIds.slice(0, -1) : tokenIds;
}

async function ours(): Promise<{ engines: Engine[]; encode: (text: string) => number[] }> {
  const [engine, headless] = [await openOurs(args.precision), await openOurs(args.precision, 'none')];
  console.log(
    `medusa-plus: onnxruntime-node ${nodeRuntimeVersion()}, int8 products ${await int8Products()}, Node.js ${process.version}`,
  );
  const one = (name: string, from: MedusaEngine, options: DecodingOptions): Engine => ({
    name: `medusa-plus ${engine.facts.precision}, ${name}`,
    answer: async ({ text }, most) => {
      from.forget();
      return answerOf(await from.complete(text, { ...options, temperature: 0, maxNewTokens: most }));
    },
  });
  const plain = {
    ...one('plain', engine, { tree: 'none' }),
    best: args.agreement
      ? bestOf(await openBackbone(locateModel(args.model, modelsDir).folder, args.precision, threads))
      : undefined,
  };
  return {
    engines: [
      plain,
      { ...one('default', engine, {}), plain },
      { ...one('default without heads', headless, {}), plain },
    ],
    encode: (text) => engine.encodePrompt(text),
  };
}

function bestOf(model: DraftingModel): NonNullable<Engine['best']> {
  return async (prompt, answer) => {
    model.truncate(0);
    const first = (await prefill(model, prompt, { logits: false }))!;
    if (answer.length < 2) return [first.nextTokens[0]];
    const { nextTokens } = await model.verify(chainTree(answer.slice(0, -1)), { logits: false });
    return [first.nextTokens[0], ...nextTokens];
  };
}

async function llamaCpp(folder: string, files: readonly string[]): Promise<Engine[]> {
  const packageFolder = join(resolve(folder), 'node_modules/node-llama-cpp');
  const { getLlama, InputLookupTokenPredictor } = (await import(
    pathToFileURL(join(packageFolder, 'dist/index.js')).href
  )) as LlamaPackage;
  const { version } = JSON.parse(readFileSync(join(packageFolder, 'package.json'), 'utf8')) as {
    version: string;
  };
  const llama = await getLlama({ gpu: false, build: 'never', maxThreads: threads, logLevel: 'error' });
  console.log(
    `llama.cpp: node-llama-cpp ${version}, release ${llama.llamaCppRelease.release}, ${llama.systemInfo}`,
  );
  const engines: Engine[] = [];
  for (const file of files) {
    const model = await llama.loadModel({ modelPath: resolve(file), gpuLayers: 0 });
    const open = async (drafts?: object): Promise<Sequence> => {
      const context = await model.createContext({ contextSize: 4096, threads, flashAttention: true });
      return context.getSequence(drafts && { tokenPredictor: drafts });
    };
    const one = (name: string, sequence: Sequence): Engine => ({
      name: `llama.cpp ${basename(file, '.gguf')}, ${name}`,
      answer: async ({ ids }, most) => {
        await sequence.clearHistory();
        const found: number[] = [];
        for await (const id of sequence.evaluate(ids, { temperature: 0 })) {
          found.push(id);
          if (found.length >= most) break;
        }
        return found;
      },
    });
    const sequence = await open();
    const best: Engine['best'] = async (prompt, answer) => {
      await sequence.clearHistory();
      const asked = [...prompt.slice(-1), ...answer.slice(0, -1)].map(
        (id) => [id, { generateNext: { token: true, options: { temperature: 0 } } }] as [number, object],
      );
      const results = await sequence.controlledEvaluate([...prompt.slice(0, -1), ...asked]);
      return results.slice(prompt.length - 1).map((each) => each?.next.token ?? -1);
    };
    const plain = { ...one('plain', sequence), best };
    const lookup = one('with its prompt lookup', await open(new InputLookupTokenPredictor()));
    engines.push(plain, { ...lookup, plain });
  }
  return engines;
}

/** One process for all models: its threads sleep while others answer. It ends when this one does. */
async function genai(python: string, folders: readonly string[]): Promise<Engine[]> {
  const script = join(packageRoot(), 'export/medusa_export/measure/genai.py');
  const child = spawn(
    findProgram(python),
    [script, 'answer', String(threads), ...folders.map((folder) => resolve(folder))],
    { env: childEnvironment(), stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const read = async (): Promise<unknown> => {
    const line = await lines.next();
    if (line.done) throw new Error(`${script} ended`);
    return JSON.parse(line.value);
  };
  const ask = async (request: object): Promise<number[]> => {
    child.stdin.write(`${JSON.stringify(request)}\n`);
    return (await read()) as number[];
  };
  const { versions, drafts } = (await read()) as { versions: Record<string, string>; drafts: object };
  console.log(
    `onnxruntime-genai: ${Object.entries(versions).flat().join(' ')}, drafts ${JSON.stringify(drafts)}`,
  );
  return folders.flatMap((folder, model) => {
    const one = (name: string, drafts: boolean): Engine => ({
      name: `onnxruntime-genai ${basename(folder)}, ${name}`,
      answer: ({ ids }, most) => ask({ model, drafts, prompt: ids, tokens: most }),
    });
    const best: Engine['best'] = (prompt, answer) => ask({ model, prompt, answer });
    const plain = { ...one('plain', false), best };
    return [plain, { ...one('with its n-gram drafts', true), plain }];
  });
}

const listed = (text = ''): string[] => text.split(',').filter((each) => each !== '');

const preloaded = process.env.LD_PRELOAD === undefined ? '' : `, LD_PRELOAD ${process.env.LD_PRELOAD}`;
console.log(`${cpus()[0].model} (${cpuFeatures().join(' ')}${preloaded}), ${threads} threads`);
const { engines: own, encode } = await ours();
const engines = [
  ...own,
  ...(args.llama === undefined ? [] : await llamaCpp(args.llama, listed(args.gguf))),
  ...(args.genai === undefined ? [] : await genai(args.genai, listed(args['genai-models']))),
];
const questions = selectQuestions(await loadQuestions(args.questions), { limit: Number(args.limit) });
const prompts = questions.map(({ turns }): Prompt => ({ text: turns[0], ids: encode(turns[0]) }));
console.log(`${prompts.length} prompts, at most ${tokens} tokens, ${rounds} rounds\n`);

/** [engines][prompts] the answer of the last round. */
const answers = engines.map((): (readonly number[])[] => []);
if (rounds > 0) for (const { answer } of engines) await answer(prompts[0], WARM_UP);
const rates = await takeTurns(
  {
    ways: engines.length,
    prompts: prompts.length,
    rounds,
    onPrompt: (round, p, last) =>
      console.error(`round ${round}, prompt ${p}: ${last.map((rate) => rate.toFixed(1)).join(' ')}`),
  },
  async (e, p) => (answers[e][p] = await engines[e].answer(prompts[p], tokens)).length,
  () => setTimeout(REST),
);

/** [engines][positions] whether its best token is that of fp32, on fp32's own answers. */
const agreements = engines.map((): boolean[] => []);
if (args.agreement) {
  const reference = await openOurs('fp32', 'none');
  for (const { text, ids } of prompts) {
    const options = { tree: 'none', temperature: 0, maxNewTokens: tokens } as const;
    const answer = answerOf(await reference.complete(text, options));
    for (const [e, { best }] of engines.entries())
      if (best) agreements[e].push(...(await best(ids, answer)).map((id, i) => id === answer[i]));
    console.error(`agreement: ${agreements[0].length} positions`);
  }
}

const same = (one: readonly number[], other: readonly number[]): boolean =>
  one.length === other.length && one.every((id, i) => id === other[i]);
const middle = rates.map((each) => each.map(median));
console.log(
  '| engine | tokens/s | over plain | answers of its plain | agreement with fp32 |\n|---|---|---|---|---|',
);
engines.forEach(({ name, plain }, e) => {
  const cells = [name, '', '', '', ''];
  if (rounds > 0) {
    cells[1] = geometricMean(middle[e]).toFixed(1);
    cells[2] = `${geometricMean(middle[e].map((rate, p) => rate / middle[0][p])).toFixed(2)}x`;
    const equal = (p: number): boolean => same(answers[e][p], answers[engines.indexOf(plain!)][p]);
    if (plain) cells[3] = `${prompts.filter((_, p) => equal(p)).length} of ${prompts.length}`;
  }
  const agreed = agreements[e];
  if (agreed.length > 0)
    cells[4] = `${((100 * sum(agreed.map(Number))) / agreed.length).toFixed(1)}% of ${agreed.length}`;
  console.log(`| ${cells.join(' | ')} |`);
});
process.exit(0);
