/** What the detokenizer needs of a tokenizer. */
export interface Decoder {
  decode(ids: readonly number[]): string;
  isSpecial(id: number): boolean;
}

const replacementCharacter = '\uFFFD';
/** Bytes of an unfinished character at most, and so its tokens. */
const mostUnfinished = 3;

/**
 * Turns a growing list of tokens into text, handing out only complete characters.
 *
 * A character may be spread over several tokens, and some tokenizers put spaces between tokens or drop the first one,
 * so tokens cannot be decoded one by one. The window of tokens [prefix, end) is decoded whole, and what its head
 * [prefix, read) has already given is left out. A last U+FFFD may stand for an unfinished character: it alone waits, and
 * those before it are final. So the window stays short, whatever the tokens are.
 */
export class IncrementalDetokenizer {
  private window: number[] = [];
  /** Tokens of the window whose text is complete: the next window's head. */
  private read = 0;
  /** Characters of the window's text handed out. */
  private handedOut = 0;

  constructor(private readonly decoder: Decoder) {}

  /** The text that `id` completes; '' when its characters are still unfinished. */
  push(id: number): string {
    if (this.decoder.isSpecial(id)) return '';
    this.window.push(id);
    const text = this.decoder.decode(this.window);
    const held = text.endsWith(replacementCharacter) ? 1 : 0;
    const complete = text.slice(0, text.length - held);
    const fresh = complete.slice(this.handedOut);
    this.handedOut = Math.max(this.handedOut, complete.length);
    if (held === 0 || this.window.length - this.read > mostUnfinished) this.advance(held);
    return fresh;
  }

  /** What is left at the end: unfinished characters, as replacement characters. */
  flush(): string {
    const rest = this.decoder.decode(this.window).slice(this.handedOut);
    this.window = [];
    this.read = 0;
    this.handedOut = 0;
    return rest;
  }

  /**
   * The tokens that came since the last advance become the head of the window. An unfinished character (the last `held`
   * of its text) lies in them whole.
   */
  private advance(held: number): void {
    this.window = this.window.slice(this.read);
    this.read = this.window.length;
    this.handedOut = this.decoder.decode(this.window).length - held;
  }
}
