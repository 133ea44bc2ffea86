/** Tokens of a run that are compared at most: longer repeats say hardly more about what follows. */
export const longestRun = 8;

/** Streaks beyond this count as this. */
export const longestStreak = 3;

/**
 * A text, indexed by what followed each run of 1 to `longestRun` tokens: prompt lookup (Saxena 2023) as a table. Of several
 * occurrences of a run the latest counts, and its streak: how often in a row it was followed by the same token. Looking up a
 * suffix gives the continuation at each length, so several different ones where shorter runs were followed by other tokens
 * later.
 *
 * One open-addressed table holds the runs of all lengths, 8 entries for each token.
 */
export class RunIndex {
  /** [longestRun] by run length - 1: the token that followed the run `find` found. */
  readonly found: Int32Array = new Int32Array(longestRun);
  /** [longestRun] how often in a row it followed, less one; at most `longestStreak`. */
  readonly streaks: Uint8Array = new Uint8Array(longestRun);
  private tokens = new Int32Array(1024);
  private length = 0;
  /** (position that followed the run + 1) * longestRun + (run length - 1); 0: free. */
  private entries = new Int32Array(2 * longestRun * 1024);
  private entryStreaks = new Uint8Array(this.entries.length);

  /** Number of tokens. */
  get size(): number {
    return this.length;
  }

  /** How many tokens `text` begins with that the index has too. */
  commonWith(text: ArrayLike<number>): number {
    const most = Math.min(this.length, text.length);
    let common = 0;
    while (common < most && this.tokens[common] === text[common]) common++;
    return common;
  }

  /** The tokens from `from` on; a view. */
  tokensFrom(from: number): Int32Array {
    return this.tokens.subarray(from, this.length);
  }

  clear(): void {
    this.length = 0;
    this.entries.fill(0);
  }

  append(token: number): void {
    const at = this.length;
    if (at === this.tokens.length) this.grow();
    let hash = seed;
    for (let run = 0; run < Math.min(longestRun, at); run++) {
      hash = mixed(hash, this.tokens[at - 1 - run]);
      this.enter(hash, run, at, token);
    }
    this.tokens[at] = token;
    this.length++;
  }

  /**
   * Looks for the longest suffix of `text + path` that stands in this index with a token after it. Fills `found` and `streaks`
   * for that length and all shorter ones.
   *
   * @param path tokens of the suffix, last first
   * @param count how many of them there are
   * @returns the length of the match, 0 to `longestRun`
   */
  find(path: ArrayLike<number>, count: number): number {
    let hash = seed;
    let run = 0;
    for (; run < Math.min(longestRun, count); run++) {
      hash = mixed(hash, path[run]);
      const slot = this.slotOf(hash, run, path);
      // A longer run cannot have occurred where a shorter one has not.
      if (this.entries[slot] === 0) break;
      this.found[run] = this.tokens[positionOf(this.entries[slot])];
      this.streaks[run] = this.entryStreaks[slot];
    }
    return run;
  }

  /** The last tokens of the text, last first, into `into`. Returns how many. */
  suffix(into: Int32Array): number {
    const count = Math.min(into.length, this.length);
    for (let i = 0; i < count; i++) into[i] = this.tokens[this.length - 1 - i];
    return count;
  }

  /** Where the run of `run + 1` tokens has its entry, or the free slot where it would be. Tokens decide, not hashes. */
  private slotOf(hash: number, run: number, path: ArrayLike<number>): number {
    const { entries, tokens } = this;
    const mask = entries.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const entry = entries[slot];
      if (entry === 0) return slot;
      if (entry % longestRun !== run) continue;
      const end = positionOf(entry) - 1;
      let i = 0;
      while (i <= run && tokens[end - i] === path[i]) i++;
      if (i > run) return slot;
    }
  }

  private enter(hash: number, run: number, at: number, token: number): void {
    const { entries, entryStreaks, tokens } = this;
    const mask = entries.length - 1;
    let slot = hash & mask;
    for (; entries[slot] !== 0; slot = (slot + 1) & mask) {
      if (entries[slot] % longestRun !== run) continue;
      const end = positionOf(entries[slot]) - 1;
      let i = 0;
      while (i <= run && tokens[end - i] === tokens[at - 1 - i]) i++;
      if (i > run) break;
    }
    const isSame = entries[slot] !== 0 && tokens[positionOf(entries[slot])] === token;
    entryStreaks[slot] = isSame ? Math.min(longestStreak, entryStreaks[slot] + 1) : 0;
    entries[slot] = (at + 1) * longestRun + run;
  }

  private grow(): void {
    const { tokens } = this;
    this.tokens = new Int32Array(2 * tokens.length);
    this.entries = new Int32Array(2 * this.entries.length);
    this.entryStreaks = new Uint8Array(this.entries.length);
    this.length = 0;
    for (const token of tokens) this.append(token);
  }
}

const positionOf = (entry: number): number => Math.floor(entry / longestRun) - 1;

const seed = 0x2545f491;

/** An int32 hash of a run and one more token. */
function mixed(hash: number, token: number): number {
  const product = Math.imul(hash ^ token, 0x9e3779b1);
  return product ^ (product >>> 15);
}
