/** An entry of `added_tokens` in tokenizer.json. Flags that are left out are as in the reference library. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** A control token, such as <|im_start|>. */
  readonly special?: boolean;
  /** Takes the white space before it along. */
  readonly lstrip?: boolean;
  /** Takes the white space after it along. */
  readonly rstrip?: boolean;
  /** Only counts where no letter, digit or underscore touches it. */
  readonly single_word?: boolean;
}

/** Whether the special tokens in text[start, end) are meant: `undefined` where only a part of them is. */
export type IsControl = (start: number, end: number) => boolean | undefined;

/** A stretch of ordinary text, from `start` on, or the id of an added token. */
export type Piece = { readonly start: number; readonly text: string } | number;

interface Node {
  readonly next: Map<string, Node>;
  token?: AddedToken;
}

/**
 * Finds added tokens in text by the rules of Hugging Face's tokenizers (Rust): the leftmost match, of those the longest,
 * without overlaps. White space that a token takes along does not change which matches there are, so a token of white
 * space in it is found too. A special token that is not meant, and a word that is not single, still cover their text.
 */
export class AddedTokens {
  private readonly root: Node = { next: new Map() };

  constructor(tokens: readonly AddedToken[]) {
    for (const token of tokens.filter(({ content }) => content !== '')) {
      let node = this.root;
      for (const unit of token.content.split('')) {
        if (!node.next.has(unit)) node.next.set(unit, { next: new Map() });
        node = node.next.get(unit)!;
      }
      node.token = token;
    }
  }

  split(text: string, isControl: IsControl): Piece[] {
    const pieces: Piece[] = [];
    let done = 0;
    const plainUpTo = (end: number): void => {
      if (done < end) pieces.push({ start: done, text: text.slice(done, end) });
    };
    for (let at = 0; at < text.length;) {
      const token = this.longestAt(text, at, isControl);
      if (token === undefined) {
        at++;
        continue;
      }
      let [start, end] = [at, at + token.content.length];
      at = end;
      if (token.special && !isControl(start, end)) continue;
      if (token.single_word && (wordBefore(text, start) || wordAt(text, end))) continue;
      if (token.rstrip) {
        while (isSpace(text, end)) end++;
      }
      if (token.lstrip) {
        while (start > done && isSpace(text, start - 1)) start--;
        start = Math.max(start, done);
        // White space all of which the token before it took along: the reference drops it too.
        if (start >= end) continue;
      }
      plainUpTo(start);
      pieces.push(token.id);
      done = end;
    }
    plainUpTo(text.length);
    return pieces;
  }

  /** The longest token that begins at `at`; special ones only where they lie in one kind of text. */
  private longestAt(text: string, at: number, isControl: IsControl): AddedToken | undefined {
    let longest: AddedToken | undefined;
    let node = this.root.next.get(text[at]);
    for (let end = at + 1; node !== undefined; node = node.next.get(text[end++])) {
      const { token } = node;
      if (token !== undefined && !(token.special && isControl(at, end) === undefined)) longest = token;
    }
    return longest;
  }
}

const wordCharacter = '[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]';
const endsWithWord = new RegExp(`${wordCharacter}$`, 'u');
const startsWithWord = new RegExp(`^${wordCharacter}`, 'u');
const space = /\p{White_Space}/u;

/** A character has two UTF-16 units at most. */
const wordBefore = (text: string, at: number): boolean =>
  endsWithWord.test(text.slice(Math.max(0, at - 2), at));
const wordAt = (text: string, at: number): boolean => startsWithWord.test(text.slice(at, at + 2));

/** All white space is of one UTF-16 unit. */
const isSpace = (text: string, at: number): boolean => at < text.length && space.test(text[at]);
