import { rename, rm, writeFile } from 'node:fs/promises';

/** Writes a whole JSON file in one step, or leaves the old one. */
export async function writeJson(file: string, value: unknown): Promise<void> {
  const partial = `${file}.partial-${process.pid}`;
  try {
    await writeFile(partial, `${JSON.stringify(value, null, 1)}\n`);
    await rename(partial, file);
  } finally {
    await rm(partial, { force: true });
  }
}
