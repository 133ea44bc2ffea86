import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { MedusaError } from '../util/errors.js';
import { ModelError, UsageError } from '../util/errors.js';
import { defaultModelName } from './defaultModel.js';
import { manifestName } from './fileNames.js';
import { parseHubName, shortNameOf, sourceNameOf, type HubName } from './hubName.js';
import { modelsFolder } from './modelsFolder.js';
import { prepareCommand, readOrigin } from './prepareCommand.js';

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
    const isRevision = hub.revision === undefined || made?.revision?.startsWith(hub.revision) === true;
    return isRevision && made?.adapter === undefined && made?.source?.toLowerCase() === wanted;
  };
  const wanted = sourceNameOf(hub).toLowerCase();
  const own = shortNameOf(hub)
    .toLowerCase()
    .replace(/(-\d{5}-of-\d{5})?\.gguf$/, '');
  const made = preparedModels(modelsDir).filter(isMadeFrom);
  if (made.length > 1 && !made.includes(own)) {
    throw new UsageError(`Several models were made from ${name}; give one with --model: ${made.join(', ')}.`);
  }
  const found = made.includes(own) ? own : made[0];
  const folder = join(modelsDir, found ?? own);
  return { name: found ?? name, folder, isPrepared: found !== undefined };
}

/** The error for a model that is not there and that is not the default one, which would be prepared. */
export function modelMissing(place: ModelPlace, modelsDir: string): MedusaError {
  if (hubNameOf(place.name) !== undefined) {
    const elsewhere = modelsDir === modelsFolder(undefined) ? '' : ` --models-dir ${modelsDir}`;
    return new UsageError(
      `${place.name} is no folder, and no model in ${modelsDir} was made from a repository of that name. Make it: ` +
        `medusa-plus prepare --from ${place.name}${elsewhere}, or add --prepare.`,
    );
  }
  if (isPath(place.name)) {
    const why = existsSync(place.folder)
      ? `has no ${manifestName}, so it is not a prepared model`
      : 'does not exist';
    return new ModelError(
      `${place.folder} ${why}. Make one: ${prepareCommand(place.folder)}, or leave out --model.`,
    );
  }
  const names = preparedModels(modelsDir);
  const there = names.length === 0 ? 'no model is there yet' : `there are: ${names.join(', ')}`;
  return new ModelError(
    `No model ${place.name} in ${modelsDir}; ${there}. ` + `Make it: ${prepareCommand(place.folder)}.`,
  );
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

/** Checks a name that becomes a folder's. */
export function checkModelName(name: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name)) return name;
  throw new UsageError(
    `--id must be a name of letters, digits, '.', '_' and '-' that begins with a letter or digit, ` +
      `not ${JSON.stringify(name)}.`,
  );
}

const isPath = (name: string): boolean => /[/\\]/.test(name) || name === '.' || name === '..';
