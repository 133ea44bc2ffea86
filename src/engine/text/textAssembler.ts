import type { Stopping } from '../../decoding/types.js';
import { IncrementalDetokenizer, type Decoder } from './incrementalDetokenizer.js';
import type { SpecialToken } from './tokenizer.js';

/** What the assembler needs of a tokenizer. */
export interface AssemblingDecoder extends Decoder {
  readonly specialTokens: readonly SpecialToken[];
}

/**
 * Turns accepted tokens into text that may be shown, and ends the generation at a stop string.
 *
 * Stop strings are looked for in the text, not in the tokens: one may begin inside a token and end inside another.
 * Text that could be the beginning of one is held back. The text ends before the stop string; the token that
 * completed it is the last one. Control tokens leave no text, but a stop string may name them (`<|im_start|>`): it is
 * met by the token as well as by its characters.
 */
export class TextAssembler implements Stopping {
  private readonly detokenizer: IncrementalDetokenizer;
  private readonly stopStrings: readonly string[];
  /** What stands in `pending` for the control tokens that stop strings name. */
  private readonly marks: ReadonlyMap<number, string>;
  /** Complete characters not handed out yet, and marks. */
  private pending = '';
  private stopped = false;

  constructor(decoder: AssemblingDecoder, stopStrings: readonly string[]) {
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

  push(token: number): 'stop' | undefined {
    if (this.stopped) return 'stop';
    const mark = this.marks.get(token);
    // What comes before the mark must stand before it.
    this.pending += mark === undefined ? this.detokenizer.push(token) : this.detokenizer.flush() + mark;
    return this.cutAtStop() ? 'stop' : undefined;
  }

  /** The text that is certain by now. */
  take(): string {
    const held = this.stopped ? 0 : this.heldBack();
    const text = this.pending.slice(0, this.pending.length - held);
    this.pending = this.pending.slice(text.length);
    return this.withoutMarks(text);
  }

  /** The rest, when no more tokens will come. */
  end(): string {
    if (!this.stopped) {
      this.pending += this.detokenizer.flush();
      this.cutAtStop();
    }
    const text = this.withoutMarks(this.pending);
    this.pending = '';
    return text;
  }

  /** Ends the text before the first stop string, if there is one. */
  private cutAtStop(): boolean {
    const places = this.stopStrings.map((stop) => this.pending.indexOf(stop)).filter((at) => at >= 0);
    if (places.length === 0) return false;
    this.pending = this.pending.slice(
      0,
      places.reduce((first, at) => Math.min(first, at)),
    );
    this.stopped = true;
    return true;
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

  private withoutMarks(text: string): string {
    return this.marks.size === 0 ? text : text.replace(/\uFDD0[\uDC00-\uDFFF]/g, '');
  }
}

/** A mark is U+FDD0 and a low surrogate, which stands behind nothing but a high one in what a decoder gives. */
const mostMarks = 1024;
