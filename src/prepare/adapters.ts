import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { adapterSuffix } from '../models/fileNames.js';
import { UsageError } from '../util/errors.js';

/** medusa2 of path/medusa2.adapter.safetensors. */
export const adapterName = (file: string): string => basename(file).slice(0, -adapterSuffix.length);

/** The name of a model with an adapter merged in, unless --id gives another. */
export const adaptedName = (base: string, file: string): string => `${base}-${adapterName(file)}`;

/** Checks the file given with --adapter. */
export async function checkAdapter(file: string): Promise<void> {
  if (!basename(file).endsWith(adapterSuffix)) {
    throw new UsageError(
      `--adapter ${file}: expected a file named <name>${adapterSuffix} (docs/training.md); heads go to --heads.`,
    );
  }
  const kind = await stat(file).catch(() => undefined);
  if (!kind?.isFile()) throw new UsageError(`--adapter ${file}: there is no such file.`);
}
