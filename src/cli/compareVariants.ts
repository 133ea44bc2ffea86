/** Which variants `compare` runs. All that can be known without a model is checked here, before anything runs. */
import yargs from 'yargs';
import {
  nameVariant,
  parseSweep,
  refuseTwins,
  splitArguments,
  type SweepAxis,
  type Variant,
} from '../bench/run/variants.js';
import type { DecodingOptions, TreeName } from '../engine/decodingOptions.js';
import type { ModelOptions } from '../engine/engine.js';
import { UsageError } from '../util/errors.js';
import { readRunDecoding, withoutUndefined } from './benchArguments.js';
import {
  decodingOptionSpecs,
  modelOptionSpecs,
  readDecodingOptions,
  readModelOptions,
  readText,
  type Arguments,
} from './options.js';

/** A variant and where it stands in a sweep. */
export interface PlannedVariant extends Variant {
  readonly point?: { readonly series: string; readonly value: string };
}

export interface ComparePlan {
  readonly variants: readonly PlannedVariant[];
  /** Variants that cannot take the swept option, in words. */
  readonly leftOut: readonly string[];
}

/** A variant whose words are read, without the options given for all. */
interface OwnOptions {
  readonly name: string;
  readonly decoding: DecodingOptions;
  readonly model: ModelOptions;
  readonly point?: PlannedVariant['point'];
}

/**
 * `none`, then the variants asked for (static and dynamic by default), each with each value of the sweep.
 *
 * @throws UsageError when a variant cannot be read, when fewer than two are left, or when an option given for all is of no
 * use to any
 */
export async function planVariants(args: Arguments, texts: readonly string[]): Promise<ComparePlan> {
  const common = withoutUndefined(await readRunDecoding(args));
  const commonModel = withoutUndefined(readModelOptions(args));
  const axis = readText(args, 'sweep');
  const sweep = axis === undefined ? undefined : parseSweep(axis);
  const leftOut: string[] = [];
  const asked: OwnOptions[] = [];
  for (const { name, words } of askedVariants(texts, common.tree)) {
    const own = await readOwn(name, words);
    const reason = sweep && reasonAgainst(sweep.parameter, combine(common, own.decoding));
    if (reason !== undefined) leftOut.push(`${name} is left out of the sweep: ${reason}.`);
    else if (sweep) asked.push(...(await sweepVariant(name, words, sweep)));
    else asked.push(own);
  }
  const variants = withBase(asked, common).map(({ decoding, model, ...rest }): PlannedVariant => ({
    ...rest,
    decoding: combine(common, decoding),
    model: { ...commonModel, ...model },
  }));
  refuseTwins(variants);
  if (variants.length < 2) {
    throw new UsageError(
      [
        ...leftOut,
        'compare needs a variant to hold against plain decoding (--tree none): give one with a tree',
      ].join(' '),
    );
  }
  refuseUnused(common, asked);
  return { variants, leftOut };
}

interface VariantWords {
  readonly name: string;
  readonly words: readonly string[];
}

/** Without variants, --tree is the one to run. */
function askedVariants(texts: readonly string[], tree: TreeName | undefined): VariantWords[] {
  const otherwise = tree === undefined ? ['--tree static', '--tree dynamic'] : [''];
  return (texts.length > 0 ? texts : otherwise).map((text) => {
    // `NAME:OPTIONS`, or options that name themselves.
    const named = /^([^:=\s-][^:=]*):\s*(-.*)$/s.exec(text);
    const words = splitArguments(named ? named[2] : text);
    return { name: named ? named[1].trim() : nameVariant(words, tree), words };
  });
}

async function sweepVariant(
  series: string,
  words: readonly string[],
  { parameter, values }: SweepAxis,
): Promise<OwnOptions[]> {
  const swept: OwnOptions[] = [];
  for (const value of values) {
    const name = `${series} ${parameter}=${value}`;
    swept.push({
      ...(await readOwn(name, [...words, `--${parameter}`, value])),
      point: { series, value },
    });
  }
  return swept;
}

async function readOwn(name: string, words: readonly string[]): Promise<OwnOptions> {
  const args = parseWords(name, words);
  for (const option of ['temperature', 'seed', 'max-new-tokens', 'stop']) {
    if (args[option] !== undefined) {
      throw new UsageError(`--${option} must be the same for all variants: give it outside of them`);
    }
  }
  try {
    return {
      name,
      decoding: withoutUndefined(await readDecodingOptions(args)),
      model: withoutUndefined(readModelOptions(args)),
    };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(`Variant "${name}": ${error.message}`, { cause: error });
  }
}

function parseWords(name: string, words: readonly string[]): Arguments {
  return yargs([...words])
    .options({ ...modelOptionSpecs, ...decodingOptionSpecs })
    .parserConfiguration({ 'parse-numbers': false, 'parse-positional-numbers': false, 'dot-notation': false })
    .strict()
    .help(false)
    .version(false)
    .exitProcess(false)
    .fail((message: string, error: Error | undefined) => {
      throw new UsageError(`Variant "${name}": ${message ?? error?.message}`);
    })
    .parseSync();
}

function treeOf({ tree, treePaths }: DecodingOptions): TreeName {
  return tree ?? (treePaths === undefined ? 'dynamic' : 'static');
}

/**
 * The options of a variant on top of the common ones. Of these each takes what its tree can: a joint or lookup is for
 * dynamic trees, a tree file for static ones, and beside a tree file a number of nodes is for the others.
 */
function combine(common: DecodingOptions, own: DecodingOptions): DecodingOptions {
  const { joint, lookup, treePaths, nodes, ...rest } = common;
  const tree = own.tree ?? (own.treePaths === undefined ? (common.tree ?? 'dynamic') : 'static');
  const file = own.treePaths ?? (tree === 'static' && own.nodes === undefined ? treePaths : undefined);
  return {
    ...rest,
    ...(file === undefined ? withoutUndefined({ nodes }) : { treePaths: file }),
    ...(tree === 'dynamic' ? withoutUndefined({ joint, lookup }) : {}),
    ...own,
    // Left to the engine where nobody says it: without heads there is no tree.
    ...withoutUndefined({ tree: own.tree ?? (own.treePaths === undefined ? common.tree : undefined) }),
  };
}

/** Why a variant cannot take the swept option; undefined when it can. */
function reasonAgainst(parameter: string, decoding: DecodingOptions): string | undefined {
  const tree = treeOf(decoding);
  if (parameter === 'precision' || parameter === 'acceptance') return undefined;
  if (tree === 'none') return `--${parameter} is of no use to plain decoding (--tree none)`;
  if ((parameter === 'joint' || parameter === 'lookup') && tree !== 'dynamic')
    return `--${parameter} belongs to dynamic trees, and its tree is ${tree}`;
  if (parameter === 'nodes' && decoding.treePaths !== undefined)
    return 'the tree of its --tree-file has its own number of nodes';
  return undefined;
}

/** Plain decoding of the common model, unless it is among the variants. */
function withBase(asked: readonly OwnOptions[], common: DecodingOptions): readonly OwnOptions[] {
  const isBase = ({ decoding, model }: OwnOptions): boolean =>
    treeOf(combine(common, decoding)) === 'none' && Object.keys(model).length === 0;
  return asked.some(isBase) ? asked : [{ name: 'none', decoding: { tree: 'none' }, model: {} }, ...asked];
}

/** An option for all that none of the variants takes would be listed and ignored. */
function refuseUnused(common: DecodingOptions, asked: readonly OwnOptions[]): void {
  const combined = asked.map(({ decoding }) => [combine(common, decoding), decoding] as const);
  const options = [
    ['tree', 'tree', 'all of them name their own'],
    ['treePaths', 'tree-file', 'it belongs to static trees (--tree static, without --nodes of its own)'],
    ['joint', 'joint', 'it belongs to dynamic trees'],
    ['lookup', 'lookup', 'it belongs to dynamic trees'],
  ] as const;
  for (const [field, option, reason] of options) {
    if (common[field] === undefined) continue;
    const isUsed = combined.some(([all, own]) => own[field] === undefined && all[field] === common[field]);
    if (!isUsed) throw new UsageError(`--${option} is of no use to any of these variants: ${reason}`);
  }
}
