/** The library's face: text in, streamed text out; and the parts for those who bring their own model. */
export {
  MedusaEngine,
  type EndChunk,
  type EngineFacts,
  type EngineOptions,
  type GenerateOptions,
  type GenerationChunk,
  type GenerationResult,
  type Message,
  type ModelOptions,
  type ProviderName,
  type TextChunk,
} from './engine.js';
export {
  type DecodingOptions,
  type JointName,
  type LookupName,
  type MarginalsName,
  type ResolvedDecodingOptions,
  type TreeName,
} from './decodingOptions.js';
export * from './errors.js';
export { prepareModel, type PreparedModel, type PrepareOptions } from './model/prepare.js';
export { type Report } from './report.js';
export * from './decoding/index.js';
