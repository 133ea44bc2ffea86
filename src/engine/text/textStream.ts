import { IncrementalDetokenizer, type Decoder } from './incrementalDetokenizer.js';
import type { SpecialToken } from './tokenizer.js';

/** What a text stream needs of a tokenizer. */
export interface StreamDecoder extends Decoder {
  readonly specialTokens: readonly SpecialToken[];
}

/**
 * Turns the tokens of a generation into text that is final: complete characters, before any stop string.
 *
 * Stop strings are looked for in the text, not in the tokens: one may begin inside a token and end inside another.
 * Text that could be the beginning of one is held back. Control tokens leave no text, but a stop string may name them
 * (`<|im_start|>`): it is met by the token as well as by its characters.
 */
export class TextStream {
  /** Whether a stop string was found. What follows it is ignored. */
  isStopped = false;
  private readonly detokenizer: IncrementalDetokenizer;
  private readonly stopStrings: readonly string[];
  /** What stands in `pending` for the control tokens that stop strings name. */
  private readonly marks: ReadonlyMap<number, string>;
  /** Complete characters not handed out yet, and marks. */
  private pending = '';

  constructor(decoder: StreamDecoder, stopStrings: readonly string[]) {
    this.detokenizer = new IncrementalDetokenizer(decoder);
    const named = decoder.specialTokens
      .filter(({ content }) => content !== '' && stopStrings.some((stop) => stop.includes(content)))
      .sort((a, b) => b.content.length - a.content.length)
      .slice(0, mostMarks);
    this.marks = new Map(named.map(({ id }, i) => [id, String.fromCharCode(0xfdd0, 0xdc00 + i)]));
    const withMarks = (stop: string): string =>
      named.reduce((text, { id, content }) => text.replaceAll(content, this.marks.get(id)!), stop);
    this.stopStrings = [...new Set([...stopStrings, ...stopStrings.map(withMarks)])];
  }

  /** The text that `tokens` make certain. */
  push(tokens: readonly number[]): string {
    for (const token of tokens) {
      if (this.isStopped) break;
      const mark = this.marks.get(token);
      // What comes before the mark must stand before it.
      this.pending += mark === undefined ? this.detokenizer.push(token) : this.detokenizer.flush() + mark;
      this.cutAtStop();
    }
    return this.take(this.isStopped ? 0 : this.heldBack());
  }

  /** The rest, when no more tokens will come. */
  end(): string {
    if (!this.isStopped) {
      this.pending += this.detokenizer.flush();
      this.cutAtStop();
    }
    return this.take(0);
  }

  /** Ends the text before the first stop string, if there is one. */
  private cutAtStop(): void {
    const places = this.stopStrings.map((stop) => this.pending.indexOf(stop)).filter((at) => at >= 0);
    if (places.length === 0) return;
    this.pending = this.pending.slice(
      0,
      places.reduce((first, at) => Math.min(first, at)),
    );
    this.isStopped = true;
  }

  /** Length of the longest end of the text that a stop string begins with. */
  private heldBack(): number {
    let held = 0;
    for (const stop of this.stopStrings) {
      for (let length = Math.min(stop.length - 1, this.pending.length); length > held; length--) {
        if (this.pending.endsWith(stop.slice(0, length))) held = length;
      }
    }
    return held;
  }

  /** Takes the pending text, but for its last `held` characters. */
  private take(held: number): string {
    const text = this.pending.slice(0, this.pending.length - held);
    this.pending = this.pending.slice(text.length);
    return this.marks.size === 0 ? text : text.replace(/\uFDD0[\uDC00-\uDFFF]/g, '');
  }
}

/** A mark is U+FDD0 and a low surrogate, which follows nothing but a high one in what a decoder gives. */
const mostMarks = 1024;
