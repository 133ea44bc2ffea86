/** Tokens of a suffix that are compared at most: longer repeats say hardly more about what follows. */
export const longestMatch = 8;

/**
 * The text so far, indexed by what followed each run of up to `longestMatch` tokens: prompt lookup (Saxena 2023) as a
 * table. Of several occurrences the latest counts. Grows with the text; an append costs `longestMatch` map entries.
 */
export class LookupIndex {
  /** What followed the run that `find` found last. */
  found = -1;
  private tokens = new Int32Array(1024);
  private length = 0;
  /** By run length - 1: hash of a run, last token first -> position of the token that followed it last. */
  private readonly following = Array.from({ length: longestMatch }, () => new Map<number, number>());

  /** Makes the index that of `text`. What it shares with the text before is kept. */
  update(text: readonly number[]): void {
    let common = 0;
    while (common < this.length && common < text.length && this.tokens[common] === text[common]) common++;
    if (common < this.length) this.clear();
    for (let at = this.length; at < text.length; at++) this.append(text[at]);
  }

  /**
   * Looks for the longest suffix of `text + path` that stands in the text with a token after it: `found` is that token.
   *
   * @param path tokens after the text, last first: `path[count - 1]` follows the text
   * @returns the length of the match, 1 to `longestMatch`; 0 when not even the last token stands there
   */
  find(path: ArrayLike<number>, count: number): number {
    let length = 0;
    let hash = seed;
    const most = Math.min(longestMatch, this.length + count);
    while (length < most) {
      hash = mixed(hash, this.tokenBefore(path, count, length));
      const position = this.following[length].get(hash) ?? -1;
      // A longer run cannot have occurred where a shorter one has not. Hashes may collide: the tokens decide.
      if (position === -1 || !this.matches(position, path, count, length + 1)) break;
      this.found = this.tokens[position];
      length++;
    }
    return length;
  }

  private clear(): void {
    this.length = 0;
    for (const map of this.following) map.clear();
  }

  private append(token: number): void {
    const { tokens, length: at } = this;
    let hash = seed;
    for (let run = 0; run < Math.min(longestMatch, at); run++) {
      hash = mixed(hash, tokens[at - 1 - run]);
      this.following[run].set(hash, at);
    }
    if (at === tokens.length) {
      this.tokens = new Int32Array(2 * at);
      this.tokens.set(tokens);
    }
    this.tokens[at] = token;
    this.length++;
  }

  /** The token `distance` before the end of `text + path`. */
  private tokenBefore(path: ArrayLike<number>, count: number, distance: number): number {
    return distance < count ? path[distance] : this.tokens[this.length - 1 - (distance - count)];
  }

  private matches(position: number, path: ArrayLike<number>, count: number, run: number): boolean {
    for (let i = 0; i < run; i++) {
      if (this.tokens[position - 1 - i] !== this.tokenBefore(path, count, i)) return false;
    }
    return true;
  }
}

const seed = 0x2545f491;

/** An int32 hash of a run and one more token. */
function mixed(hash: number, token: number): number {
  const product = Math.imul(hash ^ token, 0x9e3779b1);
  return product ^ (product >>> 15);
}
