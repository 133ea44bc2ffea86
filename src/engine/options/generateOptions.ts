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
  /**
   * Whether the model is to think before it answers, where its chat template leaves the choice (`enable_thinking`, as
   * Qwen3's does); as the template has it otherwise.
   */
  thinking?: ThinkingName;
}

export type ThinkingName = 'on' | 'off';

export interface GenerateOptions extends DecodingOptions, PromptOptions {
  /**
   * Whose text it is, where an engine serves several users. What drafts learn from is kept for each of the 16 most recent users
   * apart: it would make answers faster that are like another user's, which tells something of them.
   * At least one character: without a name calls share a memory of their own.
   */
  user?: string;
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
    inRun: 'protocol.raw',
    shared: true,
    whenAbsent: false,
  },
  thinking: {
    group,
    kind: 'choice',
    help: 'Whether the model thinks before it answers, where its chat template leaves the choice (as Qwen3)',
    choices: { on: '', off: '' },
    defaultText: "the template's own",
    inRun: 'protocol.thinking',
    shared: true,
  },
} as const satisfies TableFor<PromptOptions>;

const kinds = {
  user: 'a text of at least one character',
  signal: 'an AbortSignal',
  onStep: 'a function',
  onPrompt: 'a function',
} as const satisfies Record<
  Exclude<keyof GenerateOptions, keyof DecodingOptions | keyof PromptOptions>,
  Kind
>;

const table = { ...decodingTable, ...promptTable };

const forgetKinds = { user: kinds.user, drafts: 'true or false' } as const;

/**
 * Checks what `forget` was given: a user, or options.
 *
 * @throws UsageError naming what is wrong
 */
export const checkForget = (what: unknown): void =>
  checkOptions(typeof what === 'string' ? { user: what } : what, {}, forgetKinds);

/** @throws UsageError naming the option */
export const checkGenerateOptions = (options: unknown): void => checkOptions(options, table, kinds);
