import { existsSync } from 'node:fs';
import { type MedusaError, ModelError, UsageError } from '../util/errors.js';
import { isCheckpoint, prepareAdvice } from './checkpoint.js';
import { manifestName } from './fileNames.js';
import { hubNameOf, isPath, whatIsIn, type ModelPlace } from './locate.js';
import { modelsFolder } from './modelsFolder.js';
import { prepareCommand, quoted } from './prepareCommand.js';

/** The error for a model that is not there and that is not the default one, which would be prepared. */
export function modelMissing(place: ModelPlace, modelsDir: string): MedusaError {
  if (hubNameOf(place.name) !== undefined) {
    const { name } = place;
    const elsewhere = modelsDir === modelsFolder(undefined) ? '' : ` --models-dir ${quoted(modelsDir)}`;
    return new UsageError(
      `--model ${name}: there is no such folder, and no model in ${modelsDir} was made from a repository of that name. ` +
        `Make it: medusa-plus prepare --from ${name}${elsewhere}, or add --prepare.`,
    );
  }
  if (isPath(place.name) && isCheckpoint(place.folder)) {
    return new UsageError(
      `--model ${place.name} is a checkpoint, not a prepared model. Prepare it: ${prepareAdvice(place.name, modelsDir)}`,
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
  const command = prepareCommand(place.folder);
  return new ModelError(
    `No model ${place.name} in ${modelsDir}: ${whatIsIn(modelsDir)}. Make it: ${command}.`,
  );
}
