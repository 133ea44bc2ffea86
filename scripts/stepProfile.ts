/**
 * Where the time of one step goes, by kind of work, for a prepared model's graph of layout "split":
 *
 *   npx tsx scripts/stepProfile.ts [--model onnx/<name>] [--precision int8] [--nodes 1,4] [--past 256] [--threads 1] [--runs 30]
 *
 * Node times come from ONNX Runtime's profiler, which makes each node slower. What it adds is taken to be the time that
 * it shows for nodes without work (the least mean of any operator), and is subtracted from each. "between nodes" is what is
 * left of a run without the profiler. Below zero it says that the machine was busier under the profiler: measure again. The floor
 * is the time of the products as they ran. Their rate counts the whole data file, the embedding table included, so it is an upper
 * bound; where it is well below what the machine can read, the products compute.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { prefill } from '../src/decoding/prefill.js';
import { chooseGraphs } from '../src/models/choose.js';
import { readManifest } from '../src/models/manifest.js';
import { int8Products, unsignedWeights } from '../src/runtime/cpu/kernels.js';
import { InferenceSession, Tensor } from '../src/runtime/cpu/ort.js';
import { CAPACITY_STEP } from '../src/runtime/cpu/splitCache.js';
import { openModel } from '../src/runtime/index.js';
import { randomTokens, randomTree } from '../src/runtime/measure.js';
import { median } from '../src/util/numbers.js';

const OUTPUTS = ['next_tokens', 'hidden', 'new_kv'];
const GREEDY = { logits: false };

/** One node of one run. */
interface NodeTime {
  readonly op: string;
  /** Its output's name, which begins with the part of the model. */
  readonly name: string;
  readonly microseconds: number;
}

const { values: options } = parseArgs({
  options: {
    model: { type: 'string', default: 'onnx/smollm2-135m-instruct' },
    precision: { type: 'string', default: 'int8' },
    nodes: { type: 'string', default: '1,4' },
    past: { type: 'string', default: '256' },
    threads: { type: 'string', default: '1' },
    runs: { type: 'string', default: '30' },
  },
});
const list = (text: string): number[] => text.split(',').map(Number);
const runs = Number(options.runs);
const manifest = await readManifest(options.model);
const request = { provider: 'cpu', precision: options.precision, heads: 'none' } as const;
const { backbone } = chooseGraphs(manifest, request, options.model);
const path = join(options.model, backbone.file);
const shape = manifest.model;

for (const threads of list(options.threads)) {
  for (const past of list(options.past)) {
    for (const nodes of list(options.nodes)) await profile(nodes, past, threads);
  }
}

async function profile(nodes: number, past: number, threads: number): Promise<void> {
  const feeds = feedsOf(nodes, past);
  const plain = await timeOfRuns(await open(threads), feeds);
  const step = await timeOfSteps(nodes, past, threads);
  const { times, count } = await nodeTimes(threads, feeds);
  const empty = Math.min(...[...groupBy(times, ({ op }) => op).values()].map(meanOf));
  const kinds = new Map<string, number>();
  for (const time of times) {
    const own = Math.max(0, time.microseconds - empty) / 1000 / runs;
    kinds.set(kindOf(time), (kinds.get(kindOf(time)) ?? 0) + own);
  }
  const inNodes = [...kinds.values()].reduce((sum, each) => sum + each, 0);
  kinds.set('between nodes', plain - inNodes);
  kinds.set('binding and JavaScript', step - plain);
  const products = (kinds.get('products') ?? 0) + (kinds.get('LM head') ?? 0);
  const data = `${path}.data`;
  const weights = existsSync(data) ? statSync(data).size : 0;
  const title = `${options.precision}, n = ${nodes}, past ${past}, ${threads} threads`;
  console.log(`\n${title}: ${step.toFixed(2)} ms a step, ${Math.round(count)} nodes\n`);
  console.log('| kind | ms | share |\n|---|---|---|');
  for (const [kind, time] of [...kinds].sort((a, b) => b[1] - a[1])) {
    console.log(`| ${kind} | ${time.toFixed(2)} | ${((100 * time) / step).toFixed(0)}% |`);
  }
  const rate = (weights / 1e6 / products).toFixed(1);
  console.log(
    `\nProducts and LM head: ${products.toFixed(2)} ms; the step takes ${(step / products).toFixed(2)} times that.`,
  );
  console.log(`Data file ${(weights / 1e6).toFixed(0)} MB, ${rate} GB/s over those milliseconds.`);
}

async function open(threads: number, profileTo?: string): Promise<InferenceSession> {
  const products = (await int8Products()) === 'unsigned' ? unsignedWeights : {};
  return InferenceSession.create(path, {
    executionProviders: ['cpu'],
    interOpNumThreads: 1,
    intraOpNumThreads: threads,
    logSeverityLevel: 3,
    ...(profileTo && { enableProfiling: true, profileFilePrefix: profileTo }),
    extra: { session: { intra_op: { allow_spinning: '1' }, force_spinning_stop: '1', ...products } },
  });
}

/** Inputs of a step: keys and values of zeros take the time that others take. */
function feedsOf(nodes: number, past: number): Record<string, Tensor> {
  const capacity = Math.ceil(past / CAPACITY_STEP) * CAPACITY_STEP;
  const int64 = (values: number[]): Tensor =>
    new Tensor('int64', BigInt64Array.from(values, BigInt), [values.length]);
  const rows = [...Array(nodes).keys()];
  const feeds: Record<string, Tensor> = {
    input_ids: int64([...randomTokens(nodes, shape.vocabSize)]),
    position_ids: int64(rows.map((row) => past + row)),
    attention_bias: floats([nodes, capacity + nodes]),
    output_rows: int64(rows),
    want_logits: new Tensor('bool', [false], []),
  };
  for (let layer = 0; layer < shape.layers; layer++) {
    for (const part of ['key', 'value']) {
      feeds[`past_${part}.${layer}`] = floats([1, shape.kvHeads, capacity, shape.headDim]);
    }
  }
  return feeds;
}

function floats(dims: number[]): Tensor {
  return new Tensor('float32', new Float32Array(dims.reduce((size, each) => size * each, 1)), dims);
}

/** Median milliseconds of `runs` runs after two. */
async function timeOf(run: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let i = -2; i < runs; i++) {
    const begin = performance.now();
    await run();
    if (i >= 0) times.push(performance.now() - begin);
  }
  return median(times);
}

async function timeOfRuns(session: InferenceSession, feeds: Record<string, Tensor>): Promise<number> {
  const time = await timeOf(() => session.run(feeds, OUTPUTS));
  await session.release();
  return time;
}

/** The same step as the program takes it. */
async function timeOfSteps(nodes: number, past: number, threads: number): Promise<number> {
  const model = await openModel({ shape, backbone: { ...backbone, path }, provider: 'cpu', threads });
  await prefill(model, randomTokens(past, model.vocabSize), GREEDY);
  const tree = randomTree(nodes, model.vocabSize);
  const time = await timeOf(() => model.verify(tree, GREEDY));
  await model.dispose();
  return time;
}

/** All nodes of the last `runs` runs, and how many a run has. */
async function nodeTimes(
  threads: number,
  feeds: Record<string, Tensor>,
): Promise<{ times: NodeTime[]; count: number }> {
  const folder = mkdtempSync(join(tmpdir(), 'stepProfile-'));
  try {
    const session = await open(threads, join(folder, 'profile'));
    for (let i = -2; i < runs; i++) await session.run(feeds, OUTPUTS);
    session.endProfiling();
    await session.release();
    const events = JSON.parse(readFileSync(join(folder, readdirSync(folder)[0]), 'utf8')) as {
      cat?: string;
      name: string;
      dur: number;
      args?: { op_name?: string };
    }[];
    const all = events
      .filter((event) => event.cat === 'Node' && event.name.endsWith('_kernel_time'))
      .map(({ name, dur, args }) => ({ name, microseconds: dur, op: args?.op_name ?? '' }));
    const count = all.length / (runs + 2);
    return { times: all.slice(2 * count), count };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function kindOf({ op, name }: NodeTime): string {
  if (/^(MatMulIntegerToFloat|MatMulNBits)$/.test(op) || /\.weight/.test(name)) {
    return name.startsWith('lm_head') ? 'LM head' : 'products';
  }
  if (/Normalization/.test(op)) return 'norms';
  if (/^(Reshape|Transpose|Split|Unsqueeze|Expand|Shape|Concat)$/.test(op)) {
    return op === 'Concat' ? 'past copied (Concat)' : 'layout';
  }
  if (/^(Abs|QuantizeLinear)$/.test(op)) return 'activation quantisation';
  if (/^(Gather|Cast)$/.test(op)) return 'embedding and rows';
  if (op === 'TopK') return 'LM head';
  if (/^(FusedMatMul|RotaryEmbedding|Softmax|Exp|Sub|Div|ReduceSum|Round|Add)$/.test(op)) return 'attention';
  if (op === 'QuickGelu') return 'gate';
  if (op === 'MatMul') return 'turns and float products';
  return 'Mul, ReduceMax and others';
}

function groupBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(key(item));
    if (group) group.push(item);
    else groups.set(key(item), [item]);
  }
  return groups;
}

function meanOf(times: readonly NodeTime[]): number {
  return times.reduce((sum, { microseconds }) => sum + microseconds, 0) / times.length;
}
