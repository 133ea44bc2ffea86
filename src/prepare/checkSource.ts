/** Whether `--from` can be a checkpoint, and what to give in place of what cannot. */
import { existsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { dirname, extname, join } from 'node:path';
import { manifestName } from '../models/fileNames.js';
import { UsageError } from '../util/errors.js';

/** @throws UsageError for what is missing, or is a model of another kind */
export async function checkSource(from: string): Promise<void> {
  const kind = await stat(from).catch(() => undefined);
  if (kind === undefined) {
    throw new UsageError(
      `--from ${from}: there is no such file or folder. (A name on the Hugging Face hub is OWNER/NAME, ` +
        'OWNER/NAME@REVISION or OWNER/NAME:FILE.gguf.)',
    );
  }
  if (await isOnnx(from, kind.isDirectory())) {
    const folder = kind.isDirectory() ? from : dirname(from);
    if (existsSync(join(folder, manifestName))) {
      throw new UsageError(`--from ${from} is a prepared model: use it with --model ${folder}.`);
    }
    throw new UsageError(
      `--from ${from} is an ONNX export. It has no input for the tree mask and gives no hidden states, so trees cannot ` +
        'be verified with it. Give the checkpoint that it was made from: a folder with config.json and safetensors, or a .gguf file.',
    );
  }
  if (kind.isFile() && extname(from) !== '.gguf') {
    throw new UsageError(
      `--from ${from} is neither a .gguf file nor a folder with config.json and safetensors.`,
    );
  }
}

/** An .onnx file, or a folder with graphs (optimum's, those of ONNX Runtime's generate()) and no weights of another kind. */
async function isOnnx(from: string, isFolder: boolean): Promise<boolean> {
  if (!isFolder) return extname(from) === '.onnx';
  const names = await readdir(from);
  const hasWeights = names.some((name) => /\.(safetensors|gguf)$|^pytorch_model.*\.bin$/.test(name));
  const hasGraphs = names.some((name) => /\.onnx$|^genai_config\.json$|^onnx$/.test(name));
  return hasGraphs && !hasWeights;
}
