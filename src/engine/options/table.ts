/** All options that the command line has in common with the library, and what is read from the table about them. */
import { decodingTable, type ResolvedDecodingOptions } from './decodingOptions.js';
import type { Command, Entry, Table } from './entry.js';
import { promptTable } from './generateOptions.js';
import { modelTable } from './modelOptions.js';

export const optionTable: Table = { ...modelTable, ...decodingTable, ...promptTable };

const defaultCommands: readonly Command[] = ['generate', 'bench', 'compare'];

/** The commands that take an option. */
export const commandsOf = ({ commands }: Entry): readonly Command[] => commands ?? defaultCommands;

/** The entries that a command takes, as they are there: `bench` and `compare` ask sets of questions. */
export function entriesOf(command: Command, table: Table = optionTable): Record<string, Entry> {
  const own = Object.entries(table).filter(([, entry]) => commandsOf(entry).includes(command));
  return Object.fromEntries(
    command === 'bench' || command === 'compare'
      ? own.map(([name, entry]) => [name, forQuestions(entry)])
      : own,
  );
}

/** An entry as `bench` and `compare` have it. */
export function forQuestions(entry: Entry): Entry {
  return entry.forQuestions === undefined ? entry : { ...entry, ...withoutText(entry) };
}

/** A default of its own replaces the text about the other one. */
function withoutText({ forQuestions: own, defaultText }: Entry): Entry['forQuestions'] {
  return { defaultText: own?.default === undefined ? defaultText : undefined, ...own };
}

/** The option's name on the command line, without dashes in front: `topM` is `top-m`. */
export const flagOf = (name: string, { flag }: Entry): string =>
  flag ?? name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

const flagsWhere = (holds: (entry: Entry) => boolean): readonly string[] =>
  Object.entries(optionTable)
    .filter(([, entry]) => holds(entry))
    .map(([name, entry]) => flagOf(name, entry));

/** What `compare --sweep` can vary. */
export const sweepable = flagsWhere(({ sweep }) => sweep === true);

/** What must be the same for all variants of a comparison. */
export const sharedByVariants = flagsWhere(({ shared }) => shared === true);

/** The options that take no value. */
export const flags = flagsWhere(({ kind }) => kind === 'flag');

/** A field of run.json's `decoding`. */
export type RecordedName = Exclude<keyof ResolvedDecodingOptions, 'seed' | 'temperature'>;

/** The options that run.json has under `decoding`. */
export const recordedDecoding = Object.entries<Entry>(decodingTable).filter(
  (option): option is [RecordedName, Entry] => option[1].inRun?.startsWith('decoding.') === true,
);

/** Those that must be equal for runs to be compared. */
export const sharedDecoding = recordedDecoding.filter(([, { shared }]) => shared).map(([name]) => name);

/** The entry of an option by its name on the command line. */
export function entryOfFlag(flag: string): Entry {
  const found = Object.entries(optionTable).find(([name, entry]) => flagOf(name, entry) === flag);
  if (found === undefined) throw new Error(`There is no option --${flag}.`);
  return found[1];
}
