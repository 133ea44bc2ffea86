import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** SHA-256 of the score kernel's source. */
export function sourceHash(): string {
  const path = join(import.meta.dirname, '../../src/decoding/tree/scoreKernel.as.ts');
  return createHash('sha256').update(readFileSync(path, 'utf8')).digest('hex');
}
