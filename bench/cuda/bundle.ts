/**
 * Makes the bundle that `bench/cuda/run.sh` takes on a CUDA machine, in parts of a chosen size:
 *
 *   npx tsx bench/cuda/bundle.ts --ort <folder or onnxruntime-gpu wheel> --weights <model.gguf> --out <folder>
 *       [--heads heads/<model>/<name>.safetensors] [--questions question.jsonl] [--gguf site-packages/gguf] [--part-size 45M] [--preset 6]
 *
 * In it: the built program with its runtime packages, this Node.js, the ONNX Runtime GPU libraries, the exporter and
 * the default model's weights (the graphs are exported over there, which is smaller to carry). Linux only.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { parseSize, splitFile } from './parts.js';

const root = resolve(import.meta.dirname, '../..');
export const ARCHIVE = 'medusa-plus-cuda.tar.xz';

export interface BundleOptions {
  /** Folder with libonnxruntime and its CUDA provider, or an onnxruntime-gpu wheel. */
  readonly ort: string;
  /** The default model's GGUF file. */
  readonly weights: string;
  /** With the files beside it: see `headsFiles`. */
  readonly heads?: string;
  readonly questions?: string;
  /** Folder of the Python package gguf, which the exporter needs and few machines have. */
  readonly gguf?: string;
  readonly out: string;
  /** Bytes of a part. */
  readonly partSize: number;
  /** xz preset: 0 fast .. 9 small. */
  readonly preset: number;
}

/** Collects everything in a folder, packs it, cuts it into parts. Returns the parts' names. */
export async function makeBundle(options: BundleOptions): Promise<string[]> {
  const staging = mkdtempSync(join(tmpdir(), 'medusa-bundle-'));
  try {
    const content = join(staging, 'bundle');
    collectProgram(join(content, 'program'));
    collectNode(join(content, 'node'));
    collectOrt(options.ort, join(content, 'ort'), staging);
    collectInputs(options, join(content, 'inputs'));
    const archive = join(staging, ARCHIVE);
    const compress = `xz -T0 -${options.preset}`;
    execFileSync('tar', ['-c', '-f', archive, '-I', compress, '-C', content, '.'], { stdio: 'inherit' });
    const parts = await splitFile(archive, options.out, ARCHIVE, options.partSize);
    copyFileSync(join(root, 'bench/cuda/run.sh'), join(options.out, 'run.sh'));
    chmodSync(join(options.out, 'run.sh'), 0o755);
    return parts;
  } finally {
    rmSync(staging, { recursive: true });
  }
}

/** The compiled program and benches, the exporter, and the packages they need to run. */
function collectProgram(folder: string): void {
  mkdirSync(folder, { recursive: true });
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  const dist = join(folder, 'dist');
  execFileSync(process.execPath, [compiler, '-p', join(root, 'bench/cuda'), '--outDir', dist], {
    stdio: 'inherit',
  });
  copyFileSync(join(root, 'package.json'), join(folder, 'package.json'));
  cpSync(join(root, 'export'), join(folder, 'export'), { recursive: true, filter: skipCaches });

  for (const path of runtimePackages()) {
    cpSync(join(root, path), join(folder, path), { recursive: true, filter: forLinux, dereference: true });
  }
}

function skipCaches(path: string): boolean {
  return !/__pycache__|\.pytest_cache|\.venv/.test(path);
}

interface LockedPackage {
  readonly dev?: boolean;
  readonly devOptional?: boolean;
}

/** Paths (node_modules/...) of the installed packages that are not there for development only. */
export function runtimePackages(): string[] {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, LockedPackage>;
  };
  return Object.entries(lock.packages)
    .filter(([path, { dev }]) => path !== '' && !dev && existsSync(join(root, path)))
    .map(([path]) => path);
}

/** onnxruntime-node brings the libraries of all platforms. */
function forLinux(path: string): boolean {
  const platform = /onnxruntime-node\/bin\/napi-v\d+\/(\w+)(?:\/(\w+))?/.exec(path);
  if (!platform) return true;
  return platform[1] === 'linux' && (platform[2] === undefined || platform[2] === process.arch);
}

function collectNode(folder: string): void {
  mkdirSync(folder, { recursive: true });
  copyFileSync(process.execPath, join(folder, 'node'));
  chmodSync(join(folder, 'node'), 0o755);
}

/** libonnxruntime with the two provider libraries that CUDA needs. */
function collectOrt(ort: string, folder: string, staging: string): void {
  let source = ort;
  if (statSync(ort).isFile()) {
    source = join(staging, 'wheel');
    execFileSync('unzip', ['-q', '-o', '-j', ort, 'onnxruntime/capi/libonnxruntime*', '-d', source]);
  }
  mkdirSync(folder, { recursive: true });
  const wanted = [/^libonnxruntime\.so[.\d]*$/, /^libonnxruntime_providers_(cuda|shared)\.so$/];
  const names = readdirSync(source).filter((name) => wanted.some((pattern) => pattern.test(name)));
  for (const pattern of wanted) {
    if (!names.some((name) => pattern.test(name)))
      throw new Error(`--ort ${ort}: nothing like ${pattern} is in it.`);
  }
  for (const name of names) copyFileSync(join(source, name), join(folder, name));
}

function collectInputs({ weights, heads, questions, gguf }: BundleOptions, folder: string): void {
  mkdirSync(folder, { recursive: true });
  copyFileSync(weights, join(folder, 'model.gguf'));
  for (const file of heads ? headsFiles(heads) : []) copyFileSync(file, join(folder, basename(file)));
  if (questions) copyFileSync(questions, join(folder, 'question.jsonl'));
  if (gguf) cpSync(gguf, join(folder, 'python/gguf'), { recursive: true, filter: skipCaches });
}

/** A heads file with what lies beside it under its name: its description, its conditional joint. */
export function headsFiles(heads: string): string[] {
  const stem = basename(heads).replace(/\.[^.]+$/, '');
  const folder = dirname(heads);
  return readdirSync(folder)
    .filter((name) => name.startsWith(`${stem}.`))
    .map((name) => join(folder, name));
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      ort: { type: 'string' },
      weights: { type: 'string' },
      heads: { type: 'string' },
      questions: { type: 'string' },
      gguf: { type: 'string' },
      out: { type: 'string' },
      'part-size': { type: 'string', default: '45M' },
      preset: { type: 'string', default: '6' },
    },
  });
  const { ort, weights, out, heads, questions, gguf } = values;
  if (!ort || !weights || !out) throw new Error('--ort, --weights and --out are needed.');
  for (const path of [ort, weights, heads, questions, gguf]) {
    if (path && !existsSync(path)) throw new Error(`${path} does not exist.`);
  }
  const partSize = parseSize(values['part-size']);
  const parts = await makeBundle({
    ort,
    weights,
    heads,
    questions,
    gguf,
    out,
    partSize,
    preset: Number(values.preset),
  });
  const bytes = parts.reduce((sum, name) => sum + statSync(join(out, name)).size, 0);
  console.log(`${parts.length} parts, ${(bytes / 2 ** 20).toFixed(0)} MiB, in ${out}. There: ./run.sh`);
}

if (process.argv[1] && resolve(process.argv[1]) === import.meta.filename) {
  try {
    await main();
  } catch (error) {
    console.error(`error: ${(error as Error).message}`);
    process.exitCode = 1;
  }
}
