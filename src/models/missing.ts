import { existsSync } from 'node:fs';
import { type MedusaError, ModelError, UsageError } from '../util/errors.js';
import { fetchAdvice, isCheckpoint, isHubName, modelNameOf, prepareAdvice } from './checkpoint.js';
import { manifestName } from './fileNames.js';
import { isPath, preparedModels, whatIsIn, type ModelPlace } from './locate.js';
import { prepareCommand } from './prepareCommand.js';

/** The error for a model that is not there and that is not the default one, which would be prepared. */
export function modelMissing(place: ModelPlace, modelsDir: string): MedusaError {
  if (isHubName(place.name) && !existsSync(place.folder)) {
    const name = modelNameOf(place.name);
    const advice = preparedModels(modelsDir).includes(name)
      ? `There is a prepared model of that name: --model ${name}.`
      : fetchAdvice(place.name, modelsDir);
    return new UsageError(`--model ${place.name}: there is no such folder. ${advice}`);
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
