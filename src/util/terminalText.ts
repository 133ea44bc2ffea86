/**
 * Text for a terminal. Question ids, categories, error messages of servers and the model's own text may hold control
 * sequences, which would move the cursor, rewrite what stands there, or set the window's title: they are shown, not obeyed.
 */
import { Escaping, EscapedText, type Content } from './escapedText.js';

/** Text that may go to a terminal as it is: visible text and our colours. */
export class TerminalText extends EscapedText {}

export type TerminalContent = Content<TerminalText>;

const terminal = new Escaping(TerminalText, visible);
/** A template for a terminal: what is put into it is made visible, unless it is TerminalText. */
export const onTerminal = terminal.template;
export const joinText = terminal.join;
/** The characters to write. */
export const terminalString = terminal.textOf;

/** In a colour or style of chalk. */
export function styled(style: (text: string) => string, content: TerminalContent): TerminalText {
  return new TerminalText(style(terminalString(content)));
}

/** Control characters as \x1b; line ends and tabs stay, for they do no more than they should. */
export function visible(text: string): string {
  return text.replace(/\r\n|[^\P{Cc}\n\t]/gu, (found) => (found === '\r\n' ? '\n' : escaped(found)));
}

/** The same for a cell or a name, which has one line. */
export function visibleInLine(text: string): string {
  return text.replace(/\p{Cc}/gu, escaped);
}

const letters: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function escaped(character: string): string {
  return letters[character] ?? `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
}

/** JSON without control characters: JSON.stringify escapes those below U+0020 alone, and a terminal obeys U+009B too. */
export function terminalJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /\p{Cc}/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/**
 * Makes text visible that comes in pieces. Every control character is taken alone, so that no sequence gets through in two
 * halves; only a carriage return waits to see whether a line feed follows.
 */
export class VisibleStream {
  private held = '';

  write(piece: string): string {
    const text = this.held + piece;
    this.held = text.endsWith('\r') ? '\r' : '';
    return visible(text.slice(0, text.length - this.held.length));
  }

  end(): string {
    const rest = visible(this.held);
    this.held = '';
    return rest;
  }
}
