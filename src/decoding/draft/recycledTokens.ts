import { longestStreak } from './runIndex.js';

/** Continuations that are kept for each key. */
export const recycledWidth = 8;

/** Keys that share a place in the table: the one that was written longest ago makes room. */
const ways = 4;

/**
 * What the base model itself preferred after each token, and after each pair of tokens: Token Recycling (Luo et al.,
 * arXiv 2408.08696). Every verified row, rejected ones too, says what the model would write after its path; that is
 * remembered here and offered the next time the same tokens stand at the end of a path. The latest continuations come first.
 *
 * A table of fixed size: keys that were not written for long make room for others.
 */
export class RecycledTokens {
  /** [keys, 2] the token before the last (-1: any), and the last; -2: free. */
  private readonly keys: Int32Array;
  /** [keys, recycledWidth] continuations, the latest first; -1: none. */
  private readonly ids: Int32Array;
  /** [keys] how often in a row the first continuation came, less one. */
  private readonly streaks: Uint8Array;
  /** [keys] when each was written last. */
  private readonly written: Float64Array;
  private time = 0;

  /** @param capacity keys, a power of two */
  constructor(private readonly capacity = 1 << 15) {
    this.keys = new Int32Array(2 * capacity).fill(-2);
    this.ids = new Int32Array(recycledWidth * capacity).fill(-1);
    this.streaks = new Uint8Array(capacity);
    this.written = new Float64Array(capacity);
  }

  /** Learns that the model chose `next` after the tokens `before` (-1: there is none) and `token`. */
  observe(before: number, token: number, next: number): void {
    if (before >= 0) this.enter(before, token, next);
    this.enter(-1, token, next);
  }

  /** Where the continuations after the pair (or after `token` alone, with `before` -1) are; -1 when nothing is known. */
  find(before: number, token: number): number {
    const { keys } = this;
    const first = this.firstOf(before, token);
    for (let at = first; at < first + ways; at++) {
      if (keys[2 * at + 1] === token && keys[2 * at] === before) return at;
    }
    return -1;
  }

  /** The continuation of `rank` at a place that `find` returned; -1 when there are fewer. */
  token(at: number, rank: number): number {
    return this.ids[at * recycledWidth + rank];
  }

  /** How often in a row the first continuation came, less one; at most 3. */
  streak(at: number): number {
    return this.streaks[at];
  }

  /** All that is known, the longest unwritten first: before, token, streak and `recycledWidth` continuations of each key. */
  entries(): Int32Array {
    const { keys, ids, streaks, written } = this;
    const used = Array.from({ length: this.capacity }, (_, at) => at)
      .filter((at) => keys[2 * at] !== -2)
      .sort((a, b) => written[a] - written[b]);
    const out = new Int32Array(used.length * entrySize);
    used.forEach((at, i) => {
      out.set([keys[2 * at], keys[2 * at + 1], streaks[at]], i * entrySize);
      out.set(ids.subarray(at * recycledWidth, (at + 1) * recycledWidth), i * entrySize + 3);
    });
    return out;
  }

  /** Takes over what `entries` gave. */
  restore(entries: Int32Array): void {
    for (let from = 0; from + entrySize <= entries.length; from += entrySize) {
      const at = this.placeFor(entries[from], entries[from + 1]);
      this.streaks[at] = Math.max(0, Math.min(longestStreak, entries[from + 2]));
      this.ids.set(entries.subarray(from + 3, from + entrySize), at * recycledWidth);
    }
  }

  private enter(before: number, token: number, next: number): void {
    const { ids, streaks } = this;
    const at = this.placeFor(before, token);
    const first = at * recycledWidth;
    streaks[at] = ids[first] === next ? Math.min(longestStreak, streaks[at] + 1) : 0;
    // To the front: those before its old place (or all but the last) move on by one.
    let place = 0;
    while (place < recycledWidth - 1 && ids[first + place] !== next) place++;
    ids.copyWithin(first + 1, first, first + place);
    ids[first] = next;
  }

  /** The place of a key: its own, a free one, or that of the key written longest ago. */
  private placeFor(before: number, token: number): number {
    const { keys, written } = this;
    let at = this.find(before, token);
    if (at === -1) {
      const first = this.firstOf(before, token);
      at = first;
      for (let other = first; other < first + ways; other++) if (written[other] < written[at]) at = other;
      keys[2 * at] = before;
      keys[2 * at + 1] = token;
      this.ids.fill(-1, at * recycledWidth, (at + 1) * recycledWidth);
      this.streaks[at] = 0;
    }
    written[at] = ++this.time;
    return at;
  }

  private firstOf(before: number, token: number): number {
    let hash = Math.imul(token ^ Math.imul(before + 1, 0x85ebca6b), 0x9e3779b1);
    hash ^= hash >>> 15;
    return (Math.imul(hash, ways) & (this.capacity - 1)) >>> 0;
  }
}

/** Numbers of an entry in `entries`. */
const entrySize = 3 + recycledWidth;
