import type { EngineOptions, GenerateOptions, Message } from '../engine/engine.js';
import { UsageError } from './errors.js';

/** What callers without types may get wrong, said by name. Values and ranges: `resolveDecodingOptions`. */

type Kind =
  'text' | 'true or false' | 'a function' | 'an AbortSignal' | 'an object with begin, progress and note';

const isKind: Readonly<Record<Kind, (value: unknown) => boolean>> = {
  text: (value) => typeof value === 'string',
  'true or false': (value) => typeof value === 'boolean',
  'a function': (value) => typeof value === 'function',
  'an AbortSignal': (value) => value instanceof AbortSignal,
  'an object with begin, progress and note': (value) =>
    ['begin', 'progress', 'note'].every(
      (name) => typeof (value as Record<string, unknown> | null)?.[name] === 'function',
    ),
};

const engineKinds = {
  model: 'text',
  modelsDir: 'text',
  precision: 'text',
  heads: 'text',
  provider: 'text',
  ortLibrary: 'text',
  prepare: 'true or false',
  report: 'an object with begin, progress and note',
  signal: 'an AbortSignal',
} as const satisfies Partial<Record<keyof EngineOptions, Kind>>;

const generateKinds = {
  system: 'text',
  raw: 'true or false',
  signal: 'an AbortSignal',
  onStep: 'a function',
  onPrompt: 'a function',
} as const satisfies Partial<Record<keyof GenerateOptions, Kind>>;

/** @throws UsageError naming the option */
export const checkEngineOptions = (options: EngineOptions): void => checkKinds(options, engineKinds);

/** @throws UsageError naming the option */
export const checkGenerateOptions = (options: GenerateOptions): void => checkKinds(options, generateKinds);

function checkKinds(options: unknown, kinds: Readonly<Record<string, Kind>>): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new UsageError(`The options must be an object, not ${show(options)}.`);
  }
  for (const [name, kind] of Object.entries(kinds)) {
    const value = (options as Record<string, unknown>)[name];
    if (value !== undefined && !isKind[kind](value)) {
      throw new UsageError(`${name} must be ${kind}, not ${show(value)}.`);
    }
  }
}

/** @throws UsageError unless the prompt is a text or a list of messages */
export function checkPromptKind(prompt: string | readonly Message[]): void {
  if (typeof prompt === 'string') return;
  if (!Array.isArray(prompt)) {
    throw new UsageError(`The prompt must be a text or a list of messages, not ${show(prompt)}.`);
  }
  for (const [i, message] of (prompt as readonly Partial<Message>[]).entries()) {
    const { role, content } = message ?? {};
    if (typeof role !== 'string' || typeof content !== 'string') {
      const parts = Array.isArray(content) ? ' Content parts are not supported: join their texts.' : '';
      throw new UsageError(
        `Message ${i} of the prompt must have a role and a content that are texts, not ${show(message)}.${parts}`,
      );
    }
  }
}

function show(value: unknown): string {
  try {
    return (JSON.stringify(value) ?? String(value)).slice(0, 100);
  } catch {
    return typeof value;
  }
}
