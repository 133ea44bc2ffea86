import type { Argv, Options } from 'yargs';
import {
  acceptanceNames,
  checkChoice,
  checkNumber,
  decodingDefaults,
  describeRange,
  jointNames,
  lookupNames,
  marginalsNames,
  numberRanges,
  parseDecimal,
  treeNames,
  type DecodingOptions,
  type NumberRange,
} from '../engine/decodingOptions.js';
import type { ModelOptions, ProviderName } from '../engine/engine.js';
import { UsageError } from '../util/errors.js';

/**
 * Options shared by `generate`, `bench` and `compare`, and the readers that turn what yargs found into checked
 * values. Every value arrives as text (the parser does not guess numbers), so that messages can show what was typed.
 */

/** What yargs hands to a command: text, true for a flag, or a list when an option was repeated. */
export type Arguments = Record<string, unknown>;

export const providerNames: readonly ProviderName[] = ['cpu', 'cuda', 'auto'];

const modelGroup = 'Model:';
const treeGroup = 'Tree:';
const samplingGroup = 'Sampling and stopping:';

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

export const modelOptionSpecs: Record<string, Options> = {
  model: valued(modelGroup, 'Name of a prepared model, or the path of its folder', 'smollm2-135m-instruct'),
  'models-dir': valued(
    modelGroup,
    'Folder of the prepared models; also MEDUSA_PLUS_MODELS',
    'onnx/ of the checkout, else the user cache',
  ),
  precision: valued(
    modelGroup,
    'Precision of the backbone graph (fp32, fp16, int8, int8-block, int4)',
    "the model's own",
  ),
  heads: valued(modelGroup, 'Name of the Medusa heads, or none', "the model's own"),
  provider: valued(modelGroup, `Where to run: ${providerNames.join(', ')}`, 'cpu'),
  'ort-library': valued(modelGroup, 'GPU build of ONNX Runtime, for CUDA; also MEDUSA_PLUS_ORT_LIBRARY'),
  threads: valued(modelGroup, 'CPU threads', 'measured at preparation'),
};

export const decodingOptionSpecs: Record<string, Options> = {
  tree: valued(treeGroup, `Candidate tree: ${treeNames.join(', ')}`, 'dynamic; none without heads'),
  nodes: valued(
    treeGroup,
    `Nodes per tree, root included: auto (from the cost measured on this machine) or ${describeRange(numberRanges.nodes)}`,
    decodingDefaults.nodes,
  ),
  'heads-used': valued(treeGroup, 'How many heads take part', String(decodingDefaults.headsUsed)),
  'top-m': valued(treeGroup, 'Candidates per head', String(decodingDefaults.topM)),
  'tree-file': valued(
    treeGroup,
    'Static tree from a JSON file of paths of ranks, [[0],[1],[0,0]]; FILE#NAME picks one of several',
  ),
  marginals: valued(
    treeGroup,
    'Head probabilities: full (softmax over the whole vocabulary) or top-m (renormalised, as the reference)',
    decodingDefaults.marginals,
  ),
  joint: valued(
    treeGroup,
    'What ranks combinations of candidates in dynamic trees: product (of the probabilities) or conditional (corrected by a learnt table)',
    'conditional for dynamic trees where the heads come with a table',
  ),
  lookup: valued(
    treeGroup,
    'Whether dynamic trees copy from the text so far what followed the same tokens before: on or off',
    'on where the heads come with weights for it, off with --joint product',
  ),
  temperature: valued(samplingGroup, 'Temperature; 0 is greedy', String(decodingDefaults.temperature)),
  acceptance: valued(
    samplingGroup,
    `Acceptance: ${acceptanceNames.join(', ')} (typical is lossy)`,
    'greedy; above temperature 0 sampling, nucleus with --top-p',
  ),
  'top-p': valued(
    samplingGroup,
    'Sample from the most probable tokens up to this mass (nucleus)',
    String(decodingDefaults.topP),
  ),
  seed: valued(samplingGroup, 'Seed of the random numbers', 'random'),
  'max-new-tokens': valued(samplingGroup, 'Most tokens to generate', String(decodingDefaults.maxNewTokens)),
  stop: valued(samplingGroup, 'Stop before this text; may be repeated'),
};

/** Adds the model options to a command. */
export function addModelOptions<T>(yargs: Argv<T>): Argv<T> {
  return addOptions(yargs, modelOptionSpecs);
}

/** Adds the decoding options to a command. */
export function addDecodingOptions<T>(yargs: Argv<T>): Argv<T> {
  return addOptions(yargs, decodingOptionSpecs);
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

export function readNumber(args: Arguments, name: string, range: NumberRange): number | undefined {
  const text = readText(args, name);
  return text === undefined ? undefined : checkNumber(`--${name}`, parseDecimal(text), range, text);
}

export function readChoice<T extends string>(
  args: Arguments,
  name: string,
  choices: readonly T[],
): T | undefined {
  const text = readText(args, name);
  return text === undefined ? undefined : checkChoice(`--${name}`, text, choices);
}

/** The model options of a command line. */
export function readModelOptions(args: Arguments): ModelOptions {
  return {
    model: readText(args, 'model'),
    modelsDir: readText(args, 'models-dir'),
    precision: readText(args, 'precision'),
    heads: readText(args, 'heads'),
    provider: readChoice(args, 'provider', providerNames),
    ortLibrary: readText(args, 'ort-library'),
    threads: readNumber(args, 'threads', numberRanges.threads),
  };
}

/** The decoding options of a command line. Reads `--tree-file` when it is given. */
export async function readDecodingOptions(args: Arguments): Promise<DecodingOptions> {
  const treeFile = readText(args, 'tree-file');
  return {
    tree: readChoice(args, 'tree', treeNames),
    nodes: readText(args, 'nodes') === 'auto' ? 'auto' : readNumber(args, 'nodes', numberRanges.nodes),
    headsUsed: readNumber(args, 'heads-used', numberRanges.headsUsed),
    topM: readNumber(args, 'top-m', numberRanges.topM),
    treePaths: treeFile === undefined ? undefined : await readTreePaths(treeFile),
    marginals: readChoice(args, 'marginals', marginalsNames),
    joint: readChoice(args, 'joint', jointNames),
    lookup: readChoice(args, 'lookup', lookupNames),
    temperature: readNumber(args, 'temperature', numberRanges.temperature),
    acceptance: readChoice(args, 'acceptance', acceptanceNames),
    topP: readNumber(args, 'top-p', numberRanges.topP),
    seed: readNumber(args, 'seed', numberRanges.seed),
    maxNewTokens: readNumber(args, 'max-new-tokens', numberRanges.maxNewTokens),
    stop: readTexts(args, 'stop'),
  };
}

/** Imported only when needed: most runs read no tree file. */
async function readTreePaths(treeFile: string): Promise<number[][]> {
  const { readTreeFile } = await import('../models/treeFile.js');
  return readTreeFile(treeFile);
}
