import { readFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { runChild } from './childProcess.js';

export interface ProcessorFacts {
  readonly model: string;
  readonly threads: number;
  /** Instruction sets that the int8 kernels of ONNX Runtime use, as far as they can be told. */
  readonly features: readonly string[];
}

const usefulFeatures = [
  'avx2',
  'fma',
  'avx512f',
  'avx512_vnni',
  'avx_vnni',
  'amx_int8',
  'asimd',
  'asimddp',
  'i8mm',
];

export function describeProcessor(): ProcessorFacts {
  const model = cpus()[0]?.model.trim() ?? process.arch;
  return { model, threads: availableParallelism(), features: processorFeatures() };
}

/** Linux alone tells; elsewhere the list is empty. */
function processorFeatures(): string[] {
  let text: string;
  try {
    text = readFileSync('/proc/cpuinfo', 'utf8');
  } catch {
    return [];
  }
  const flags = new Set(/^(?:flags|Features)\s*:\s*(.*)$/m.exec(text)?.[1].split(' '));
  return usefulFeatures.filter((feature) => flags.has(feature));
}

/** "NVIDIA H200, 143771 MiB, driver 570.1" for each GPU; empty without NVIDIA's driver. */
export async function describeGpus(): Promise<string[]> {
  const query = ['--query-gpu=name,memory.total,driver_version', '--format=csv,noheader'];
  const run = await runChild('nvidia-smi', query).catch(() => undefined);
  if (run?.code !== 0) return [];
  return run.stdout
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => line.replace(/, ([^,]*)$/, ', driver $1'));
}

/** Libraries that `file` needs and the loader does not find, by name (Linux, where ldd is there). */
export async function missingLibraries(file: string): Promise<string[]> {
  const run = await runChild('ldd', [file]).catch(() => undefined);
  const lines = run?.stdout.split('\n') ?? [];
  return lines.filter((line) => line.includes('not found')).map((line) => line.trim().split(' ')[0]);
}
