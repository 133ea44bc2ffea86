/** Facts about the model and the machine that go into run.json. */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus, loadavg, platform, release, totalmem } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { outputOf } from '../../util/childProcess.js';
import { readSwitch } from '../../util/environment.js';
import type { EngineFacts } from '../../engine/facts.js';
import { readManifest } from '../../models/manifest.js';
import type { StoredFile } from '../../models/manifestSchema.js';
import { findPackageRoot } from '../../util/packageRoot.js';
import { cpuFeatures } from '../../runtime/cpu/facts.js';
import { int8Products } from '../../runtime/index.js';
import type { RunIdentity, RunInfo } from './formats.js';

/** Which model was measured, by hash: null where its manifest has none. */
export async function modelIdentity(facts: EngineFacts): Promise<RunIdentity['model']> {
  const manifest = await readManifest(facts.modelFolder).catch(() => undefined);
  const layout = facts.provider === 'cuda' ? 'shared' : 'split';
  const backbones = (manifest?.backbones ?? []).filter(({ precision }) => precision === facts.precision);
  const backbone = backbones.find((entry) => entry.layout === layout) ?? backbones[0];
  const heads = (manifest?.heads ?? []).filter(({ name }) => name === facts.heads);
  return {
    id: facts.model,
    precision: facts.precision,
    provider: facts.provider,
    heads: facts.heads ?? null,
    backbone_sha256: joined(backbone?.files ?? []),
    // A conditional table, which is among the files, makes other trees of the same heads.
    heads_sha256: joined(heads.flatMap(({ files }) => files)),
    tokenizer_sha256: manifest?.tokenizer.sha256 ?? null,
    source_sha256: manifest?.source.sha256 ?? null,
    chat_template: facts.chatTemplate ?? null,
  };
}

function joined(files: readonly StoredFile[]): string | null {
  return files.length > 0 ? files.map(({ sha256 }) => sha256).join('+') : null;
}

export function machineIdentity(facts: EngineFacts): RunIdentity['machine'] {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    threads: facts.threads,
    onnxruntime: onnxRuntimeVersion(),
  };
}

/** What else a reader may want to know of the machine. Nothing here keeps a run from being continued. */
export async function environment(facts: EngineFacts): Promise<RunInfo['environment']> {
  const root = findPackageRoot();
  return {
    os: `${platform()} ${release()}`,
    cores: cpus().length,
    memory_gib: Math.round(totalmem() / 2 ** 27) / 8,
    node: process.version,
    cpu_flags: cpuFeatures().join(' '),
    int8_products: facts.provider === 'cpu' ? await int8Products() : null,
    exact_rows: facts.exactRows === undefined ? null : facts.exactRows ? 'yes' : 'no',
    gpu: facts.provider === 'cuda' ? await gpuName() : null,
    cuda_graphs: facts.provider === 'cuda' ? (readSwitch('MEDUSA_PLUS_CUDA_GRAPHS') ? 'on' : 'off') : null,
    git_commit: root === undefined ? null : await gitCommit(root),
    package_integrity: root === undefined ? null : packageIntegrity(root),
    command: process.argv.slice(2).join(' '),
  };
}

export function loadAverage(): number {
  return Math.round(loadavg()[0] * 100) / 100;
}

function onnxRuntimeVersion(): string {
  try {
    const entry = createRequire(import.meta.url).resolve('onnxruntime-node');
    for (let folder = dirname(entry); dirname(folder) !== folder; folder = dirname(folder)) {
      const found = readPackage(join(folder, 'package.json'));
      if (found?.name === 'onnxruntime-node') return String(found.version);
    }
  } catch {
    // Falls through: the run does not depend on knowing it.
  }
  return 'unknown';
}

function readPackage(path: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

/** The commit of our own checkout; null in an installed package, whatever git project it is installed in. */
export async function gitCommit(root: string): Promise<string | null> {
  if (!existsSync(join(root, '.git'))) return null;
  try {
    const commit = await git(root, 'rev-parse', 'HEAD');
    const changes = await git(root, 'status', '--porcelain', '--untracked-files=no');
    return commit + (changes === '' ? '' : ' with changes');
  } catch {
    return null;
  }
}

/** Git in a folder, wherever the user's environment points it to: GIT_DIR and the like would name another repository. */
async function git(root: string, ...args: readonly string[]): Promise<string> {
  const given = Object.keys(process.env).filter((name) => name.startsWith('GIT_'));
  const elsewhere = Object.fromEntries(given.map((name) => [name, undefined]));
  const all = ['-C', root, '-c', 'core.fsmonitor=false', ...args];
  return (await outputOf('git', all, { ...elsewhere, GIT_OPTIONAL_LOCKS: '0' })).trim();
}

/** The hash of the package that npm installed, where its lock file has it; with `version` it says what ran. */
export function packageIntegrity(root: string): string | null {
  const modules = dirname(root);
  if (basename(modules) !== 'node_modules') return null;
  const lock = readPackage(join(modules, '.package-lock.json')) as
    { packages?: Record<string, { integrity?: unknown } | undefined> } | undefined;
  const integrity = lock?.packages?.[`node_modules/${basename(root)}`]?.integrity;
  return typeof integrity === 'string' ? integrity : null;
}

async function gpuName(): Promise<string | null> {
  try {
    const query = '--query-gpu=name,driver_version';
    const gpus = await outputOf('nvidia-smi', [query, '--format=csv,noheader']);
    return gpus.trim().split('\n')[0] ?? null;
  } catch {
    return null;
  }
}
