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
    case 'set':
      return checkSet(name, value, Object.keys(entry.choices), given);
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

function checkSet(name: string, value: unknown, choices: readonly string[], given: unknown): void {
  if (!Array.isArray(value)) {
    throw new UsageError(
      `${name} must be a list of some of ${choices.join(', ')} (['${choices[0]}'], not '${choices[0]}'); found ${show(value)}.`,
    );
  }
  const isSet = new Set(value).size === value.length;
  if (isSet && value.every((word) => choices.includes(word as string))) return;
  throw new UsageError(`${name} must be some of ${choices.join(', ')} (each once), not ${show(given)}.`);
}

function checkTexts(name: string, value: unknown): void {
  if (!Array.isArray(value)) {
    throw new UsageError(`${name} must be a list of texts (['x'], not 'x'); found ${show(value)}.`);
  }
  if (value.some((text) => typeof text !== 'string' || text === '')) {
    throw new UsageError(`${name}: each text must have at least one character; found ${show(value)}.`);
  }
}

/** The parts of a list as it is typed, without the spaces around them. */
export const splitList = (text: string, between: string | RegExp = ','): string[] =>
  text.split(between).map((part) => part.trim());

/** The value that a text on the command line stands for. Not checked yet. */
export function parseValue(text: string, entry: Entry): unknown {
  // A plus where a comma would end the value: in a sweep.
  if (entry.kind === 'set') return inOrder(splitList(text, /[,+]/), Object.keys(entry.choices));
  if (entry.kind !== 'number' || Object.hasOwn(entry.words ?? {}, text)) return text;
  return parseDecimal(text);
}

/** Words in the order of the table, those that are not in it last: order says nothing. */
function inOrder(words: readonly string[], choices: readonly string[]): string[] {
  const place = (word: string): number => (choices.includes(word) ? choices.indexOf(word) : choices.length);
  return [...words].sort((a, b) => place(a) - place(b));
}

/** A value as an error shows it. */
export function show(value: unknown): string {
  try {
    return (JSON.stringify(value) ?? String(value)).slice(0, 100);
  } catch {
    return typeof value;
  }
}
