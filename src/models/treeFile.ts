import { UsageError } from '../util/errors.js';
import { readRegularFile } from '../util/regularFile.js';

/**
 * Reads a static tree: a JSON array of paths of ranks, [[0], [1], [0, 0]], or an object of several such arrays by
 * name, of which `FILE#NAME` picks one. The paths themselves are checked where the tree is built, which knows m and the
 * heads.
 */
export async function readTreeFile(spec: string): Promise<number[][]> {
  const { file, name, text } = await readSpec(spec);
  return pickTree(parse(text, file), file, name) as number[][];
}

/** A file whose own name holds a # is tried first as it stands. */
async function readSpec(spec: string): Promise<{ file: string; name?: string; text: string }> {
  const hash = spec.lastIndexOf('#');
  try {
    return { file: spec, text: decode(await readRegularFile(spec), spec) };
  } catch (error) {
    if (hash <= 0 || error instanceof UsageError) throw unreadable(spec, error);
  }
  const file = spec.slice(0, hash);
  try {
    return { file, name: spec.slice(hash + 1), text: decode(await readRegularFile(file), file) };
  } catch (error) {
    throw unreadable(file, error);
  }
}

function unreadable(file: string, error: unknown): UsageError {
  if (error instanceof UsageError) return error;
  const code = (error as NodeJS.ErrnoException).code;
  const why = code === 'ENOENT' ? 'there is no such file' : (error as Error).message;
  return new UsageError(`Cannot read tree file ${file}: ${why}.`, { cause: error });
}

/** Some editors put a byte order mark in front, which the decoder leaves out. */
function decode(bytes: Uint8Array, file: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new UsageError(`Tree file ${file} is not UTF-8 text. Save it as UTF-8.`, { cause: error });
  }
}

function parse(text: string, file: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new UsageError(`Tree file ${file} is not JSON: ${(error as Error).message}.`, { cause: error });
  }
}

function pickTree(value: unknown, file: string, name: string | undefined): unknown[] {
  if (Array.isArray(value)) {
    if (name !== undefined)
      throw new UsageError(`Tree file ${file} holds one unnamed tree: leave out #${name}.`);
    return value;
  }
  if (typeof value !== 'object' || value === null) {
    throw new UsageError(`Tree file ${file} must hold an array of paths of ranks ([[0], [1], [0, 0]]).`);
  }
  const names = Object.keys(value);
  const picked = name ?? (names.length === 1 ? names[0] : undefined);
  if (picked === undefined) {
    throw new UsageError(
      `Tree file ${file} holds several trees. Pick one: ${file}#NAME with NAME ${names.join(', ')}.`,
    );
  }
  const tree = (value as Record<string, unknown>)[picked];
  if (!Array.isArray(tree)) {
    throw new UsageError(
      `Tree file ${file} has no tree ${JSON.stringify(picked)}; it has ${names.join(', ')}.`,
    );
  }
  return tree;
}
