import { open, rename, rm } from 'node:fs/promises';

/** What a killed process may leave of a file that it was writing ends in this. */
export const partialEnding = '.partial';

/**
 * Writes a whole file in one step: readers see the old content or the new one, also after a crash of the machine.
 *
 * @param mode who may read and write it, less what the process's umask takes away
 * @throws file system errors as they are
 */
export async function writeWhole(file: string, content: string | Uint8Array, mode = 0o666): Promise<void> {
  // In the same folder, since a rename to another disk is none.
  const partial = `${file}.${process.pid}${partialEnding}`;
  try {
    const handle = await open(partial, 'w', mode);
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(partial, file);
  } finally {
    await rm(partial, { force: true });
  }
}

/** The same for a value as JSON. */
export async function writeJson(file: string, value: unknown, indent = 1): Promise<void> {
  await writeWhole(file, `${JSON.stringify(value, null, indent)}\n`);
}
