import type { NumberRange } from './ranges.js';

/**
 * What an entry of an option table holds. The command line, its help, the library's checks, `--sweep`, the variants of
 * `compare`, the keys of run.json and docs/options.md are all made from these entries.
 */

export type Command = 'generate' | 'bench' | 'compare' | 'doctor' | 'prepare';

/** An entry for an option whose values have type T. */
export type EntryFor<T> = EntryFacts<T> & ValueKind<T>;

/** One entry for each field of the interface O, no more and no fewer: a table that differs does not compile. */
export type TableFor<O> = { readonly [K in keyof Required<O>]: EntryFor<NonNullable<O[K]>> };

/** An entry of any kind, for code that treats all options alike. */
export type Entry = EntryFacts<unknown> &
  (NumberKind<string> | ChoiceKind<string> | SetKind<string> | FlagKind | TextKind | TextsKind | PathsKind);

export type Table = Readonly<Record<string, Entry>>;

interface EntryFacts<T> {
  /** Heading in help and docs. */
  readonly group: string;
  /** What it does, in one sentence without the values, which are added. */
  readonly help: string;
  /** The value where none is given. Absent where that depends on the model, the machine or other options. */
  readonly default?: T;
  /** What help and docs say of the default where `default` does not say it all. */
  readonly defaultText?: string;
  /** Name on the command line without dashes; else the option's name with dashes. */
  readonly flag?: string;
  /** The commands that take it; else `generate`, `bench` and `compare`. */
  readonly commands?: readonly Command[];
  /** Where run.json has it. */
  readonly inRun?: string;
  /** What it means that a run.json does not have it. */
  readonly whenAbsent?: T;
  /** `compare --sweep` can vary it. */
  readonly sweep?: true;
  /** It must be the same for all variants of a comparison. */
  readonly shared?: true;
  /** What it is of use to; any decoding otherwise. */
  readonly scope?: 'trees' | 'dynamic trees' | 'static trees';
  /** What is different in `bench` and `compare`, which ask sets of questions. */
  readonly forQuestions?: {
    readonly help?: string;
    readonly default?: T;
    readonly defaultText?: string;
    readonly words?: Readonly<Record<string, string>>;
  };
}

/** A number in a range, or one of some words, each with its meaning. */
interface NumberKind<W extends string> {
  readonly kind: 'number';
  readonly range: NumberRange;
  readonly words?: Readonly<Record<W, string>>;
}

/** One of some words, each with its meaning ('' where the word says it all). */
interface ChoiceKind<T extends string> {
  readonly kind: 'choice';
  readonly choices: Readonly<Record<T, string>>;
}

/** Some of these words, each with its meaning; on the command line with commas (or +) between them. */
interface SetKind<T extends string> {
  readonly kind: 'set';
  readonly choices: Readonly<Record<T, string>>;
}

interface FlagKind {
  readonly kind: 'flag';
}

interface TextKind {
  readonly kind: 'text';
}

/** A list of texts; on the command line the option is repeated. */
interface TextsKind {
  readonly kind: 'texts';
}

/** Paths of ranks; on the command line the name of a file that holds them. */
interface PathsKind {
  readonly kind: 'paths';
}

type ValueKind<T> = [T] extends [boolean]
  ? FlagKind
  : [T] extends [string]
    ? string extends T
      ? TextKind
      : ChoiceKind<T>
    : [T] extends [readonly string[]]
      ? string extends T[number]
        ? TextsKind
        : SetKind<T[number]>
      : [T] extends [readonly (readonly number[])[]]
        ? PathsKind
        : NumberKind<Extract<T, string>>;
