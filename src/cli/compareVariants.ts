/** Which variants `compare` runs. All that can be known without a model is checked here, before anything runs. */
import { isDeepStrictEqual } from 'node:util';
import yargs from 'yargs';
import {
  nameVariant,
  parseSweep,
  refuseTwins,
  splitArguments,
  type SweepAxis,
  type Variant,
} from '../bench/run/variants.js';
import { decodingTable, type DecodingOptions, type TreeName } from '../engine/options/decodingOptions.js';
import type { Entry } from '../engine/options/entry.js';
import type { ModelOptions } from '../engine/options/modelOptions.js';
import { expandPaper, paperTree } from '../engine/options/paper.js';
import { entryOfFlag, flagOf, sharedByVariants } from '../engine/options/table.js';
import { hasHeads } from '../models/hasHeads.js';
import { UsageError } from '../util/errors.js';
import { readRunDecoding } from './benchArguments.js';
import {
  asTyped,
  optionSpecs,
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
  readonly isPaper?: boolean;
  readonly point?: PlannedVariant['point'];
}

/**
 * `none`, then the variants asked for (static and dynamic by default), each with each value of the sweep.
 *
 * @throws UsageError when a variant cannot be read, when fewer than two are left, or when an option given for all is of no
 * use to any
 */
export async function planVariants(args: Arguments, texts: readonly string[]): Promise<ComparePlan> {
  const common = await readRunDecoding(args);
  const commonModel = await readModelOptions(args);
  const axis = readText(args, 'sweep');
  const sweep = axis === undefined ? undefined : parseSweep(axis);
  const leftOut: string[] = [];
  const asked: OwnOptions[] = [];
  const canBeStatic = texts.length > 0 || (await hasHeads(commonModel));
  if (!canBeStatic && common.tree === undefined && common.treePaths === undefined)
    leftOut.push('static is left out: the model has no heads.');
  for (const { name, words } of askedVariants(texts, common, canBeStatic)) {
    const own = await readOwn(name, words);
    const reason = sweep && reasonAgainst(sweep.parameter, combine(common, own.decoding));
    if (reason !== undefined) leftOut.push(`${name} is left out of the sweep: ${reason}.`);
    else if (sweep) asked.push(...(await sweepVariant(name, words, sweep)));
    else asked.push(own);
  }
  const variants = withBase(asked, common).map(({ decoding, model, ...rest }): PlannedVariant => ({
    ...rest,
    decoding: completed(rest.name, common, decoding),
    model: { ...commonModel, ...model },
  }));
  refuseTwins(variants);
  if (axis !== undefined && sweep?.parameter === 'heads') refuseTreesWithoutHeads(axis, variants);
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
function askedVariants(
  texts: readonly string[],
  { tree, treePaths }: DecodingOptions,
  canBeStatic: boolean,
): VariantWords[] {
  const both =
    canBeStatic || treePaths !== undefined ? ['--tree static', '--tree dynamic'] : ['--tree dynamic'];
  const otherwise = tree === undefined ? both : [''];
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
  for (const option of sharedByVariants) {
    if (args[option] !== undefined) {
      throw new UsageError(`--${option} must be the same for all variants: give it outside of them`);
    }
  }
  try {
    const { paper, ...decoding } = await readDecodingOptions(args);
    const expanded = expandPaper({ paper, ...decoding });
    return { name, decoding: expanded, model: await readModelOptions(args), isPaper: paper };
  } catch (error) {
    throw ofVariant(name, error);
  }
}

/** An error of a variant's options, with its name. */
function ofVariant(name: string, error: unknown): unknown {
  if (!(error instanceof UsageError)) return error;
  return new UsageError(`Variant "${name}": ${error.message}`, { cause: error });
}

function parseWords(name: string, words: readonly string[]): Arguments {
  return yargs([...words])
    .options(optionSpecs('compare'))
    .parserConfiguration(asTyped)
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
 * The options of a variant on top of the common ones. Of these each takes what its tree can: some are for dynamic trees, a
 * tree file for static ones, and beside a tree file a number of nodes is for the others.
 */
function combine(common: DecodingOptions, own: DecodingOptions): DecodingOptions {
  const tree = own.tree ?? (own.treePaths === undefined ? (common.tree ?? 'dynamic') : 'static');
  const takesFile = tree === 'static' && own.nodes === undefined;
  const hasFile = own.treePaths !== undefined || (takesFile && common.treePaths !== undefined);
  const fits = (name: string): boolean => {
    const { scope }: Entry = decodingTable[name as keyof DecodingOptions];
    if (scope === 'dynamic trees') return tree === 'dynamic';
    if (scope === 'static trees') return takesFile;
    // Left to the engine where nobody says it: without heads there is no tree.
    return name === 'tree' ? own.treePaths === undefined : name !== 'nodes' || !hasFile;
  };
  return { ...Object.fromEntries(Object.entries(common).filter(([name]) => fits(name))), ...own };
}

/** All decoding options of a variant, with `paper` as what it stands for. */
function completed(name: string, common: DecodingOptions, own: DecodingOptions): DecodingOptions {
  try {
    return expandPaper(combine(common, own));
  } catch (error) {
    throw ofVariant(name, error);
  }
}

/** Why a variant cannot take the swept option; undefined when it can. */
function reasonAgainst(parameter: string, decoding: DecodingOptions): string | undefined {
  const { scope } = entryOfFlag(parameter);
  const tree = treeOf(decoding);
  if (scope === undefined) return undefined;
  if (tree === 'none') return `--${parameter} is of no use to plain decoding (--tree none)`;
  if (scope === 'dynamic trees' && tree !== 'dynamic')
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

/** Of a sweep with `heads=none`: a tree that is asked for needs heads. Where none is, the engine decodes plainly. */
function refuseTreesWithoutHeads(axis: string, variants: readonly PlannedVariant[]): void {
  for (const { decoding, point } of variants) {
    const tree = decoding.tree ?? (decoding.treePaths && 'static');
    if (point?.value !== 'none' || tree === undefined || tree === 'none') continue;
    throw new UsageError(
      `--sweep ${axis}: none cannot be swept together with a tree (${tree}), which needs heads. Leave none out: ` +
        'plain decoding is in every comparison',
    );
  }
}

/** An option for all that none of the variants takes would be listed and ignored. */
function refuseUnused(common: DecodingOptions, asked: readonly OwnOptions[]): void {
  const combined = asked.map(
    ({ decoding, isPaper }) => [combine(common, decoding), decoding, isPaper] as const,
  );
  for (const name of Object.keys(common) as (keyof DecodingOptions)[]) {
    const entry: Entry = decodingTable[name];
    const reason = name === 'tree' ? 'all of them name their own' : reasons[entry.scope ?? 'trees'];
    if (reason === undefined) continue;
    const fixed = name in paperTree ? paperTree[name as keyof typeof paperTree] : undefined;
    const isUsed = combined.some(
      ([all, own, isPaper]) =>
        (own[name] === undefined && all[name] === common[name]) ||
        (isPaper && isDeepStrictEqual(fixed, common[name])),
    );
    if (isUsed) continue;
    const flag = flagOf(name, entry);
    if (fixed !== undefined && combined.some(([, , isPaper]) => isPaper)) {
      throw new UsageError(
        `--${flag} ${String(common[name])} contradicts --paper, which stands for --${flag} ${String(fixed)}, ` +
          'and no other variant takes it. Leave one of the two out.',
      );
    }
    throw new UsageError(`--${flag} is of no use to any of these variants: ${reason}`);
  }
}

/** Why none of the variants may take an option. Those for all trees are taken by plain decoding too, which ignores them. */
const reasons: Readonly<Record<NonNullable<Entry['scope']>, string | undefined>> = {
  trees: undefined,
  'dynamic trees': 'it belongs to dynamic trees',
  'static trees': 'it belongs to static trees (--tree static, without --nodes of its own)',
};
