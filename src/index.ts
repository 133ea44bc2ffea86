/** The library's face: text in, streamed text out; and the parts for those who bring their own model. */
import type { PreparedModel, PrepareOptions } from './prepare/prepare.js';
import { checkOptions, type Kind } from './engine/options/check.js';
import { modelsFolder } from './models/modelsFolder.js';
import { silentReport, type Report } from './util/progressReport.js';

export {
  MedusaEngine,
  type EndChunk,
  type GenerationChunk,
  type GenerationResult,
  type Message,
  type TextChunk,
} from './engine/engine.js';
export type { EngineFacts } from './engine/facts.js';
export {
  type DecodingOptions,
  type DraftName,
  type JointName,
  type MarginalsName,
  type ResolvedDecodingOptions,
  type TreeName,
} from './engine/options/decodingOptions.js';
export type { EngineOptions } from './engine/options/engineOptions.js';
export type { GenerateOptions, PromptOptions } from './engine/options/generateOptions.js';
export type { ModelOptions, ProviderName } from './engine/options/modelOptions.js';
export * from './util/errors.js';
export type { PreparedModel, PrepareOptions };
export type { Report };
export * from './decoding/index.js';

/**
 * Fetches (for the default model), converts and exports a model into `modelsDir/<id>`, unless it is there. The folder is that
 * of the command line where none is given.
 *
 * @param report told what takes long
 * @throws UsageError for options that are wrong, ModelError for files that cannot be used, RuntimeFailure without Python
 */
export async function prepareModel(
  options: Omit<PrepareOptions, 'modelsDir'> & Partial<Pick<PrepareOptions, 'modelsDir'>> = {},
  report: Report = silentReport,
): Promise<PreparedModel> {
  checkOptions(options, {}, prepareKinds);
  checkOptions({ report }, {}, { report: 'an object with begin, progress and note' });
  const modelsDir = modelsFolder(options.modelsDir);
  // Only now: a program that opens a prepared model needs none of it.
  return (await import('./prepare/prepare.js')).prepareModel({ ...options, modelsDir }, report);
}

const prepareKinds = {
  modelsDir: 'a text',
  from: 'a text',
  id: 'a text',
  precisions: 'a list of texts',
  adapter: 'a text',
  chatTemplate: 'a text',
  heads: 'a list of texts',
  force: 'true or false',
  reinstall: 'true or false',
  signal: 'an AbortSignal',
} as const satisfies Record<keyof PrepareOptions, Kind>;
