/** The heads that come with this package for a model, and whether a prepared model holds them. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import * as v from 'valibot';
import { object, readJson } from '../util/json.js';
import { findPackageRoot } from '../util/packageRoot.js';
import { sha256Of } from '../util/sha256.js';
import { conditionalSuffix, manifestName } from './fileNames.js';
import type { HeadsEntry, Manifest } from './manifestSchema.js';

/** The heads files that come with this package for a model of this name. */
export async function committedHeads(name: string): Promise<string[]> {
  const root = findPackageRoot();
  if (root === undefined) return [];
  const folder = join(root, 'heads', name);
  const names = await readdir(folder).catch(() => []);
  return names
    .filter((each) => /^[^.]+\.safetensors$/.test(each))
    .sort()
    .map((each) => join(folder, each));
}

/**
 * Heads files committed for this model that the prepared model does not hold: trained, calibrated, or pulled, after it
 * was prepared. Files older than the manifest are taken as known, which saves hashing them at each start.
 */
export async function newerHeads(folder: string, manifest: Manifest, name: string): Promise<string[]> {
  const names = new Set(manifest.heads.map((heads) => heads.name));
  const prepared = (await stat(join(folder, manifestName))).mtimeMs;
  const newer: string[] = [];
  for (const file of await committedHeads(name)) {
    // Heads of other names were chosen by the user, and these left out.
    if (names.size > 0 && !names.has(basename(file, '.safetensors'))) continue;
    const isOlder = names.size > 0 && (await lastChange(file)) <= prepared;
    if (!isOlder && !(await isHeld(file, manifest.heads))) newer.push(basename(file));
  }
  return newer;
}

/** The sidecar beside the tensors: temperatures and accuracies, which go into the graph and the manifest. */
const sidecarOf = (file: string): string => file.replace(/\.safetensors$/, '.json');

/** The conditional joint beside the tensors, where there is one. */
const conditionalOf = (file: string): string => file.replace(/\.safetensors$/, conditionalSuffix);

/** When the tensors or what lies beside them were last written, in ms. */
async function lastChange(file: string): Promise<number> {
  const beside = [sidecarOf(file), conditionalOf(file)].map(async (each) => (await stat(each)).mtimeMs);
  const changes = await Promise.all(beside.map((change) => change.catch(() => 0)));
  return Math.max((await stat(file)).mtimeMs, ...changes);
}

/** What a sidecar says that goes into the manifest; the exporter checks it. */
const calibrationSchema = object({
  temperatures: v.unknown(),
  accuracies: v.unknown(),
  static_tree: v.unknown(),
});

/** Whether the model holds these tensors with this calibration and this conditional joint. */
async function isHeld(file: string, heads: readonly HeadsEntry[]): Promise<boolean> {
  const sha256 = await sha256Of(file);
  const conditional = await sha256Of(conditionalOf(file)).catch(() => undefined);
  const held = heads.filter((entry) => entry.sourceSha256 === sha256);
  if (held.some((entry) => entry.conditional?.sourceSha256 !== conditional)) return false;
  const sidecar = await readFile(sidecarOf(file), 'utf8').catch(() => undefined);
  if (held.length === 0 || sidecar === undefined) return held.length > 0;
  const fix = 'Restore it, or remove it with its heads.';
  const calibration = readJson(calibrationSchema, sidecar, sidecarOf(file), fix);
  return held.every(({ temperatures, accuracies, staticTrees }) =>
    isDeepStrictEqual(
      [temperatures, accuracies, staticTrees?.paths],
      [calibration.temperatures, calibration.accuracies, calibration.static_tree],
    ),
  );
}
