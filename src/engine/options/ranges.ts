import { UsageError } from '../../util/errors.js';

/** What a numeric option may be. */
export interface NumberRange {
  readonly integer: boolean;
  readonly minimum: number;
  readonly maximum: number;
  /** The minimum itself is not allowed. */
  readonly aboveMinimum?: boolean;
}

/** "a whole number from 1 to 1024" */
export function describeRange(range: NumberRange): string {
  const kind = range.integer ? 'a whole number' : 'a number';
  return range.aboveMinimum
    ? `${kind} above ${range.minimum}, at most ${range.maximum}`
    : `${kind} from ${range.minimum} to ${range.maximum}`;
}

/** The number that a text is in decimal notation, else NaN. (Number('') is 0, and Number('0x10') is 16.) */
export function parseDecimal(text: string): number {
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN;
}

/**
 * Returns `value` when it lies in `range` or is one of `words`.
 *
 * @param given what the error shows, where that is not the value
 * @throws UsageError that names the option, what it may be and what was given
 */
export function checkNumber<T>(
  name: string,
  value: T,
  range: NumberRange,
  { given = value, words = [] }: { given?: unknown; words?: readonly string[] } = {},
): T {
  if (typeof value === 'number' ? isInside(value, range) : words.includes(value as string)) return value;
  const shown = typeof given === 'string' ? JSON.stringify(given) : String(given);
  const allowed = [describeRange(range), ...words.map((word) => `"${word}"`)].join(' or ');
  throw new UsageError(`${name} must be ${allowed}, not ${shown}.`);
}

function isInside(value: number, { integer, minimum, maximum, aboveMinimum }: NumberRange): boolean {
  return (
    value <= maximum &&
    (aboveMinimum ? value > minimum : value >= minimum) &&
    (!integer || Number.isInteger(value))
  );
}
