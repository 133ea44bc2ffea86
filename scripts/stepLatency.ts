/**
 * Milliseconds of a verification step against its number of nodes, for each precision, thread count and past length:
 *
 *   npx tsx scripts/stepLatency.ts --out results/<folder> [--model onnx/<name>] [--precisions int8,fp32] [--threads 1,2]
 *       [--past 256,1024] [--nodes 1,2,...] [--rounds 9] [--provider cpu|cuda] [--ort-library <path>]
 *
 * All configurations are open at once and take turns block by block (A B A B ...; the first run of a block is not
 * timed), so that a slow moment of the machine hits them alike. Writes stepLatency.json and stepLatency.md; another
 * run with the same --out adds its rows, or replaces those it measured again.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { DraftingModel } from '../src/decoding/types.js';
import { chooseGraphs } from '../src/models/choose.js';
import { readManifest } from '../src/models/manifest.js';
import { prefill } from '../src/decoding/prefill.js';
import { cpuFeatures } from '../src/runtime/cpu/facts.js';
import { gpuFacts, nodeRuntimeFacts } from '../src/runtime/facts.js';
import { openModel } from '../src/runtime/index.js';
import { randomTokens, randomTree } from '../src/runtime/measure.js';
import { median } from '../src/util/numbers.js';

const GREEDY = { logits: false };

interface Row {
  readonly provider: string;
  readonly precision: string;
  readonly threads: number;
  readonly past: number;
  readonly nodes: number;
  /** Milliseconds: median, and the fastest tenth (what the machine can do when nothing else runs). */
  readonly median: number;
  readonly fast: number;
  readonly runs: number;
}

interface Results {
  readonly model: string;
  readonly commands: string[];
  readonly machine: Record<string, unknown>;
  rows: Row[];
}

interface Configuration {
  readonly precision: string;
  readonly threads: number;
  readonly model: DraftingModel;
}

const { values: options } = parseArgs({
  options: {
    model: { type: 'string', default: 'onnx/smollm2-135m-instruct' },
    out: { type: 'string' },
    precisions: { type: 'string' },
    threads: { type: 'string', default: '1,2' },
    past: { type: 'string', default: '256,1024' },
    nodes: { type: 'string', default: '1,2,4,6,8,12,16,24,32,64' },
    rounds: { type: 'string', default: '9' },
    provider: { type: 'string', default: 'cpu' },
    'ort-library': { type: 'string' },
  },
});

const list = (text: string): number[] => text.split(',').map(Number);
const provider = options.provider === 'cuda' ? 'cuda' : 'cpu';
const manifest = await readManifest(options.model);
const layout = provider === 'cuda' ? 'shared' : 'split';
const precisions =
  options.precisions?.split(',') ??
  manifest.backbones.filter((each) => each.layout === layout).map((each) => each.precision);

const configurations: Configuration[] = [];
for (const precision of precisions) {
  for (const threads of provider === 'cuda' ? [1] : list(options.threads)) {
    configurations.push({ precision, threads, model: await open(precision, threads) });
  }
}
const rows: Row[] = [];
for (const past of list(options.past)) rows.push(...(await measureAt(past)));
for (const { model } of configurations) await model.dispose();
await report();

function open(precision: string, threads: number): Promise<DraftingModel> {
  const { backbone, keep } = chooseGraphs(manifest, { provider, precision, heads: 'none' }, options.model);
  return openModel({
    shape: manifest.model,
    backbone: { ...backbone, path: join(options.model, backbone.file) },
    keep: keep && { ...keep, path: join(options.model, keep.file) },
    provider,
    threads,
    ortLibrary: options['ort-library'],
  });
}

async function measureAt(past: number): Promise<Row[]> {
  const sizes = list(options.nodes);
  const times = new Map<Configuration, number[][]>();
  for (const configuration of configurations) {
    const { model } = configuration;
    await prefill(model, randomTokens(past - model.cachedLength, model.vocabSize), GREEDY);
    times.set(
      configuration,
      sizes.map(() => []),
    );
  }
  for (let round = -1; round < Number(options.rounds); round++) {
    for (const [{ model }, measured] of times) {
      await model.verify(randomTree(1, model.vocabSize), GREEDY);
      for (const [i, nodes] of sizes.entries()) {
        const tree = randomTree(nodes, model.vocabSize);
        const begin = performance.now();
        await model.verify(tree, GREEDY);
        if (round >= 0) measured[i].push(performance.now() - begin);
      }
    }
    process.stderr.write(`\rpast ${past}: round ${round + 1} of ${options.rounds} `);
  }
  process.stderr.write('\n');
  return configurations.flatMap((configuration) =>
    sizes.map((nodes, i): Row => {
      const { precision, threads } = configuration;
      const all = times.get(configuration)![i];
      const fast = [...all].sort((a, b) => a - b)[Math.floor(all.length / 10)];
      return { provider, precision, threads, past, nodes, median: median(all), fast, runs: all.length };
    }),
  );
}

async function report(): Promise<void> {
  const command = `npx tsx scripts/stepLatency.ts ${process.argv.slice(2).join(' ')}`;
  const file = options.out && join(options.out, 'stepLatency.json');
  const old = file && existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Results) : undefined;
  const key = (row: Row): string => [row.provider, row.precision, row.threads, row.past, row.nodes].join();
  const measured = new Set(rows.map(key));
  const results: Results = {
    model: manifest.model.id,
    commands: [...(old?.commands ?? []), command],
    machine: await machineFacts(),
    rows: [...(old?.rows ?? []).filter((row) => !measured.has(key(row))), ...rows],
  };
  const text = markdown(results);
  if (file) {
    mkdirSync(options.out!, { recursive: true });
    writeFileSync(file, `${JSON.stringify(results, null, 1)}\n`);
    writeFileSync(join(options.out!, 'stepLatency.md'), text);
  }
  process.stdout.write(text);
}

async function machineFacts(): Promise<Record<string, unknown>> {
  const commit = (): string => {
    try {
      return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
    } catch {
      return 'unknown';
    }
  };
  return {
    date: new Date().toISOString(),
    commit: commit(),
    cpu: cpus()[0]?.model,
    threads: availableParallelism(),
    features: cpuFeatures(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    load: loadavg()[0],
    node: process.versions.node,
    onnxruntime: nodeRuntimeFacts().version,
    gpus: provider === 'cuda' ? await gpuFacts() : undefined,
  };
}

/** One table for each past length: a line for each configuration, a column for each number of nodes. */
function markdown({ model, commands, machine, rows: all }: Results): string {
  const nodes = distinct(all.map((row) => row.nodes)).sort((a, b) => a - b);
  const lines = [
    `# Step latency of ${model}`,
    '',
    'Milliseconds of one verification, median (fastest tenth).',
    '',
  ];
  for (const past of distinct(all.map((row) => row.past))) {
    const here = all.filter((row) => row.past === past);
    lines.push(
      `## Past ${past}`,
      '',
      `| nodes | ${nodes.join(' | ')} |`,
      `|---|${nodes.map(() => '---|').join('')}`,
    );
    for (const name of distinct(here.map(nameOf))) {
      const cells = nodes.map((each) => {
        const row = here.find((candidate) => nameOf(candidate) === name && candidate.nodes === each);
        return row ? `${row.median.toFixed(1)} (${row.fast.toFixed(1)})` : '';
      });
      lines.push(`| ${name} | ${cells.join(' | ')} |`);
    }
    lines.push('');
  }
  lines.push('## How', '', ...commands.map((command) => `    ${command}`), '');
  for (const [name, value] of Object.entries(machine)) {
    if (value !== undefined)
      lines.push(`- ${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`);
  }
  return `${lines.join('\n')}\n`;
}

function nameOf({ provider: where, precision, threads }: Row): string {
  return where === 'cuda' ? `${precision}, CUDA` : `${precision}, ${threads} thread${threads > 1 ? 's' : ''}`;
}

function distinct<T>(values: readonly T[]): T[] {
  return [...new Set(values)];
}
