import type { DecodingOptions, ResolvedDecodingOptions } from './decodingOptions.js';
import type { DecodeStatistics, DecodeStep } from './decoding/types.js';

export type ProviderName = 'cpu' | 'cuda' | 'auto';

/** Which model to open, and on what. Everything is optional. */
export interface ModelOptions {
  /** Name of a prepared model, or the path of its folder. */
  model?: string;
  /** Folder of the prepared models. */
  modelsDir?: string;
  /** Backbone precision; the manifest's default for the provider otherwise. */
  precision?: string;
  /** Name of the heads, or `none`; the manifest's default otherwise. */
  heads?: string;
  provider?: ProviderName;
  /** ONNX Runtime library to load. */
  ortLibrary?: string;
  /** CPU threads; measured otherwise. */
  threads?: number;
}

export interface EngineOptions extends ModelOptions {
  /** Prepare the default model when it is missing (default true). */
  prepare?: boolean;
  /** Told what takes long before the engine is ready. */
  onStatus?: (message: string) => void;
  signal?: AbortSignal;
}

export interface Message {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

export interface GenerateOptions extends DecodingOptions {
  /** System message put before a prompt given as a string. */
  system?: string;
  /** Give the prompt to the model as it stands, without the chat template. */
  raw?: boolean;
  /** Ends the generation cleanly with what there is. */
  signal?: AbortSignal;
  /** Told of each step: its tree, its proposals, what was accepted. */
  onStep?: (step: DecodeStep) => void;
}

/** Text that is final: complete characters, and not the beginning of a stop string. */
export interface TextChunk {
  readonly kind: 'text';
  readonly text: string;
}

/** The last thing `generate` yields. */
export interface EndChunk {
  readonly kind: 'end';
  readonly result: GenerationResult;
}

export type GenerationChunk = TextChunk | EndChunk;

export interface GenerationResult {
  readonly text: string;
  /** New token ids, EOS or the token completing a stop string included. */
  readonly tokenIds: readonly number[];
  readonly promptTokenIds: readonly number[];
  readonly statistics: DecodeStatistics;
  /** The options with defaults filled in. */
  readonly options: ResolvedDecodingOptions;
  /** Milliseconds from the call to the first text. */
  readonly timeToFirstToken: number;
}

/** What is open. */
export interface EngineFacts {
  readonly model: string;
  readonly modelFolder: string;
  readonly provider: 'cpu' | 'cuda';
  readonly precision: string;
  /** Name of the loaded heads; undefined when there are none. */
  readonly heads: string | undefined;
  readonly headCount: number;
  readonly maxTopM: number;
  readonly threads: number;
  readonly contextLength: number;
}

/**
 * Text in, streamed text out. (Being built: the signatures below stand.)
 * One generation at a time; the KV cache of the last one is reused where the next prompt begins alike.
 */
export declare class MedusaEngine {
  static open(options?: EngineOptions): Promise<MedusaEngine>;
  readonly facts: EngineFacts;
  /** Yields text as it becomes final, then one `end` chunk. An abort is an end (`aborted`), not an exception. */
  generate(
    prompt: string | readonly Message[],
    options?: GenerateOptions,
  ): AsyncGenerator<GenerationChunk, void, void>;
  /** The same without streaming. */
  complete(prompt: string | readonly Message[], options?: GenerateOptions): Promise<GenerationResult>;
  /** Forgets the cached positions, so that the next prompt is computed from its start. */
  forget(): void;
  dispose(): Promise<void>;
}
