/** Markdown that values can only get into escaped: raw HTML in a category would be HTML in the report. */
import { EscapedText, Escaping, type Content } from '../../util/escapedText.js';
import { visible } from '../../util/terminalText.js';
import type { Table } from './table.js';

/** Markdown as it is. */
export class Markdown extends EscapedText {}

export type MarkdownContent = Content<Markdown>;

const markdown = new Escaping(Markdown, escapeMarkdown);
export const inMarkdown = markdown.template;
export const joinMarkdown = markdown.join;

/** What would be markup in the middle of a line. */
function escapeMarkdown(text: string): string {
  return text
    .replace(/\p{Cc}+/gu, ' ')
    .replace(/[\\`*|~]|(?<!\w)_|_(?!\w)/g, '\\$&')
    .replace(/\](?=[([:])/g, ']\\')
    .replace(/&(?=#?\w+;)/g, '&amp;')
    .replace(/</g, '&lt;');
}

/** What would be markup at the start of a line only: headings, quotes, lists, link definitions. */
function escapeStart(text: string): string {
  return text.replace(/^(\s*)([#>+=[-]|\d+(?=[.)]))/, (_, space: string, mark: string) =>
    /\d/.test(mark) ? `${space}${mark}\\` : `${space}\\${mark}`,
  );
}

export function bulletList(items: readonly MarkdownContent[]): Markdown {
  return new Markdown(
    items
      .map((item) => `- ${item instanceof Markdown ? item.text : escapeStart(markdown.textOf(item))}`)
      .join('\n'),
  );
}

/** Text in backticks, more of them than it has in a row itself. */
export function code(text: string): Markdown {
  const fence = '`'.repeat(1 + longestRun(text));
  const line = text.replace(/\p{Cc}+/gu, ' ');
  const space = /^[ `]|[ `]$/.test(line) ? ' ' : '';
  return new Markdown(`${fence}${space}${line}${space}${fence}`);
}

export function codeBlock(text: string): Markdown {
  const fence = '`'.repeat(Math.max(3, 1 + longestRun(text)));
  return new Markdown(`${fence}text\n${visible(text)}\n${fence}`);
}

function longestRun(text: string): number {
  return Math.max(0, ...(text.match(/`+/g) ?? []).map((run) => run.length));
}

export function markdownTable({ head, rows, numbersFrom = 1 }: Table): Markdown {
  const line = (cells: readonly string[]): Markdown => inMarkdown`| ${joinMarkdown(cells, ' | ')} |`;
  const rule = new Markdown(
    `|${head.map((_, column) => (column < numbersFrom ? '---' : '---:')).join('|')}|`,
  );
  return joinMarkdown([line(head), rule, ...rows.map(line)], '\n');
}
