import { readFileSync } from 'node:fs';
import { requireFromHere } from '../../util/packageRoot.js';

/** Version of the package onnxruntime-node, which the CPU provider uses. */
export function nodeRuntimeVersion(): string {
  const file = requireFromHere.resolve('onnxruntime-node/package.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

/** Instruction sets that the CPU kernels profit from, of those that this processor has (Linux on x86-64; else empty). */
export function cpuFeatures(): string[] {
  const interesting = ['avx', 'avx2', 'avx512f', 'avx512_vnni', 'avx_vnni', 'avx512_bf16', 'amx_int8'];
  try {
    const flags =
      /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1].trim().split(/\s+/) ?? [];
    return interesting.filter((flag) => flags.includes(flag));
  } catch {
    return [];
  }
}
