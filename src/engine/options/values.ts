import { UsageError } from '../../util/errors.js';
import type { Entry } from './entry.js';
import { checkNumber, parseDecimal } from './ranges.js';

/**
 * Checks a value against its entry.
 *
 * @param name as the caller knows the option: `topM`, or `--top-m`
 * @param given what the error shows, where that is not the value
 * @throws UsageError that names the option, what it may be and what was given
 */
export function checkValue(name: string, value: unknown, entry: Entry, given: unknown = value): void {
  switch (entry.kind) {
    case 'number':
      checkNumber(name, value, entry.range, { given, words: Object.keys(entry.words ?? {}) });
      return;
    case 'choice': {
      const choices = Object.keys(entry.choices);
      if (choices.includes(value as string)) return;
      throw new UsageError(`${name} must be one of ${choices.join(', ')}, not ${show(given)}.`);
    }
    case 'flag':
      if (typeof value === 'boolean') return;
      throw new UsageError(`${name} must be true or false, not ${show(given)}.`);
    case 'text':
      if (typeof value === 'string') return;
      throw new UsageError(`${name} must be text, not ${show(given)}.`);
    case 'texts':
      return checkTexts(name, value);
    case 'paths':
      if (Array.isArray(value)) return;
      throw new UsageError(
        `${name} must be a list of paths of ranks ([[0], [1], [0, 0]]), not ${show(given)}.`,
      );
  }
}

function checkTexts(name: string, value: unknown): void {
  if (!Array.isArray(value)) {
    throw new UsageError(`${name} must be a list of texts (['x'], not 'x'); found ${show(value)}.`);
  }
  if (value.some((text) => typeof text !== 'string' || text === '')) {
    throw new UsageError(`${name}: each text must have at least one character; found ${show(value)}.`);
  }
}

/** The value that a text on the command line stands for. Not checked yet. */
export function parseValue(text: string, entry: Entry): unknown {
  if (entry.kind !== 'number' || Object.hasOwn(entry.words ?? {}, text)) return text;
  return parseDecimal(text);
}

/** A value as an error shows it. */
export function show(value: unknown): string {
  try {
    return (JSON.stringify(value) ?? String(value)).slice(0, 100);
  } catch {
    return typeof value;
  }
}
