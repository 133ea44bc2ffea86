/** Variants: the decoding options that are held against each other, and what to call them. */
import type { DecodingOptions, ResolvedDecodingOptions } from '../../decodingOptions.js';
import type { ModelOptions } from '../../engine.js';
import { UsageError } from '../../errors.js';
import type { RunDecoding } from './formats.js';

export interface Variant {
  readonly name: string;
  readonly decoding: DecodingOptions;
  readonly model: ModelOptions;
}

/** A folder name for a variant's name. */
export function slug(name: string): string {
  return name
    .toLowerCase()
    .replace(/[^a-z0-9.]+/g, '-')
    .replace(/^-|-$/g, '');
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

/** "static", "dynamic nodes=8": the tree, then what else the variant sets. */
export function nameVariant(words: readonly string[]): string {
  const given = new Map<string, string>();
  for (let index = 0; index < words.length; index++) {
    const [key, value] = words[index].replace(/^--/, '').split(/=(.*)/s);
    if (value !== undefined) given.set(key, value);
    else if (index + 1 < words.length) given.set(key, words[++index]);
  }
  const tree = given.get('tree') ?? (given.has('tree-file') ? 'static' : 'dynamic');
  given.delete('tree');
  return [tree, ...[...given].map(([key, value]) => `${key}=${value}`)].join(' ');
}

/** Variants need names of their own: their folders are called after them. */
export function refuseTwins(variants: readonly Variant[]): void {
  const seen = new Set<string>();
  for (const { name } of variants) {
    if (seen.has(slug(name)))
      throw new UsageError(`The variant "${name}" is given twice; variants must differ`);
    seen.add(slug(name));
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
