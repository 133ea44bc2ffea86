import { existsSync, readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { UsageError } from '../util/errors.js';
import { defaultModelName } from './defaultModel.js';
import { manifestName } from './fileNames.js';
import {
  modelNameFrom,
  parseHubName,
  sameSourceName,
  shortNameOf,
  sourceNameOf,
  type HubName,
} from './hubName.js';
import { isOfRevision } from './hubRevision.js';
import { readOrigin } from './prepareCommand.js';

export interface ModelPlace {
  readonly name: string;
  readonly folder: string;
  /** Whether the folder holds a prepared model. */
  readonly isPrepared: boolean;
}

/** Where `model` (a name, a name on the Hugging Face hub, or a path) lies, prepared or not. */
export function locateModel(model: string | undefined, modelsDir: string): ModelPlace {
  const name = model ?? defaultModelName;
  const hub = hubNameOf(name);
  if (hub !== undefined) return locateHubModel(name, hub, modelsDir);
  const folder = isPath(name) ? resolve(name) : join(modelsDir, name);
  const isPrepared = existsSync(join(folder, manifestName));
  // Names of prepared models have small letters, those of their owners may have others.
  const small = name.toLowerCase();
  if (!isPrepared && !isPath(name) && small !== name) {
    const other = locateModel(small, modelsDir);
    if (other.isPrepared) return other;
  }
  return { name, folder, isPrepared };
}

/** The parts of a name on the hub; a folder of that name comes first. */
export const hubNameOf = (name: string): HubName | undefined =>
  existsSync(name) ? undefined : parseHubName(name);

/** The prepared model that was made from it, without an adapter; of several the one that bears its name. */
function locateHubModel(name: string, hub: HubName, modelsDir: string): ModelPlace {
  const isMadeFrom = (model: string): boolean => {
    const made = readOrigin(join(modelsDir, model));
    if (made?.source === undefined || made.adapter !== undefined) return false;
    return sameSourceName(made.source, sourceNameOf(hub)) && isOfRevision(hub, made);
  };
  const own = modelNameFrom(shortNameOf(hub));
  const made = preparedModels(modelsDir).filter(isMadeFrom);
  if (made.length > 1 && !made.includes(own)) {
    throw new UsageError(`Several models were made from ${name}; give one with --model: ${made.join(', ')}.`);
  }
  const found = made.includes(own) ? own : made[0];
  const folder = join(modelsDir, found ?? own);
  return { name: found ?? name, folder, isPrepared: found !== undefined };
}

/** What there is in a folder of models, in words: "there are: a, b", or why there are none. */
export function whatIsIn(modelsDir: string): string {
  const names = preparedModels(modelsDir);
  if (names.length > 0) return `there are: ${names.join(', ')}`;
  const kind = statSync(modelsDir, { throwIfNoEntry: false });
  if (kind === undefined) return 'the folder does not exist';
  return kind.isDirectory() ? 'no model is there yet' : 'it is not a folder';
}

/** Names of the prepared models in a folder. */
export function preparedModels(modelsDir: string): string[] {
  try {
    return readdirSync(modelsDir)
      .filter((name) => !name.startsWith('.') && existsSync(join(modelsDir, name, manifestName)))
      .sort();
  } catch {
    return [];
  }
}

/** Beside it stand hidden folders with longer names, and file systems take 255 bytes. */
const longestName = 200;

/**
 * Checks a name that becomes a folder's.
 *
 * @param option that it was given with, or that it was made from
 * @throws UsageError for other characters, and for too many
 */
export function checkModelName(name: string, option: string): string {
  if (name.length <= longestName && /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name)) return name;
  const rule = `a name of at most ${longestName} letters, digits, '.', '_' and '-' that begins with a letter or digit`;
  const shown = name.length <= longestName ? JSON.stringify(name) : `one of ${name.length} characters`;
  throw new UsageError(
    option === '--id'
      ? `--id must be ${rule}, not ${shown}.`
      : `${option} would name the model ${shown}; give it another name with --id, ${rule}.`,
  );
}

export const isPath = (name: string): boolean => /[/\\]/.test(name) || name === '.' || name === '..';
