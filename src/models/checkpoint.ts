/** Checkpoints that are not prepared yet: what to do with one that was given as a model. */
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { hubNameOfPath, modelNameFrom, shortNameOf } from './hubName.js';
import { hubNameOf } from './locate.js';
import { modelsFolder } from './modelsFolder.js';
import { quoted } from './prepareCommand.js';

/** The name that a model prepared from `source` gets: Some-Model-00001-of-00002.gguf -> some-model. */
export function modelNameOf(source: string): string {
  const hub = hubNameOf(source) ?? hubNameOfPath(source);
  return modelNameFrom(hub === undefined ? basename(resolve(source)) : shortNameOf(hub));
}

/** Whether a Hugging Face folder or GGUF file lies there. */
export const isCheckpoint = (path: string): boolean =>
  existsSync(path) && (path.endsWith('.gguf') || existsSync(join(path, 'config.json')));

/** "medusa-plus prepare --from ...; its name is then --model ...". */
export function prepareAdvice(source: string, modelsDir: string): string {
  const where = modelsDir === modelsFolder(undefined) ? '' : ` --models-dir ${quoted(modelsDir)}`;
  const command = `medusa-plus prepare --from ${quoted(source)}${where}`;
  return `${command}; its name is then --model ${quoted(modelNameOf(source))}.`;
}
