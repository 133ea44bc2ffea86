import { readdirSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { ModelError, UsageError } from '../util/errors.js';
import { defaultModelName, modelMissing, type ModelPlace } from './locate.js';
import { findPackageRoot } from '../util/packageRoot.js';
import { prepareCommand } from './prepareCommand.js';

/** A MEDUSA-2 adapter: changes of a backbone's weights that are merged at preparation (docs/heads-format.md). */
export const adapterSuffix = '.adapter.safetensors';

/** medusa2 of path/medusa2.adapter.safetensors. */
export const adapterName = (file: string): string => basename(file).slice(0, -adapterSuffix.length);

/** The name of a model with an adapter merged in, unless --id gives another. */
export const adaptedName = (base: string, file: string): string => `${base}-${adapterName(file)}`;

/** The adapter that comes with this package for a model of the default model's family. */
export function committedAdapter(
  name: string,
  root: string | undefined = findPackageRoot(),
): string | undefined {
  if (root === undefined || !isVariantName(name)) return undefined;
  const folder = join(root, 'heads', name);
  const file = filesIn(folder).find((each) => each.endsWith(adapterSuffix));
  return file === undefined ? undefined : join(folder, file);
}

/** Whether a model can be made from its name alone: the default one, and those whose adapter comes along. */
export function preparesItself(name: string, root: string | undefined = findPackageRoot()): boolean {
  return name === defaultModelName || committedAdapter(name, root) !== undefined;
}

/** smollm2-135m-instruct-medusa2: the default model with an adapter. */
export const isVariantName = (name: string): boolean => name.startsWith(`${defaultModelName}-`);

/** What to do about a variant of the default model whose adapter does not come with this version. */
export function variantMissing(name: string): string {
  return (
    `No trained adapter of ${name} comes with this installation (heads/${name} has none; the npm package brings the ` +
    `default model's heads alone). Take one from heads/ of a clone, or train one with export/train_medusa2.py ` +
    `(docs/training.md), then: medusa-plus prepare --adapter <name>${adapterSuffix} --id ${name}.`
  );
}

/** The error for a model that is not there and may not, or cannot, be prepared now. */
export function missingModel(place: ModelPlace, modelsDir: string): ModelError {
  const { name } = place;
  if (!isVariantName(name)) return modelMissing(place, modelsDir);
  const mend =
    committedAdapter(name) === undefined ? variantMissing(name) : `Make it: ${prepareCommand(place.folder)}.`;
  return new ModelError(`No model ${name} in ${modelsDir}. ${mend}`);
}

/** Checks the file given with --adapter. */
export async function checkAdapter(file: string): Promise<void> {
  if (!basename(file).endsWith(adapterSuffix)) {
    throw new UsageError(
      `--adapter ${file}: expected a file named <name>${adapterSuffix}, as export/train_medusa2.py writes it; ` +
        `heads go to --heads.`,
    );
  }
  const kind = await stat(file).catch(() => undefined);
  if (!kind?.isFile()) throw new UsageError(`--adapter ${file}: there is no such file.`);
}

function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}
