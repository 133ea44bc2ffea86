/** Variants: the decoding options that are held against each other, and what to call them. */
import { createHash } from 'node:crypto';
import type { DecodingOptions, ResolvedDecodingOptions } from '../../engine/decodingOptions.js';
import type { ModelOptions } from '../../engine/engine.js';
import { UsageError } from '../../util/errors.js';
import type { RunDecoding } from './formats.js';

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
  const words = text.match(/(?:"[^"]*"|'[^']*'|[^\s"'])+/g) ?? [];
  if ((text.match(/"/g)?.length ?? 0) % 2 === 1 && !text.includes("'")) {
    throw new UsageError(`${JSON.stringify(text)}: a quotation mark is not closed`);
  }
  return words.map((word) =>
    word.replace(/"([^"]*)"|'([^']*)'/g, (_, double?: string, single?: string) => double ?? single ?? ''),
  );
}

/** "static", "dynamic nodes=8": the tree (`tree` where the variant does not say), then what else the variant sets. */
export function nameVariant(words: readonly string[], tree = 'dynamic'): string {
  const given = new Map<string, string>();
  for (let index = 0; index < words.length; index++) {
    const [key, value] = words[index].replace(/^--/, '').split(/=(.*)/s);
    if (value !== undefined) given.set(key, value);
    else if (index + 1 < words.length) given.set(key, words[++index]);
  }
  const own = given.get('tree') ?? (given.has('tree-file') ? 'static' : tree);
  given.delete('tree');
  return [own, ...[...given].map(([key, value]) => `${key}=${value}`)].join(' ');
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
  const { tree, nodes, headsUsed, topM, treePaths, marginals, joint, lookup, topP, maxNewTokens, stop } =
    resolved;
  const acceptance = asked.acceptance ?? (asked.topP === undefined ? 'auto' : 'nucleus');
  return {
    ...{ tree, nodes, headsUsed, topM, treePaths, marginals, joint, lookup },
    ...{ acceptance, topP, maxNewTokens, stop },
  };
}

export interface SweepAxis {
  readonly parameter: string;
  readonly values: readonly string[];
}

const SWEEPABLE = [
  'nodes',
  'top-m',
  'heads-used',
  'precision',
  'acceptance',
  'heads',
  'marginals',
  'joint',
  'lookup',
];

/** Parses `--sweep nodes=1,2,4`. */
export function parseSweep(text: string): SweepAxis {
  const [parameter, list = ''] = text.split(/=(.*)/s);
  const values = list.split(',').filter((value) => value !== '');
  if (!SWEEPABLE.includes(parameter) || values.length === 0 || new Set(values).size < values.length) {
    throw new UsageError(
      `--sweep ${text}: expected PARAMETER=VALUE,VALUE,... with different values and PARAMETER one of ${SWEEPABLE.join(', ')}`,
    );
  }
  return { parameter, values };
}
