import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type * as v from 'valibot';
import { ModelError } from '../util/errors.js';
import { sha256Of } from '../util/sha256.js';
import { count, name, object, record, tryJson } from '../util/json.js';
import { checkFiles } from './manifest.js';
import type { Manifest, StoredFile } from './manifestSchema.js';
import { prepareAgain } from './prepareCommand.js';
import { writeJson } from '../util/writeFile.js';

/**
 * verified.json, beside the model: the files whose bytes were once found to be those of the manifest, and how they lay on
 * the disk then. One that still lies there unchanged is not hashed again.
 */
const recordName = 'verified.json';
const recordFormat = 1;

/** The files by name: their hash when it was taken, and what changes when a file is written to or replaced. */
const recordSchema = object({ format: count(), files: record(object({ sha256: name, state: name })) });
type Sightings = v.InferOutput<typeof recordSchema>['files'];

/**
 * Checks files against the manifest: that they are there, their sizes, and their sha256 where it was not checked since
 * they were last written.
 *
 * @param note told when the record could not be kept
 * @throws ModelError naming the first file that is missing or changed
 */
export async function checkChanged(
  folder: string,
  files: readonly StoredFile[],
  note: (message: string) => void,
): Promise<void> {
  await checkFiles(folder, { files });
  const known = await readRecord(folder);
  const found: Sightings = {};
  for (const { file, sha256 } of files) {
    const state = await stateOf(join(folder, file));
    if (known[file]?.sha256 === sha256 && known[file].state === state) continue;
    await checkHash(folder, file, sha256);
    found[file] = { sha256, state };
  }
  if (Object.keys(found).length === 0) return;
  const record = { format: recordFormat, files: { ...known, ...found } };
  await writeJson(join(folder, recordName), record).catch((error: Error) => {
    note(
      `${join(folder, recordName)} could not be written (${error.message}): files are hashed at each start.`,
    );
  });
}

/** Checks every file of a model against the manifest, bytes and all. Takes as long as reading them does. */
export async function verifyFiles(folder: string, manifest: Manifest): Promise<void> {
  for (const { files } of [...manifest.backbones, ...manifest.keep, ...manifest.heads]) {
    await checkFiles(folder, { files });
    for (const { file, sha256 } of files) await checkHash(folder, file, sha256);
  }
  const { file, sha256, config, configSha256 } = manifest.tokenizer;
  await checkHash(folder, file, sha256);
  if (configSha256 !== undefined) await checkHash(folder, config, configSha256);
}

async function checkHash(folder: string, file: string, expected: string): Promise<void> {
  const found = await sha256Of(join(folder, file));
  if (found !== expected) throw changedFile(folder, file, expected, found);
}

export function changedFile(folder: string, file: string, expected: string, found: string): ModelError {
  return new ModelError(
    `${join(folder, file)} was changed: its manifest says sha256 ${expected.slice(0, 12)}..., the file has ` +
      `${found.slice(0, 12)}.... ${prepareAgain(folder)}`,
  );
}

/** Size, inode, and nanoseconds of the last changes of content and of inode. */
async function stateOf(path: string): Promise<string> {
  const { size, ino, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
  return [size, ino, mtimeNs, ctimeNs].join(' ');
}

/** What is missing or damaged is made again. */
async function readRecord(folder: string): Promise<Sightings> {
  const text = await readFile(join(folder, recordName), 'utf8').catch(() => '');
  const known = tryJson(recordSchema, text);
  return known?.format === recordFormat ? known.files : {};
}
