/** Variants: the decoding options that are held against each other, and what to call them. */
import { createHash } from 'node:crypto';
import parseArgsStringToArgv from 'string-argv';
import type { DecodingOptions, ResolvedDecodingOptions } from '../../engine/options/decodingOptions.js';
import type { ModelOptions } from '../../engine/options/modelOptions.js';
import { flags, recordedDecoding, sweepable } from '../../engine/options/table.js';
import { splitList } from '../../engine/options/values.js';
import { UsageError } from '../../util/errors.js';
import type { RunDecoding } from './decodingSchema.js';

/** What lies in the folder of a comparison beside the folders of its variants. */
export const REPORT_FILES = ['report.html', 'report.md', 'report.json'] as const;

export interface Variant {
  readonly name: string;
  readonly decoding: DecodingOptions;
  readonly model: ModelOptions;
}

/** Most bytes of a slug: file systems take 255 for a name. */
const LONGEST_SLUG = 200;

/** A folder name for a variant's name, in any script: letters and digits, the rest as dashes. Never empty. */
export function slug(name: string): string {
  const plain = name
    .normalize('NFC')
    .toLowerCase()
    .replace(/[^\p{L}\p{M}\p{N}.]+/gu, '-')
    .replace(/^[-.]+|[-.]+$/g, '');
  if (plain === '') return hashOf(name);
  return Buffer.byteLength(plain) > LONGEST_SLUG
    ? `${[...plain].slice(0, LONGEST_SLUG / 5).join('')}-${hashOf(name)}`
    : plain;
}

/** Folder names by variant name: the slug, with a hash of the name where another variant (or a report) has the same. */
export function folderNames(names: readonly string[]): ReadonlyMap<string, string> {
  const slugs = [...names.map(slug), ...REPORT_FILES];
  return new Map(
    names.map((name) => {
      const own = slug(name);
      const isShared = slugs.filter((each) => each === own).length > 1;
      return [name, isShared ? `${own}-${hashOf(name)}` : own];
    }),
  );
}

function hashOf(name: string): string {
  return createHash('sha256').update(name).digest('hex').slice(0, 8);
}

/** Splits a variant's text as a shell would: spaces separate, quotes keep together. */
export function splitArguments(text: string): string[] {
  // A word more is one of its own, unless a quotation takes it in.
  const words = parseArgsStringToArgv(`${text} end`);
  if (words.pop() === 'end') return words;
  throw new UsageError(`${JSON.stringify(text)}: a quotation mark is not closed`);
}

/** "static", "dynamic nodes=8": the tree (`tree` where the variant does not say), then what else the variant sets. */
export function nameVariant(words: readonly string[], tree = 'dynamic'): string {
  const given = new Map<string, string | undefined>();
  for (let index = 0; index < words.length; index++) {
    const [key, value] = words[index].replace(/^--/, '').split(/=(.*)/s);
    if (value !== undefined || flags.includes(key)) given.set(key, value);
    else if (index + 1 < words.length) given.set(key, words[++index]);
  }
  const implied = given.has('tree-file') ? 'static' : given.has('paper') ? 'dynamic' : tree;
  const own = given.get('tree') ?? implied;
  given.delete('tree');
  return [own, ...[...given].map(([key, value]) => (value === undefined ? key : `${key}=${value}`))].join(
    ' ',
  );
}

/** Variants need names of their own: reports call them by their names. */
export function refuseTwins(variants: readonly Variant[]): void {
  const seen = new Set<string>();
  for (const { name } of variants) {
    if (seen.has(name)) throw new UsageError(`The variant "${name}" is given twice; variants must differ`);
    seen.add(name);
  }
}

/** What run.json keeps of the options; temperature and seed are the protocol's. */
export function runDecoding(resolved: ResolvedDecodingOptions, asked: DecodingOptions): RunDecoding {
  const kept = Object.fromEntries(
    recordedDecoding.map(([name]) => [name, resolved[name]]),
  ) as unknown as RunDecoding;
  return { ...kept, acceptance: asked.acceptance ?? (asked.topP === undefined ? 'auto' : 'nucleus') };
}

export interface SweepAxis {
  readonly parameter: string;
  readonly values: readonly string[];
}

/** Parses `--sweep nodes=1,2,4`. */
export function parseSweep(text: string): SweepAxis {
  const [parameter, list = ''] = text.split(/=(.*)/s);
  const values = splitList(list).filter((value) => value !== '');
  if (!sweepable.includes(parameter) || values.length === 0 || new Set(values).size < values.length) {
    throw new UsageError(
      `--sweep ${text}: expected PARAMETER=VALUE,VALUE,... with different values and PARAMETER one of ${sweepable.join(', ')}`,
    );
  }
  return { parameter, values };
}
