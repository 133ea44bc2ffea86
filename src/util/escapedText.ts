/**
 * Text in a language with markup (HTML, Markdown, a terminal's control sequences) that values can only get into escaped.
 * Reports are made of files that anybody may have written: question ids, categories, token texts, hashes.
 */

/** Text of the language as it is. Each language has a class of its own; what was read from a file is never one. */
export class EscapedText {
  constructor(readonly text: string) {}
}

export type Content<T extends EscapedText> = T | string | number | undefined | readonly Content<T>[];

/** What is the same for all languages, given a language's class and how it escapes. */
export class Escaping<T extends EscapedText> {
  constructor(
    private readonly Text: new (text: string) => T,
    private readonly escape: (text: string) => string,
  ) {}

  /** A template: what is put into it is escaped, unless it is of the language. Lists are put in one after the other. */
  readonly template = (parts: TemplateStringsArray, ...values: readonly Content<T>[]): T =>
    new this.Text(parts.map((part, index) => part + this.textOf(values[index])).join(''));

  readonly join = (contents: readonly Content<T>[], separator: string): T =>
    new this.Text(contents.map(this.textOf).join(separator));

  readonly textOf = (content: Content<T>): string => {
    if (content === undefined) return '';
    if (content instanceof this.Text) return content.text;
    if (Array.isArray(content)) return (content as readonly Content<T>[]).map(this.textOf).join('');
    return this.escape(`${content as string | number}`);
  };
}
