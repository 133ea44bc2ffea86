import type { DecodeStep } from '../../decoding/types.js';
import { checkOptions, type Kind } from './check.js';
import { decodingTable, type DecodingOptions } from './decodingOptions.js';
import type { TableFor } from './entry.js';

/** How a prompt becomes tokens. */
export interface PromptOptions {
  /** System message put before a prompt given as a string. */
  system?: string;
  /** Give the prompt to the model as it stands, without the chat template. */
  raw?: boolean;
}

export interface GenerateOptions extends DecodingOptions, PromptOptions {
  /** Ends the generation cleanly with what there is. */
  signal?: AbortSignal;
  /** Told how many of the prompt's tokens that were not cached have been read, after each part of a long prompt. */
  onPrompt?: (done: number, of: number) => void;
  /** Told of each step: its tree, its proposals, what was accepted. */
  onStep?: (step: DecodeStep) => void;
}

const group = 'Prompt';

export const promptTable = {
  system: { group, kind: 'text', help: 'System message', commands: ['generate'] },
  raw: {
    group,
    kind: 'flag',
    help: 'No chat template: the text as it is, control tokens such as <|im_start|> recognised',
    default: false,
    commands: ['generate'],
  },
} as const satisfies TableFor<PromptOptions>;

const kinds = {
  signal: 'an AbortSignal',
  onStep: 'a function',
  onPrompt: 'a function',
} as const satisfies Record<
  Exclude<keyof GenerateOptions, keyof DecodingOptions | keyof PromptOptions>,
  Kind
>;

const table = { ...decodingTable, ...promptTable };

/** @throws UsageError naming the option */
export const checkGenerateOptions = (options: unknown): void => checkOptions(options, table, kinds);
