/** What lies in the cache that all programs of the Hugging Face hub share. Nothing is written and nothing is fetched. */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hubFolderName, type HubName } from '../models/hubName.js';
import { hubCacheFolder, keptCommit } from '../models/hubRevision.js';
import { object, tryJson } from '../util/json.js';
import * as v from 'valibot';

/** What a repository is wanted for. */
export type Wanted = 'model' | 'heads';

/** Whether the environment forbids to ask the hub. */
export const isOffline = (environment: NodeJS.ProcessEnv = process.env): boolean =>
  /^(1|on|yes|true)$/i.test(environment.HF_HUB_OFFLINE || environment.TRANSFORMERS_OFFLINE || '');

/** The snapshot folder (or GGUF file in it) that holds all that is wanted, or undefined. */
export async function findInCache(
  hub: HubName,
  wanted: Wanted,
  root = join(hubCacheFolder(), hubFolderName(hub.repository)),
): Promise<string | undefined> {
  const snapshots = join(root, 'snapshots');
  const commit = keptCommit(root, hub.revision ?? 'main') ?? hub.revision;
  // A cache that was filled by commits does not say which one main is, but there may be only one.
  const folder = join(snapshots, commit ?? (await onlyOne(snapshots)) ?? '.none');
  if (hub.file !== undefined) {
    const file = join(folder, hub.file);
    return partsOf(file).every((part) => existsSync(part)) ? file : undefined;
  }
  return (await isWhole(folder, wanted)) ? folder : undefined;
}

async function onlyOne(snapshots: string): Promise<string | undefined> {
  const names = await readdir(snapshots).catch(() => []);
  return names.length === 1 ? names[0] : undefined;
}

/** All parts of a GGUF file that was split. */
function partsOf(file: string): string[] {
  const [, name, count] = /^(.*)-\d{5}-of-(\d{5})\.gguf$/.exec(file) ?? [];
  if (name === undefined) return [file];
  return Array.from(
    { length: Number(count) },
    (_, i) => `${name}-${String(i + 1).padStart(5, '0')}-of-${count}.gguf`,
  );
}

const headsFiles = ['medusa_lm_head.safetensors', 'medusa_lm_head.pt'];
const index = object({ weight_map: v.record(v.string(), v.string()) });

/** Other programs fetch parts of a repository too. */
async function isWhole(folder: string, wanted: Wanted): Promise<boolean> {
  const has = (name: string): boolean => existsSync(join(folder, name));
  if (wanted === 'heads' && headsFiles.some(has)) return true;
  if (wanted === 'model' && !(has('config.json') && (has('tokenizer.json') || has('tokenizer.model'))))
    return false;
  for (const name of ['model.safetensors', 'pytorch_model.bin']) {
    const text = await readFile(join(folder, `${name}.index.json`), 'utf8').catch(() => undefined);
    const map = text === undefined ? undefined : tryJson(index, text)?.weight_map;
    if (map !== undefined) return filesOf(map, wanted).every(has);
    if (has(name)) return true;
  }
  return false;
}

/** The files of an index; of heads inside a model those that hold some. */
function filesOf(map: Record<string, string>, wanted: Wanted): string[] {
  const ofHeads = Object.keys(map).filter((tensor) => tensor.startsWith('medusa_head.'));
  const tensors = wanted === 'heads' && ofHeads.length > 0 ? ofHeads : Object.keys(map);
  return [...new Set(tensors.map((tensor) => map[tensor]))];
}
