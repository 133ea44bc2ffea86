import { UsageError } from '../util/errors.js';

/** What preparing a model, opening it and measuring it write into its folder. */
const own =
  /^((manifest|tuning|verified|tokenizer|tokenizer_config)\.json(\.lock|\.lock\.stale|\.damaged(\.\d+)?|\.\d+\.partial)?|(backbone|heads|keep)\..+\.(onnx|onnx\.data|bin))$/;

/** What systems put into any folder. */
const ofSystem = /^(\.DS_Store|\._.*|\.nfs.*|Thumbs\.db|desktop\.ini|@eaDir)$/;

/**
 * Checks that a prepared model's folder may go: that nothing lies in it but the model.
 *
 * @param names of the files and folders in it
 * @throws UsageError naming what is no part of the model
 */
export function checkNothingForeign(folder: string, names: readonly string[]): void {
  const foreign = names.filter((name) => !own.test(name) && !ofSystem.test(name));
  if (foreign.length === 0) return;
  const [shown, more] = [foreign.slice(0, 3).join(', '), foreign.length - 3];
  throw new UsageError(
    `${folder} holds ${shown}${more > 0 ? ` and ${more} more` : ''}, which the model does not need and which would be lost. ` +
      'Move that away first.',
  );
}
