/** Append-only JSON lines that survive a kill: each line is on disk before `append` returns. */
import { lstat, open, readFile, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { MedusaError, UsageError } from '../../util/errors.js';
import { checkJson, type Schema } from '../../util/json.js';

/** What to do about a file of a run folder that was damaged or changed. */
export const RESTORE = 'Restore the file, or make the run again in a new folder.';

export class JsonlFile {
  private constructor(
    readonly path: string,
    private readonly handle: FileHandle,
    /** Bytes of the complete lines. */
    private size: number,
  ) {}

  /** Opens for appending, cutting the file to its first `size` bytes. */
  static async open(path: string, size: number): Promise<JsonlFile> {
    const handle = await open(path, 'a');
    try {
      const { size: present } = await handle.stat();
      if (present > size) {
        await handle.truncate(size);
        await handle.sync();
      }
      return new JsonlFile(path, handle, size);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** Writes one line and waits until the disk has it. A failed write leaves no part of the line behind. */
  async append(value: unknown): Promise<void> {
    const line = Buffer.from(`${JSON.stringify(value)}\n`);
    try {
      await this.handle.appendFile(line);
      await this.handle.sync();
      this.size += line.length;
    } catch (error) {
      await this.handle.truncate(this.size).catch(() => undefined);
      throw writeError(this.path, error);
    }
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

export interface JsonlContents<T> {
  readonly values: T[];
  /** [values] byte offset just behind each line. */
  readonly ends: number[];
}

/**
 * The content of a file of a run folder; undefined when there is none. Run folders may come from anybody: a link would
 * lead to files elsewhere, and a pipe would never end.
 */
export async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    if (!(await lstat(path)).isFile())
      throw new UsageError(`${path} is no regular file (a link, a pipe or a folder): replace it by a copy`);
    return await readFile(path);
  } catch (error) {
    if (error instanceof MedusaError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    if (code === 'ENOTDIR')
      throw new UsageError(
        `${dirname(path)} is a file, not a bench folder; give the folder that holds run.json`,
      );
    throw new MedusaError(`Could not read ${path}: ${message}`, 1, { cause: error });
  }
}

/**
 * Reads the complete lines of a file; a last line that was cut off by a kill is left out. A damaged line before the
 * last is an error: it was not a kill that did that.
 *
 * @param schema what a line must hold
 */
export async function readJsonl<T>(path: string, schema: Schema<T>): Promise<JsonlContents<T>> {
  const bytes = (await readIfThere(path)) ?? Buffer.alloc(0);
  const values: T[] = [];
  const ends: number[] = [];
  for (let start = 0, line = 1; start < bytes.length; line++) {
    const newline = bytes.indexOf(0x0a, start);
    if (newline < 0) break;
    const where = `${path}, line ${line}`;
    const value = tryParse(bytes.subarray(start, newline).toString('utf8'));
    if (value === undefined) {
      if (newline === bytes.length - 1) break;
      throw new MedusaError(`${where}: not valid JSON; the file was damaged. ${RESTORE}`);
    }
    values.push(checkJson(schema, value, where, RESTORE));
    ends.push(newline + 1);
    start = newline + 1;
  }
  return { values, ends };
}

/** The value, which JSON knows no undefined for. */
function tryParse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Turns a failed write into a message that says what happens to the work done so far. */
export function writeError(path: string, error: unknown): MedusaError {
  const { code, message } = error as NodeJS.ErrnoException;
  const isFull = code === 'ENOSPC' || code === 'EDQUOT';
  const [what, remedy] = isFull ? ['the disk is full', 'make room'] : [message, 'put that right'];
  return new MedusaError(
    `Could not write ${path}: ${what}. All finished questions are kept; ${remedy} and run the same command again to go on`,
    1,
    { cause: error },
  );
}
