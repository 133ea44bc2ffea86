/** The key of the judge's endpoint must not get into messages and files, even where the server sends it back. */
import { UsageError } from '../../util/errors.js';

/** Shorter keys are placeholders ("none", "EMPTY") whose letters occur in any text. */
const SHORTEST_SECRET = 8;

/** Refuses a key that no header can hold, before an error of the HTTP library would show it. */
export function checkKey(key: string | undefined, name: string): void {
  if (key === undefined || /^[\x21-\x7e]+$/.test(key)) return;
  throw new UsageError(
    `${name} holds a space, a line break or another character that a key cannot have (its value is not shown); ` +
      `set it again without, for example ${name}="$(tr -d '[:space:]' < key.txt)"`,
  );
}

/** The text of an error message without the key, in any of the forms in which a server may send it back. */
export function withoutKey(text: string, key: string | undefined): string {
  if (key === undefined || key === '') return text;
  // JSON may put a backslash before a character.
  const escaped = [...key].map((letter) => `\\\\?${letter.replace(/[^\w]/, '\\$&')}`).join('');
  return text.replace(new RegExp(escaped, 'g'), '[key]').replaceAll(encodeURIComponent(key), '[key]');
}

/** The same for text that is kept: there a placeholder key is left, which would spoil ordinary words. */
export function keptWithoutKey(text: string, key: string | undefined): string {
  return key !== undefined && key.length < SHORTEST_SECRET ? text : withoutKey(text, key);
}
