/** Files and folders that are taken for models and are none: ONNX exports, and Medusa heads alone. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, extname, join } from 'node:path';
import { object, optional, text, tryJson } from '../util/json.js';
import * as v from 'valibot';
import { manifestName } from './fileNames.js';
import { parseHubName } from './hubName.js';
import { quoted } from './prepareCommand.js';

/** What an ONNX file or export at `path` is and what to give in its place; undefined for what is none. */
export function onnxAdvice(path: string): string | undefined {
  const isFolder = isDirectory(path);
  if (isFolder === undefined || !(isFolder ? holdsGraphsAlone(path) : extname(path) === '.onnx'))
    return undefined;
  const folder = isFolder ? path : dirname(path);
  const names = readdirSync(folder);
  if (names.includes(manifestName)) return `is a prepared model: use it with --model ${quoted(folder)}.`;
  // A prepared model that lost its manifest.
  if (isFolder && names.some((name) => /^backbone\..*\.onnx$/.test(name))) return undefined;
  return (
    'is an ONNX export. It has no input for the tree mask and gives no hidden states, so trees cannot be verified ' +
    'with it. Give the checkpoint that it was made from: a folder with config.json and safetensors, or a .gguf file'
  );
}

/** Undefined where nothing is, or a link that leads nowhere. */
function isDirectory(path: string): boolean | undefined {
  try {
    return statSync(path).isDirectory();
  } catch {
    return undefined;
  }
}

/** Whether a folder holds graphs (optimum's, those of ONNX Runtime's generate()) and no weights of another kind. */
function holdsGraphsAlone(folder: string): boolean {
  const names = readdirSync(folder);
  return names.some((name) => /\.onnx$|^genai_config\.json$|^onnx$/.test(name)) && !names.some(isWeights);
}

const isWeights = (name: string): boolean =>
  /\.(safetensors|gguf)$|^pytorch_model.*\.bin$/.test(name) && !isHeadsFile(name);

const isHeadsFile = (name: string): boolean => /^medusa_lm_head\.(safetensors|pt)$/.test(name);

const configSchema = object({
  model_type: optional(text),
  medusa_num_heads: v.unknown(),
  base_model_name_or_path: optional(text),
});

/**
 * The command that brings the Medusa heads in a folder that holds no model beside them; undefined for other folders.
 *
 * @param given the path as the user wrote it
 */
export function headsCommand(path: string, given = path): string | undefined {
  if (!isDirectory(path)) return undefined;
  const names = readdirSync(path);
  const config = names.includes('config.json') ? readConfig(join(path, 'config.json')) : undefined;
  const saysSo =
    config?.model_type === 'medusa' ||
    (config?.medusa_num_heads !== undefined && config.model_type === undefined);
  if (!saysSo && !(names.some(isHeadsFile) && !names.some(isWeights))) return undefined;
  const base = config?.base_model_name_or_path;
  const from = base !== undefined && parseHubName(base) !== undefined ? base : '<base model>';
  return `medusa-plus prepare --from ${from} --heads ${quoted(given)}`;
}

function readConfig(file: string): v.InferOutput<typeof configSchema> | undefined {
  try {
    return tryJson(configSchema, readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}
