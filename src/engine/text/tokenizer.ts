import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { ModelError } from '../../util/errors.js';
import { interruptible } from './interruptible.js';
import { portablePreTokenizer } from './preTokenizer.js';

/** A control token of the vocabulary, such as <|im_start|>. */
export interface SpecialToken {
  readonly id: number;
  readonly content: string;
}

/**
 * A stretch of a prompt. In `control` text the special tokens' strings are control tokens; in `plain` text they are
 * ordinary characters, so that nothing a user writes can end a turn or begin one.
 */
export interface Segment {
  readonly kind: 'control' | 'plain';
  readonly text: string;
}

/** The two files of a tokenizer, parsed. */
export interface TokenizerFiles {
  readonly tokenizer: unknown;
  readonly config: unknown;
}

interface AddedTokenEntry {
  id: number;
  content: string;
  special?: boolean;
}

interface TokenizerJson {
  added_tokens?: AddedTokenEntry[];
  pre_tokenizer?: unknown;
  decoder?: unknown;
  model?: { vocab?: Record<string, number> };
}

/**
 * Put before a stretch that does not begin the prompt: as an added token it makes the library treat what follows as a
 * later section, as it would be after a control token (SentencePiece tokenizers add a space to the first section only).
 * A noncharacter, which no text may contain.
 */
const sectionMark = '\uFDD0';

/**
 * The tokenizer of a model, behind the few functions the program needs. The library under it is given no special
 * tokens at all: control tokens are found here, in the stretches of a prompt where they are meant.
 */
export class Tokenizer {
  private readonly library: HuggingFaceTokenizer;
  private readonly specialIds: ReadonlyMap<string, number>;
  private readonly specialContents: ReadonlyMap<number, string>;
  private readonly specialPattern: RegExp | undefined;
  /** Whether decoding runs a regular expression of the file. */
  private readonly decodesByPattern: boolean;
  readonly vocabSize: number;

  constructor(files: TokenizerFiles) {
    const json = files.tokenizer as TokenizerJson;
    const added = json.added_tokens ?? [];
    const special = added.filter((token) => token.special);
    this.specialIds = new Map(special.map((token) => [token.content, token.id]));
    this.specialContents = new Map(special.map((token) => [token.id, token.content]));
    this.specialPattern = anyOf([...this.specialIds.keys()]);
    this.decodesByPattern = JSON.stringify(json.decoder ?? null).includes('"Regex"');
    const ids = [...Object.values(json.model?.vocab ?? {}), ...added.map((token) => token.id)];
    this.vocabSize = ids.reduce((most, id) => Math.max(most, id + 1), 0);
    const mark = { id: this.vocabSize, content: sectionMark, special: false, normalized: false };
    const plain = {
      ...json,
      added_tokens: [...added.filter((token) => !token.special), mark],
      pre_tokenizer: portablePreTokenizer(json.pre_tokenizer),
    };
    try {
      this.library = new HuggingFaceTokenizer(plain, files.config as object);
    } catch (error) {
      throw new ModelError(`The tokenizer cannot be loaded: ${(error as Error).message}`, undefined, {
        cause: error,
      });
    }
  }

  get specialTokens(): SpecialToken[] {
    return [...this.specialContents].map(([id, content]) => ({ id, content }));
  }

  isSpecial(id: number): boolean {
    return this.specialContents.has(id);
  }

  /** The ids of a whole prompt. Neighbouring plain stretches are tokenised together, as the reference does. */
  encode(segments: readonly Segment[]): number[] {
    const characters = segments.reduce((sum, { text }) => sum + text.length, 0);
    return interruptible(timeLimit(characters), 'Tokenising the prompt', () =>
      named('tokenise the prompt', () => this.encodeAll(segments)),
    );
  }

  private encodeAll(segments: readonly Segment[]): number[] {
    const ids: number[] = [];
    let text = '';
    const flush = (): void => {
      // One by one: a call takes some 120,000 arguments at most.
      for (const id of this.encodePlain(text, ids.length === 0)) ids.push(id);
      text = '';
    };
    for (const part of segments.flatMap((segment) => this.splitControl(segment))) {
      if (typeof part === 'string') {
        text += part;
      } else {
        flush();
        ids.push(part);
      }
    }
    flush();
    return ids;
  }

  /** The text of `ids`; special tokens leave no text. */
  decode(ids: readonly number[]): string {
    const plain = ids.filter((id) => !this.specialContents.has(id));
    // The library refuses an empty list.
    if (plain.length === 0) return '';
    const decode = (): string =>
      named('decode tokens', () => this.library.decode(plain, { clean_up_tokenization_spaces: false }));
    return this.decodesByPattern
      ? interruptible(timeLimit(plain.length), 'Decoding tokens', decode)
      : decode();
  }

  /** One token for people to read (a tree drawn in the terminal): special tokens by name. */
  label(id: number): string {
    return this.specialContents.get(id) ?? this.decode([id]);
  }

  /** Plain text as it is, control text split into strings and the ids of control tokens. */
  private splitControl(segment: Segment): (string | number)[] {
    if (segment.kind === 'plain' || this.specialPattern === undefined) return [segment.text];
    // With one capturing group, split() also returns what it split at.
    return segment.text.split(this.specialPattern).map((part) => this.specialIds.get(part) ?? part);
  }

  private encodePlain(text: string, isFirst: boolean): number[] {
    // A lone surrogate has no UTF-8; the library would let it become an undefined token.
    const wellFormed = text.replaceAll(sectionMark, '\uFFFD').replace(/\p{Surrogate}/gu, '\uFFFD');
    if (wellFormed === '') return [];
    const encoded = this.library.encode(isFirst ? wellFormed : sectionMark + wellFormed, {
      add_special_tokens: false,
    });
    return isFirst ? encoded.ids : encoded.ids.slice(1);
  }
}

/** What the library throws in its work comes from the model's tokenizer.json. */
function named<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    const why = (cause as Error).message;
    throw new ModelError(`The model's tokenizer cannot ${what}: ${why}`, undefined, { cause });
  }
}

/** Milliseconds: a busy machine tokenises some hundred thousand characters a second. */
const timeLimit = (length: number): number => 20_000 + length / 10;

/** A pattern that captures any of `texts`, longest first. */
function anyOf(texts: readonly string[]): RegExp | undefined {
  if (texts.length === 0) return undefined;
  const escaped = [...texts]
    .sort((a, b) => b.length - a.length)
    .map((text) => text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&'));
  return new RegExp(`(${escaped.join('|')})`);
}
