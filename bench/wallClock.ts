/**
 * Tokens per second, time to first token, time by stage and peak memory of several ways to decode:
 *
 *   npx tsx bench/wallClock.ts --out results/<folder> [--prompts 10] [--max-new-tokens 128] [--threads 2]
 *       [--models-dir onnx] [--precision int8]
 *
 * Greedy, first turns of the built-in questions spread over the categories. The variants take turns prompt by prompt, in
 * an order that rotates, each from an empty cache; the first generation of each is not timed. Peak memory is read in a
 * process of its own for each variant. Ends with exit code 3 if the outputs differ. Writes wallClock.json and wallClock.md.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { builtinQuestions } from '../src/bench/questions/builtin.js';
import type { StageTimes } from '../src/decoding/types.js';
import { MedusaEngine, type GenerateOptions } from '../src/index.js';
import { nodeRuntimeFacts } from '../src/runtime/facts.js';
import { median } from '../src/runtime/measure.js';

const VARIANTS: Record<string, GenerateOptions> = {
  none: { tree: 'none' },
  'static, n auto': { tree: 'static', nodes: 'auto' },
  'dynamic, n auto': { tree: 'dynamic', nodes: 'auto' },
  'static, n = 4': { tree: 'static', nodes: 4 },
  'dynamic, n = 4': { tree: 'dynamic', nodes: 4 },
  'static, n = 64': { tree: 'static', nodes: 64 },
  'dynamic, n = 64': { tree: 'dynamic', nodes: 64 },
};
const STAGES = ['heads', 'tree', 'backbone', 'accept', 'keep', 'rest'] as const;

const { values: options } = parseArgs({
  options: {
    out: { type: 'string', default: 'results/wall-clock' },
    prompts: { type: 'string', default: '10' },
    'max-new-tokens': { type: 'string', default: '128' },
    threads: { type: 'string' },
    'models-dir': { type: 'string' },
    precision: { type: 'string' },
    /** Internal: measure the memory of this variant and print it. */
    memory: { type: 'string' },
  },
});
const maxNewTokens = Number(options['max-new-tokens']);

interface Generation {
  readonly tokens: number;
  readonly steps: number;
  /** Milliseconds. */
  readonly wall: number;
  readonly prefill: number;
  readonly firstToken: number;
  readonly times: StageTimes;
}

function open(): Promise<MedusaEngine> {
  return MedusaEngine.open({
    threads: options.threads === undefined ? undefined : Number(options.threads),
    modelsDir: options['models-dir'],
    precision: options.precision,
  });
}

/** First turns, the categories in turn. */
function prompts(count: number): string[] {
  const questions = builtinQuestions()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { turns: string[] });
  const perCategory = 10;
  const categories = questions.length / perCategory;
  return Array.from(
    { length: count },
    (_, i) => questions[(i % categories) * perCategory + Math.floor(i / categories)].turns[0],
  );
}

async function measure(): Promise<number> {
  const engine = await open();
  const names = Object.keys(VARIANTS);
  const runs = new Map<string, Generation[]>(names.map((name) => [name, []]));
  const texts = prompts(Number(options.prompts));
  const loadAtStart = loadavg()[0];
  let different = 0;
  for (const name of names) await engine.complete(texts[0], { ...VARIANTS[name], maxNewTokens: 32 });
  for (const [turn, text] of texts.entries()) {
    const outputs = new Set<string>();
    for (let i = 0; i < names.length; i++) {
      const name = names[(turn + i) % names.length];
      engine.forget();
      const { statistics, timeToFirstToken, tokenIds } = await engine.complete(text, {
        ...VARIANTS[name],
        maxNewTokens,
      });
      outputs.add(tokenIds.join());
      runs.get(name)!.push({
        tokens: statistics.newTokens,
        steps: statistics.steps,
        wall: statistics.wallTime,
        prefill: statistics.prefillTime,
        firstToken: timeToFirstToken,
        times: statistics.times,
      });
    }
    if (outputs.size > 1) different++;
  }
  const { facts } = engine;
  await engine.dispose();
  const memory = new Map(names.map((name) => [name, peakMemoryOf(name)]));
  write(runs, memory, {
    date: new Date().toISOString(),
    commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim(),
    command: `npx tsx bench/wallClock.ts ${process.argv.slice(2).join(' ')}`,
    cpu: cpus()[0].model,
    cores: cpus().length,
    loadAtStart,
    node: process.version,
    onnxruntime: nodeRuntimeFacts().version,
    model: facts.model,
    precision: facts.precision,
    heads: facts.heads,
    threads: facts.threads,
    promptsThatDiffer: different,
  });
  return different > 0 ? 3 : 0;
}

/** Peak resident memory, MiB, of a fresh process that generates once in this way. */
function peakMemoryOf(variant: string): number {
  const script = fileURLToPath(import.meta.url);
  const own = process.argv.slice(2);
  const output = execFileSync(process.execPath, [...process.execArgv, script, ...own, '--memory', variant], {
    encoding: 'utf8',
  });
  return Number(output.trim().split('\n').at(-1));
}

async function printPeakMemory(variant: string): Promise<void> {
  const engine = await open();
  await engine.complete(prompts(1)[0], { ...VARIANTS[variant], maxNewTokens });
  process.stdout.write(`${process.resourceUsage().maxRSS / 1024}\n`);
  await engine.dispose();
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

function write(
  runs: ReadonlyMap<string, readonly Generation[]>,
  memory: ReadonlyMap<string, number>,
  facts: Record<string, unknown>,
): void {
  const base = runs.get('none')!;
  const rows = [...runs].map(([name, list]) => {
    const tokens = sum(list.map((run) => run.tokens));
    const ratios = list.map((run, i) => run.tokens / run.wall / (base[i].tokens / base[i].wall));
    return [
      name,
      ((tokens - list.length) / sum(list.map((run) => run.steps))).toFixed(2),
      ((1000 * tokens) / sum(list.map((run) => run.wall))).toFixed(1),
      `${median(ratios).toFixed(2)} (${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)})`,
      median(list.map((run) => run.firstToken)).toFixed(0),
      (sum(list.map((run) => run.prefill)) / tokens).toFixed(2),
      ...STAGES.map((stage) => (sum(list.map((run) => run.times[stage])) / tokens).toFixed(3)),
      memory.get(name)!.toFixed(0),
    ];
  });
  const head = [
    'variant',
    'tokens per step',
    'tokens/s',
    'speed-up: median over prompts (range)',
    'first token, ms',
    'prefill, ms per token',
    ...STAGES.map((stage) => `${stage}, ms per token`),
    'peak memory, MiB',
  ];
  const table = [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');
  const notes = Object.entries(facts).map(([key, value]) => `- ${key}: ${String(value)}`);
  const text = `# Wall clock\n\n${table}\n\n${notes.join('\n')}\n`;
  mkdirSync(options.out, { recursive: true });
  writeFileSync(
    join(options.out, 'wallClock.json'),
    JSON.stringify({ facts, memory: Object.fromEntries(memory), runs: Object.fromEntries(runs) }, null, 1),
  );
  writeFileSync(join(options.out, 'wallClock.md'), text);
  process.stdout.write(text);
}

if (options.memory !== undefined) await printPeakMemory(options.memory);
else process.exitCode = await measure();
