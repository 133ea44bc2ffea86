import {
  ByteFallbackDecoder,
  SequenceDecoder,
  Tokenizer as HuggingFaceTokenizer,
  type Decoder,
} from '@huggingface/tokenizers';
import { ModelError } from '../../util/errors.js';
import { AddedTokens, type AddedToken, type IsControl } from './addedTokens.js';
import { interruptible } from './interruptible.js';
import { mergeRanks, type MergeRanks } from './mergeRanks.js';
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

interface AddedTokenEntry extends AddedToken {
  /** Looked for in the text that the normalizer gives. */
  readonly normalized?: boolean;
}

interface TokenizerJson {
  added_tokens?: AddedTokenEntry[];
  pre_tokenizer?: unknown;
  decoder?: unknown;
  model?: { vocab?: Record<string, number> };
}

/**
 * The tokenizer of a model, behind the few functions the program needs. Added tokens are found here, by the rules of the
 * reference library, and control tokens only in the stretches of a prompt where they are meant; the library under it
 * tokenises what lies between them.
 */
export class Tokenizer {
  private readonly library: HuggingFaceTokenizer;
  /** Looked for in the text as it is given, and in what the normalizer makes of the rest. */
  private readonly added: { readonly given: AddedTokens; readonly normalized: AddedTokens };
  private readonly specialContents: ReadonlyMap<number, string>;
  /** Whether decoding runs a regular expression of the file. */
  private readonly decodesByPattern: boolean;
  readonly vocabSize: number;

  constructor(files: TokenizerFiles) {
    const json = files.tokenizer as TokenizerJson;
    const added = json.added_tokens ?? [];
    const special = added.filter((token) => token.special);
    this.specialContents = new Map(special.map((token) => [token.id, token.content]));
    this.decodesByPattern = JSON.stringify(json.decoder ?? null).includes('"Regex"');
    this.vocabSize = added.reduce((most, { id }) => Math.max(most, id + 1), sizeOf(json.model?.vocab ?? {}));
    const ranks = mergeRanks(json.model);
    const plain = {
      ...json,
      ...(ranks && { model: { ...json.model, merges: [] } }),
      added_tokens: added.filter((token) => !token.special),
      pre_tokenizer: portablePreTokenizer(json.pre_tokenizer),
    };
    try {
      this.library = new HuggingFaceTokenizer(plain, files.config as object);
    } catch (error) {
      throw new ModelError(`The tokenizer cannot be loaded: ${(error as Error).message}`, undefined, {
        cause: error,
      });
    }
    if (ranks) (this.library.model as unknown as { bpe_ranks: MergeRanks }).bpe_ranks = ranks;
    keepByteOrderMarks(this.library.decoder);
    const { normalizer } = this.library;
    // A special token is a mark in the text, which a normalizer must not hide: "▁</s>" would be found at the start only.
    const isNormalized = (token: AddedTokenEntry): boolean =>
      (token.normalized ?? !token.special) && (normalizer === null || !token.special);
    const normalized = added.filter(isNormalized).map((token) => {
      return { ...token, content: normalizer === null ? token.content : normalizer.normalize(token.content) };
    });
    this.added = {
      given: new AddedTokens(added.filter((token) => !isNormalized(token))),
      normalized: new AddedTokens(normalized),
    };
    this.decodeAs(normalized);
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
    // A lone surrogate has no UTF-8; the library would let it become an undefined token.
    const text = segments
      .map((segment) => segment.text)
      .join('')
      .replace(/\p{Surrogate}/gu, '\uFFFD');
    const isControl = controlRanges(segments);
    const ids: number[] = [];
    for (const piece of this.added.given.split(text, isControl)) {
      if (typeof piece === 'number') ids.push(piece);
      else this.encodePiece(piece.text, piece.start, isControl, ids);
    }
    return ids;
  }

  /** Appends the ids of a stretch that lies at `offset` of the prompt, between added tokens. */
  private encodePiece(given: string, offset: number, isControl: IsControl, ids: number[]): void {
    const { normalizer, pre_tokenizer: preTokenizer, model } = this.library;
    const text = normalizer === null ? given : normalizer.normalize(given);
    // Where there is a normalizer, no special token is looked for in its text.
    const isControlHere: IsControl = (start, end) => isControl(offset + start, offset + end);
    for (const piece of this.added.normalized.split(text, isControlHere)) {
      if (typeof piece === 'number') {
        ids.push(piece);
        continue;
      }
      // Some pre-tokenizers add a space to what begins the prompt.
      const options = { section_index: offset + piece.start };
      const words = preTokenizer === null ? [piece.text] : preTokenizer.pre_tokenize(piece.text, options);
      for (const token of model!(words)) ids.push(model!.tokens_to_ids.get(token) ?? model!.unk_token_id!);
    }
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

  /** The text that a normalized token was found in is its text, for the reference too. */
  private decodeAs(normalized: readonly AddedToken[]): void {
    const contents = new Map(normalized.map(({ id, content }) => [id, content]));
    for (const token of this.library.decoder?.added_tokens ?? []) {
      token.content = contents.get(token.id) ?? token.content;
    }
    for (const [id, content] of contents) {
      if (!this.specialContents.has(id)) this.library.model!.vocab[id] = content;
    }
  }

  /** One token for people to read (a tree drawn in the terminal): special tokens by name. */
  label(id: number): string {
    return this.specialContents.get(id) ?? this.decode([id]);
  }
}

/** One more than the largest id. The ids are not gathered first: that takes three times as long. */
function sizeOf(vocab: Readonly<Record<string, number>>): number {
  let size = 0;
  for (const token in vocab) if (vocab[token] >= size) size = vocab[token] + 1;
  return size;
}

/** Left to itself, the library drops a U+FEFF that byte tokens spell. */
function keepByteOrderMarks(decoder: Decoder | null): void {
  if (decoder instanceof SequenceDecoder) decoder.decoders.forEach(keepByteOrderMarks);
  if (decoder instanceof ByteFallbackDecoder)
    decoder.text_decoder = new TextDecoder('utf-8', { ignoreBOM: true });
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

/** Says of a stretch of the joined segments what kind of text it lies in. Neighbours of one kind are one text. */
function controlRanges(segments: readonly Segment[]): IsControl {
  const ends: number[] = [];
  const kinds: boolean[] = [];
  let length = 0;
  for (const { kind, text } of segments.filter((segment) => segment.text !== '')) {
    length += text.length;
    if (kinds.at(-1) === (kind === 'control')) ends[ends.length - 1] = length;
    else {
      ends.push(length);
      kinds.push(kind === 'control');
    }
  }
  return (start, end) => {
    const at = ends.findIndex((each) => start < each);
    return end <= ends[at] ? kinds[at] : undefined;
  };
}
