import { UsageError } from '../../util/errors.js';
import type { Table } from './entry.js';
import { checkValue, show } from './values.js';

/** What callers without types may get wrong, said by name. */

/** Options that have no table entry, since only the library takes them. */
export type Kind =
  | 'true or false'
  | 'a text'
  | 'a text of at least one character'
  | 'a list of texts'
  | 'a function'
  | 'an AbortSignal'
  | 'an object with begin, progress and note'
  | 'a whole number';

const isKind: Readonly<Record<Kind, (value: unknown) => boolean>> = {
  'true or false': (value) => typeof value === 'boolean',
  'a text': (value) => typeof value === 'string',
  'a text of at least one character': (value) => typeof value === 'string' && value !== '',
  'a list of texts': (value) => Array.isArray(value) && value.every((each) => typeof each === 'string'),
  'a function': (value) => typeof value === 'function',
  'an AbortSignal': (value) => value instanceof AbortSignal,
  'an object with begin, progress and note': (value) =>
    ['begin', 'progress', 'note'].every(
      (name) => typeof (value as Record<string, unknown> | null)?.[name] === 'function',
    ),
  'a whole number': Number.isInteger,
};

/**
 * Checks options by name and kind, and those of `table` by value.
 *
 * @throws UsageError naming the option
 */
export function checkOptions(
  options: unknown,
  table: Table,
  kinds: Readonly<Record<string, Kind>>,
): asserts options is Record<string, unknown> {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new UsageError(`The options must be an object, not ${show(options)}.`);
  }
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    if (Object.hasOwn(table, name)) {
      checkValue(name, value, table[name]);
    } else if (!Object.hasOwn(kinds, name)) {
      const known = [...Object.keys(table), ...Object.keys(kinds)].join(', ');
      throw new UsageError(`There is no option ${name}. These are known here: ${known}.`);
    } else if (!isKind[kinds[name]](value)) {
      throw new UsageError(`${name} must be ${kinds[name]}, not ${show(value)}.`);
    }
  }
}

/** @throws UsageError unless the prompt is a text or a list of messages */
export function checkPromptKind(prompt: unknown): void {
  if (typeof prompt === 'string') return;
  if (!Array.isArray(prompt)) {
    throw new UsageError(`The prompt must be a text or a list of messages, not ${show(prompt)}.`);
  }
  for (const [i, message] of prompt.entries()) {
    const { role, content } = (message ?? {}) as { role?: unknown; content?: unknown };
    if (typeof role !== 'string' || typeof content !== 'string') {
      const parts = Array.isArray(content) ? ' Content parts are not supported: join their texts.' : '';
      throw new UsageError(
        `Message ${i} of the prompt must have a role and a content that are texts, not ${show(message)}.${parts}`,
      );
    }
  }
}
