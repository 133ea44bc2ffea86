import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { ModelError } from '../errors.js';
import { sha256Of } from './defaultWeights.js';
import { checkFiles, manifestName, prepareAgain, type GraphEntry, type Manifest } from './manifest.js';
import { headsFor } from './prepare.js';

/** Checks every file of a model against the manifest, bytes and all. Takes as long as reading them does. */
export async function verifyFiles(folder: string, manifest: Manifest): Promise<void> {
  const graphs: GraphEntry[] = [...manifest.backbones, ...manifest.keep, ...manifest.heads];
  for (const graph of graphs) {
    await checkFiles(folder, graph);
    for (const { file, sha256 } of graph.files) await checkHash(join(folder, file), sha256, folder);
  }
  await checkHash(join(folder, manifest.tokenizer.file), manifest.tokenizer.sha256, folder);
}

async function checkHash(path: string, expected: string, folder: string): Promise<void> {
  const found = await sha256Of(path);
  if (found === expected) return;
  throw new ModelError(
    `${path} was changed: its manifest says sha256 ${expected.slice(0, 12)}..., the file has ` +
      `${found.slice(0, 12)}.... ${prepareAgain(folder)}`,
  );
}

/**
 * Heads files committed for this model that the prepared model does not hold: trained, or pulled, after it was
 * prepared. Files older than the manifest are taken as known, which saves hashing them at each start.
 */
export async function newerHeads(folder: string, manifest: Manifest, name: string): Promise<string[]> {
  const known = new Set(manifest.heads.map((heads) => heads.sourceSha256));
  const names = new Set(manifest.heads.map((heads) => heads.name));
  const prepared = (await stat(join(folder, manifestName))).mtimeMs;
  const newer: string[] = [];
  for (const file of await headsFor(name, undefined)) {
    // Heads of other names were chosen by the user, and these left out.
    if (names.size > 0 && !names.has(basename(file, '.safetensors'))) continue;
    const isKnown = names.size > 0 && (await stat(file)).mtimeMs <= prepared;
    if (!isKnown && !known.has(await sha256Of(file))) newer.push(basename(file));
  }
  return newer;
}
