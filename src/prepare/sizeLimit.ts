import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ModelError } from '../util/errors.js';

const interval = 200;

/**
 * Runs work that writes into a folder, and ends it (its signal aborts) when the folder holds more than `limit` bytes:
 * a server that sends on and on must not fill the disk.
 */
export async function withSizeLimit<T>(
  folder: string,
  limit: number,
  what: string,
  signal: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const over = new AbortController();
  let checking = Promise.resolve();
  const check = async (): Promise<void> => {
    if ((await sizeOfFolder(folder)) <= limit) return;
    over.abort(
      new ModelError(
        `${what} was stopped: more than ${limit} bytes came, which is more than it can have. ` +
          "Check pip's index (pip config list) and run the command again.",
      ),
    );
  };
  const timer = setInterval(() => {
    checking = checking.then(check);
  }, interval);
  try {
    return await work(signal ? AbortSignal.any([signal, over.signal]) : over.signal);
  } finally {
    clearInterval(timer);
    await checking;
  }
}

/** Files come and go meanwhile: what is not there counts nothing. */
async function sizeOfFolder(folder: string): Promise<number> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true }).catch(() => []);
  const sizes = entries.map(async (entry) => {
    if (!entry.isFile()) return 0;
    return (await stat(join(entry.parentPath, entry.name)).catch(() => undefined))?.size ?? 0;
  });
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}
