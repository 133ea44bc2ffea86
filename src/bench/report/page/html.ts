/**
 * HTML (and SVG) that values can only get into escaped. Reports are made of files that anybody may have written: question
 * ids, categories, token texts, hashes. These functions are written into the page as they are.
 */

/** HTML as text. What was read from a file is never one, whatever it looks like. */
export class Html {
  constructor(readonly text: string) {}
}

export type HtmlContent = Html | string | number | undefined | readonly HtmlContent[];

/** A template of HTML: what is put into it is escaped, unless it is Html. Attributes must stand in double quotes. */
export function inHtml(parts: TemplateStringsArray, ...values: readonly HtmlContent[]): Html {
  return new Html(parts.map((part, index) => part + htmlOf(values[index])).join(''));
}

export function htmlOf(content: HtmlContent): string {
  if (content instanceof Html) return content.text;
  if (Array.isArray(content)) return (content as readonly HtmlContent[]).map(htmlOf).join('');
  return content === undefined ? '' : escapeHtml(`${content as string | number}`);
}

export function escapeHtml(text: string): string {
  return text
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
    .replace(/"/g, '&quot;')
    .replace(/'/g, '&#39;');
}
