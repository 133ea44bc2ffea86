import type { Stats } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';

/**
 * The content of a regular file, or of one that a link leads to. Other things are refused: a pipe or a terminal may keep a read
 * waiting for ever, and a read that waits keeps the process from ending.
 *
 * @throws Error whose message ends a sentence, "it is a pipe, not a regular file" say; file system errors as they are
 */
export async function readRegularFile(path: string): Promise<Buffer> {
  const other = notRegular(await stat(path));
  if (other !== undefined) throw new Error(other);
  return readFile(path);
}

/** What a thing is that is no regular file, as the end of a sentence; undefined for a regular file. */
export function notRegular(info: Stats): string | undefined {
  if (info.isFile()) return undefined;
  const kind = info.isDirectory()
    ? 'a folder'
    : info.isFIFO()
      ? 'a pipe'
      : info.isSocket()
        ? 'a socket'
        : 'a device';
  return `it is ${kind}, not a regular file`;
}
