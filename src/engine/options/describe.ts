import type { Entry } from './entry.js';
import type { NumberRange } from './ranges.js';

/** What an option does, and to what, for help and docs. */
export const describeHelp = ({ help, scope }: Entry): string =>
  scope === undefined || scope === 'trees' ? help : `${help} (${scope})`;

/** The values an option may have, for help and docs: "1 to 1024, or auto (from the cost)"; '' where any text may stand. */
export function describeValues(entry: Entry): string {
  switch (entry.kind) {
    case 'number':
      return [shortRange(entry.range), ...explained(entry.words ?? {})].join(', or ');
    case 'choice':
      return explained(entry.choices).join(', ');
    case 'set':
      return `any of ${explained(entry.choices).join(', ')}`;
    default:
      return '';
  }
}

/** What stands where none is given, for help and docs. */
export function describeDefault(entry: Entry): string | undefined {
  if (entry.defaultText !== undefined) return entry.defaultText;
  const isShown = typeof entry.default === 'number' || typeof entry.default === 'string';
  return isShown ? String(entry.default) : undefined;
}

function shortRange({ minimum, maximum, aboveMinimum }: NumberRange): string {
  return aboveMinimum ? `above ${minimum}, up to ${maximum}` : `${minimum} to ${maximum}`;
}

const explained = (words: Readonly<Record<string, string>>): string[] =>
  Object.entries(words).map(([word, meaning]) => (meaning === '' ? word : `${word} (${meaning})`));
