/**
 * Compiles src/decoding/tree/scoreKernel.as.ts into scoreKernelBytes.ts: `npm run kernel`. The compiler, AssemblyScript, is
 * fetched by npx; a hundred megabytes are not worth installing for everybody.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sourceHash } from '../test/support/kernelSource.js';

const COMPILER = 'assemblyscript@0.28.20';
const FLAGS =
  '--enable simd --runtime stub -O3 --noAssert --importMemory --initialMemory 1 --noExportMemory'.split(' ');
const folder = join(import.meta.dirname, '../src/decoding/tree');

const scratch = mkdtempSync(join(tmpdir(), 'medusa-kernel-'));
try {
  const out = join(scratch, 'kernel.wasm');
  // A name without a folder: paths would end up in the module.
  const command = ['--yes', '-p', COMPILER, 'asc', 'scoreKernel.as.ts', ...FLAGS, '-o', out];
  execFileSync('npx', command, { cwd: folder, stdio: 'inherit' });
  const wasm = readFileSync(out);
  const text = `/** scoreKernel.as.ts compiled with ${COMPILER}; made by \`npm run kernel\`. */
export const kernelBytes =
  '${wasm.toString('base64')}';

/** SHA-256 of the source that was compiled. */
export const kernelSource = '${sourceHash()}';
`;
  writeFileSync(join(folder, 'scoreKernelBytes.ts'), text);
  console.log(`${wasm.length} bytes`);
} finally {
  rmSync(scratch, { recursive: true });
}
