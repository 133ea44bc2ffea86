/** Whether `--from` can be a checkpoint, and what to give in place of what cannot. */
import { stat } from 'node:fs/promises';
import { extname } from 'node:path';
import { headsCommand, onnxAdvice } from '../models/otherKinds.js';
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
  const advice = onnxAdvice(from);
  if (advice !== undefined) throw new UsageError(`--from ${from} ${advice.replace(/\.?$/, '.')}`);
  const heads = headsCommand(from);
  if (heads !== undefined) {
    throw new UsageError(
      `--from ${from} holds Medusa heads and no model: give it with --heads, and the base model with --from: ${heads}.`,
    );
  }
  if (kind.isFile() && extname(from) !== '.gguf') {
    throw new UsageError(
      `--from ${from} is neither a .gguf file nor a folder with config.json and safetensors.`,
    );
  }
}
