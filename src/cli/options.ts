import type { Argv, Options } from 'yargs';
import { decodingTable, type DecodingOptions } from '../engine/options/decodingOptions.js';
import { describeDefault, describeHelp, describeValues } from '../engine/options/describe.js';
import type { Command, Entry, Table } from '../engine/options/entry.js';
import { modelTable, type ModelOptions } from '../engine/options/modelOptions.js';
import { checkNumber, parseDecimal, type NumberRange } from '../engine/options/ranges.js';
import { entriesOf, flagOf } from '../engine/options/table.js';
import { checkValue, parseValue } from '../engine/options/values.js';
import { UsageError } from '../util/errors.js';

/**
 * The options of the table as yargs takes them, and the readers that turn what yargs found into checked values. Every
 * value arrives as text (the parser does not guess numbers), so that messages can show what was typed.
 */

/** What yargs hands to a command: text, true for a flag, or a list when an option was repeated. */
export type Arguments = Record<string, unknown>;

/** For yargs' parser: values stay as they were typed, so that the readers here can say what is wrong with them. */
export const asTyped = {
  'parse-numbers': false,
  'parse-positional-numbers': false,
  'dot-notation': false,
} as const;

/** An option that takes a value. No yargs type: types would let yargs convert (and lose) what was typed. */
export function valued(group: string, description: string, shown?: string): Options {
  return { group, description, requiresArg: true, defaultDescription: shown };
}

/** An option without a value. `nargs` keeps yargs from taking the word behind it when that is "true" or "false". */
export function flag(group: string | undefined, description: string): Options {
  return { group, description, type: 'boolean', nargs: 0 };
}

/** Adds options to a command, and to that alone: yargs would hand them on to its subcommands. */
export function addOptions<T>(yargs: Argv<T>, specs: Record<string, Options>): Argv<T> {
  const own = Object.entries(specs).map(([name, spec]) => [name, { ...spec, global: false }]);
  return yargs.options(Object.fromEntries(own) as Record<string, Options>) as unknown as Argv<T>;
}

/** The options of a table that a command takes, by their names on the command line. */
export function optionSpecs(command: Command, table?: Table): Record<string, Options> {
  const specs = Object.entries(entriesOf(command, table)).map(([name, entry]) => [
    flagOf(name, entry),
    optionSpec(entry),
  ]);
  return Object.fromEntries(specs) as Record<string, Options>;
}

function optionSpec(entry: Entry): Options {
  const group = `${entry.group}:`;
  const help = describeHelp(entry);
  if (entry.kind === 'flag') return flag(group, help);
  const values = describeValues(entry);
  return valued(group, values === '' ? help : `${help}: ${values}`, describeDefault(entry));
}

/** What yargs found is text, or true where a flag was meant. */
const asText = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

/** The text given for `name`, or undefined. A repeated option is an error: which one was meant? */
export function readText(args: Arguments, name: string): string | undefined {
  const value = args[name];
  if (value === undefined) return undefined;
  if (Array.isArray(value)) {
    throw new UsageError(`--${name} was given ${value.length} times (${value.join(', ')}). Give it once.`);
  }
  const text = asText(value);
  if (text === '') throw new UsageError(`--${name} needs a value; it was given an empty one.`);
  return text;
}

/** The texts given for an option that may be repeated. */
export function readTexts(args: Arguments, name: string): string[] | undefined {
  const value = args[name];
  if (value === undefined) return undefined;
  const texts = (Array.isArray(value) ? value : [value]).map(asText);
  if (texts.includes(''))
    throw new UsageError(`--${name} needs at least one character; it was given an empty text.`);
  return texts;
}

/** Whether a flag is set. A flag may be repeated; `--flag=no` is refused rather than taken for yes. */
export function readFlag(args: Arguments, name: string): boolean {
  const value = args[name];
  const values = Array.isArray(value) ? value : [value];
  return values.some((each) => each === true);
}

/**
 * Whether `--raw` is set.
 *
 * @throws UsageError beside an option that only the chat template is told
 */
export function readRaw(args: Arguments): boolean {
  const raw = readFlag(args, 'raw');
  const useless = ['system', 'thinking', 'chat-template'].find((name) => args[name] !== undefined);
  if (!raw || useless === undefined) return raw;
  throw new UsageError(
    `--${useless} is about the chat template, which --raw leaves out. Give one of the two.`,
  );
}

export function readNumber(args: Arguments, name: string, range: NumberRange): number | undefined {
  const text = readText(args, name);
  return text === undefined
    ? undefined
    : checkNumber(`--${name}`, parseDecimal(text), range, { given: text });
}

/** The model options of a command line. */
export async function readModelOptions(args: Arguments): Promise<ModelOptions> {
  return readOptions(args, modelTable);
}

/** The decoding options of a command line. Reads `--tree-file` when it is given. */
export async function readDecodingOptions(args: Arguments): Promise<DecodingOptions> {
  return readOptions(args, decodingTable);
}

/** The options of a table that were given, checked. */
async function readOptions(args: Arguments, table: Table): Promise<Record<string, unknown>> {
  const given: Record<string, unknown> = {};
  for (const [name, entry] of Object.entries(table)) {
    const value = readValue(args, flagOf(name, entry), entry);
    if (value === undefined) continue;
    given[name] = entry.kind === 'paths' ? await readTreePaths(value as string) : value;
  }
  return given;
}

/** The value given for an option of the table, checked; of paths the name of their file. Undefined where none is given. */
export function readValue(args: Arguments, name: string, entry: Entry): unknown {
  if (entry.kind === 'flag') return readFlag(args, name) || undefined;
  if (entry.kind === 'texts') return readTexts(args, name);
  const text = readText(args, name);
  if (text === undefined || entry.kind === 'paths') return text;
  const value = parseValue(text, entry);
  checkValue(`--${name}`, value, entry, text);
  return value;
}

/** Imported only when needed: most runs read no tree file. */
async function readTreePaths(treeFile: string): Promise<number[][]> {
  const { readTreeFile } = await import('../models/treeFile.js');
  return readTreeFile(treeFile);
}
