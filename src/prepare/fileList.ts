import { existsSync } from 'node:fs';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join, sep } from 'node:path';
import * as v from 'valibot';
import { count, name, record, tryJson } from '../util/json.js';
import { sha256OfText } from '../util/sha256.js';

/** A list of a folder's files, kept in the folder, by which later damage is noticed. */
const listName = '.files.json';

/** Bytes and SHA-256 by path; the paths with slashes. */
const fileList = record(v.tuple([count(0), name]));
type FileList = v.InferOutput<typeof fileList>;

/** Lists the files that are in the folder now. */
export async function writeFileList(folder: string, signal?: AbortSignal): Promise<void> {
  const list: FileList = {};
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    signal?.throwIfAborted();
    const path = join(entry.parentPath, entry.name);
    const name = path.slice(folder.length + 1).replaceAll(sep, '/');
    if (!entry.isFile() || name === listName || mayChange(name)) continue;
    const content = await readFile(path);
    list[name] = [content.length, sha256OfText(content)];
  }
  await writeFile(join(folder, listName), JSON.stringify(list));
}

/** Python's own cache may be written at any time, and some machines add their authority to the certificates. */
const mayChange = (name: string): boolean => name.includes('__pycache__/') || name === 'certifi/cacert.pem';

/**
 * What is wrong with the folder: a file that is missing or not as listed. Undefined when nothing is. A folder from
 * before there were lists gets one.
 */
export async function findDamage(folder: string, signal?: AbortSignal): Promise<string | undefined> {
  if (!existsSync(join(folder, listName))) return writeFileList(folder, signal).then(() => undefined);
  const list = await readList(folder);
  if (list === undefined) return `${listName} is not a list`;
  for (const [name, [bytes, hash]] of Object.entries(list)) {
    signal?.throwIfAborted();
    if (mayChange(name)) continue;
    const path = join(folder, name);
    const found = await stat(path).catch(() => undefined);
    if (found?.isFile() !== true) return `${name} is missing`;
    if (found.size !== bytes || sha256OfText(await readFile(path)) !== hash) return `${name} was changed`;
  }
  return undefined;
}

async function readList(folder: string): Promise<FileList | undefined> {
  const text = await readFile(join(folder, listName), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : tryJson(fileList, text);
}
