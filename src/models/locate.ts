import { existsSync, readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { UsageError } from '../util/errors.js';
import { defaultModelName } from './defaultModel.js';
import { manifestName } from './fileNames.js';

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

/** Checks a name that becomes a folder's. */
export function checkModelName(name: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name)) return name;
  throw new UsageError(
    `--id must be a name of letters, digits, '.', '_' and '-' that begins with a letter or digit, ` +
      `not ${JSON.stringify(name)}.`,
  );
}

export const isPath = (name: string): boolean => /[/\\]/.test(name) || name === '.' || name === '..';
