/** The library's face: text in, streamed text out; and the parts for those who bring their own model. */
export {
  MedusaEngine,
  type EndChunk,
  type EngineFacts,
  type GenerationChunk,
  type GenerationResult,
  type Message,
  type TextChunk,
} from './engine/engine.js';
export {
  type DecodingOptions,
  type JointName,
  type LookupName,
  type MarginalsName,
  type ResolvedDecodingOptions,
  type TreeName,
} from './engine/options/decodingOptions.js';
export type { EngineOptions } from './engine/options/engineOptions.js';
export type { GenerateOptions, PromptOptions } from './engine/options/generateOptions.js';
export type { ModelOptions, ProviderName } from './engine/options/modelOptions.js';
export * from './util/errors.js';
export { prepareModel, type PreparedModel, type PrepareOptions } from './prepare/prepare.js';
export { type Report } from './util/progressReport.js';
export * from './decoding/index.js';
