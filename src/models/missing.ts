import { existsSync, lstatSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { UsageError } from '../util/errors.js';
import { isCheckpoint, prepareAdvice } from './checkpoint.js';
import { manifestName } from './fileNames.js';
import { parseHubName } from './hubName.js';
import { hubNameOf, isPath, whatIsIn, type ModelPlace } from './locate.js';
import { modelsFolder } from './modelsFolder.js';
import { headsCommand, onnxAdvice } from './otherKinds.js';
import { prepareCommand, quoted } from './prepareCommand.js';

/**
 * The error for a model that is not there and that is not the default one, which would be prepared.
 *
 * @param asks whether --prepare was given
 */
export function modelMissing(place: ModelPlace, modelsDir: string, asks = false): UsageError {
  if (hubNameOf(place.name) !== undefined) {
    const { name } = place;
    const elsewhere = modelsDir === modelsFolder(undefined) ? '' : ` --models-dir ${quoted(modelsDir)}`;
    return new UsageError(
      `--model ${name}: there is no such folder, and no model in ${modelsDir} was made from a repository of that name. ` +
        `Make it: medusa-plus prepare --from ${name}${elsewhere}, or add --prepare.`,
    );
  }
  const given = isPath(place.name) ? place.folder : resolve(place.name);
  const other = otherKind(place.name, given, modelsDir);
  const useless = asks ? ' --prepare fetches models of the Hugging Face hub alone: OWNER/NAME.' : '';
  if (other !== undefined)
    return new UsageError(`--model ${place.name} ${other}${useless}${namesake(place.name)}`);
  if (isPath(place.name)) {
    return new UsageError(
      existsSync(place.folder)
        ? `${place.folder} has no ${manifestName}, so it is not a prepared model. ${adviceFor(place.folder, modelsDir)}${namesake(place.name)}`
        : `${place.folder} does not exist. Make one: ${prepareCommand(place.folder)}, or leave out --model.`,
    );
  }
  const command = prepareCommand(place.folder);
  return new UsageError(
    `No model ${place.name} in ${modelsDir}: ${whatIsIn(modelsDir)}. Make it: ${command}.${useless}`,
  );
}

/** Where a folder here hides what bears its name on the hub: how to name a model that was made from that. */
const namesake = (name: string): string =>
  existsSync(name) && parseHubName(name) !== undefined
    ? ' (The folder here was taken, not the Hugging Face hub: a prepared model is also found by the name in prepare --list.)'
    : '';

/** A model is made elsewhere: nothing that is there is replaced. */
function adviceFor(folder: string, modelsDir: string): string {
  const files = lstatSync(folder).isDirectory() ? readdirSync(folder) : [];
  const source = files.find((name) => name.endsWith('.gguf'));
  return source === undefined
    ? 'Those there are: medusa-plus prepare --list. Or leave out --model.'
    : `Make one: ${prepareAdvice(join(folder, source), modelsDir)}`;
}

/** What lies at the path in place of a prepared model, and what to do with it. */
function otherKind(name: string, path: string, modelsDir: string): string | undefined {
  const onnx = onnxAdvice(path);
  if (onnx !== undefined) return onnx.endsWith('.') ? onnx : `${onnx}, to medusa-plus prepare --from.`;
  const heads = headsCommand(path, name);
  if (heads !== undefined)
    return `holds Medusa heads and no model. Prepare the base model with them: ${heads}.`;
  if (isCheckpoint(path))
    return `is a checkpoint, not a prepared model. Prepare it: ${prepareAdvice(name, modelsDir)}`;
  return undefined;
}
