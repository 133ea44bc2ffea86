/** Checkpoints that are not prepared yet: what to do with one that was given as a model. */
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { modelsFolder } from './modelsFolder.js';
import { quoted } from './prepareCommand.js';

/** The name that a model prepared from `source` gets: Some-Model-00001-of-00002.gguf -> some-model. */
export function modelNameOf(source: string): string {
  return basename(resolve(source))
    .toLowerCase()
    .replace(/(-\d{5}-of-\d{5})?\.gguf$/, '');
}

/** Whether a Hugging Face folder or GGUF file lies there. */
export const isCheckpoint = (path: string): boolean =>
  existsSync(path) && (path.endsWith('.gguf') || existsSync(join(path, 'config.json')));

/** As an owner and a repository: one slash, nothing that leads elsewhere, and no file's ending. */
export const isHubName = (name: string): boolean =>
  /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/.test(name) && !/\.(gguf|onnx|safetensors|bin)$/.test(name);

/** "If it is a name on the Hugging Face hub, ...": the commands that fetch it and prepare it. */
export function fetchAdvice(hubName: string, modelsDir: string): string {
  const folder = basename(hubName);
  return (
    `If it is a name on the Hugging Face hub, fetch it: hf download ${hubName} --local-dir ${folder} (older: ` +
    `huggingface-cli download), then prepare it: ${prepareAdvice(folder, modelsDir)}`
  );
}

/** "medusa-plus prepare --from ...; its name is then --model ...". */
export function prepareAdvice(source: string, modelsDir: string): string {
  const where = modelsDir === modelsFolder(undefined) ? '' : ` --models-dir ${quoted(modelsDir)}`;
  const command = `medusa-plus prepare --from ${quoted(source)}${where}`;
  return `${command}; its name is then --model ${quoted(modelNameOf(source))}.`;
}
