import type { Stopping } from '../decoding/types.js';
import { IncrementalDetokenizer, type Decoder } from './incrementalDetokenizer.js';

/**
 * Turns accepted tokens into text that may be shown, and ends the generation at a stop string.
 *
 * Stop strings are looked for in the text, not in the tokens: one may begin inside a token and end inside another.
 * Text that could be the beginning of one is held back. The text ends before the stop string; the token that
 * completed it is the last one.
 */
export class TextAssembler implements Stopping {
  private readonly detokenizer: IncrementalDetokenizer;
  /** Complete characters not handed out yet. */
  private pending = '';
  private stopped = false;

  constructor(
    decoder: Decoder,
    private readonly stopStrings: readonly string[],
  ) {
    this.detokenizer = new IncrementalDetokenizer(decoder);
  }

  push(token: number): 'stop' | undefined {
    if (this.stopped) return 'stop';
    this.pending += this.detokenizer.push(token);
    const at = this.findStop();
    if (at === undefined) return undefined;
    this.pending = this.pending.slice(0, at);
    this.stopped = true;
    return 'stop';
  }

  /** The text that is certain by now. */
  take(): string {
    const held = this.stopped ? 0 : this.heldBack();
    const text = this.pending.slice(0, this.pending.length - held);
    this.pending = this.pending.slice(text.length);
    return text;
  }

  /** The rest, when no more tokens will come. */
  end(): string {
    const text = this.stopped ? this.pending : this.pending + this.detokenizer.flush();
    this.pending = '';
    return text;
  }

  /** Where the first stop string begins. */
  private findStop(): number | undefined {
    const places = this.stopStrings.map((stop) => this.pending.indexOf(stop)).filter((at) => at >= 0);
    return places.length === 0 ? undefined : Math.min(...places);
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
}
