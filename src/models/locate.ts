import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ModelError, UsageError } from '../util/errors.js';
import { defaultModelName } from './defaultModel.js';
import { manifestName } from './fileNames.js';
import { prepareCommand } from './prepareCommand.js';

export interface ModelPlace {
  readonly name: string;
  readonly folder: string;
  /** Whether the folder holds a prepared model. */
  readonly isPrepared: boolean;
}

/** Where `model` (a name or a path) lies, prepared or not. */
export function locateModel(model: string | undefined, modelsDir: string): ModelPlace {
  const name = model ?? defaultModelName;
  const folder = isPath(name) ? resolve(name) : join(modelsDir, name);
  return { name, folder, isPrepared: existsSync(join(folder, manifestName)) };
}

/** The error for a model that is not there and that is not the default one, which would be prepared. */
export function modelMissing(place: ModelPlace, modelsDir: string): ModelError {
  if (isHubName(place.name) && !existsSync(place.folder)) {
    const name = place.name.split('/')[1];
    throw new UsageError(
      `${place.name} is not a folder. If it is a name on the Hugging Face hub, fetch it and prepare it: ` +
        `hf download ${place.name} --local-dir ${name}, then medusa-plus prepare --from ${name}; ` +
        `its name is then --model ${name.toLowerCase()}.`,
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

/** As an owner and a repository: one slash, and nothing that leads elsewhere. */
const isHubName = (name: string): boolean => /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/.test(name);

const isPath = (name: string): boolean => /[/\\]/.test(name) || name === '.' || name === '..';
