import type { AcceptanceName } from '../decoding/types.js';
import { UsageError } from '../util/errors.js';
import { prepareCommand } from '../models/prepareCommand.js';

export type TreeName = 'dynamic' | 'static' | 'none';
export type MarginalsName = 'full' | 'top-m';
export type JointName = 'product' | 'conditional';
export type LookupName = 'on' | 'off';

/** How the tokens of one generation are chosen. Everything is optional; `resolveDecodingOptions` has the defaults. */
export interface DecodingOptions {
  /** Candidate tree; `dynamic` when the model has heads, `none` otherwise. */
  tree?: TreeName;
  /**
   * Nodes per tree, root included, or `auto`: chosen for each step from the measured cost of this machine. With
   * `treePaths` the size is theirs.
   */
  nodes?: number | 'auto';
  /** How many of the model's heads take part (at most as many as it has). */
  headsUsed?: number;
  /** Candidates taken from each head. */
  topM?: number;
  /** The static tree as paths of ranks, for example [[0], [1], [0, 0]]. Implies `tree: 'static'`. */
  treePaths?: readonly (readonly number[])[];
  /** `full`: softmax over the head's whole vocabulary. `top-m`: renormalised over the top m, as the reference does. */
  marginals?: MarginalsName;
  /**
   * How dynamic trees rank combinations of candidates. `product`: the heads' probabilities multiplied. `conditional`:
   * corrected for the tokens before each candidate, by a table that comes with the heads; the default where one does.
   */
  joint?: JointName;
  /**
   * Whether dynamic trees may copy from the text so far: what followed the last time the same tokens stood there. `on`
   * where the heads come with weights for it, unless `joint` asks for the plain `product`.
   */
  lookup?: LookupName;
  temperature?: number;
  /** `greedy` at temperature 0; above, exact `sampling`, or `nucleus` when `topP` is given. `typical` is lossy. */
  acceptance?: AcceptanceName;
  /** For `nucleus`: the most probable tokens up to this mass are kept. */
  topP?: number;
  seed?: number;
  maxNewTokens?: number;
  /** Generation ends before the first of these strings. */
  stop?: readonly string[];
}

export interface ResolvedDecodingOptions {
  readonly tree: TreeName;
  readonly nodes: number | 'auto';
  readonly headsUsed: number;
  readonly topM: number;
  readonly treePaths: readonly (readonly number[])[] | undefined;
  readonly marginals: MarginalsName;
  readonly joint: JointName;
  readonly lookup: LookupName;
  readonly temperature: number;
  readonly acceptance: AcceptanceName;
  readonly topP: number;
  readonly seed: number;
  readonly maxNewTokens: number;
  readonly stop: readonly string[];
}

export const decodingDefaults = {
  nodes: 'auto',
  headsUsed: 4,
  topM: 32,
  marginals: 'full',
  temperature: 0,
  topP: 0.8,
  maxNewTokens: 256,
} as const;

export const treeNames: readonly TreeName[] = ['dynamic', 'static', 'none'];
export const marginalsNames: readonly MarginalsName[] = ['full', 'top-m'];
export const jointNames: readonly JointName[] = ['product', 'conditional'];
export const lookupNames: readonly LookupName[] = ['on', 'off'];
export const acceptanceNames: readonly AcceptanceName[] = ['greedy', 'sampling', 'typical', 'nucleus'];

/** What a numeric option may be. */
export interface NumberRange {
  readonly integer: boolean;
  readonly minimum: number;
  readonly maximum: number;
  /** The minimum itself is not allowed. */
  readonly aboveMinimum?: boolean;
}

export const numberRanges = {
  nodes: { integer: true, minimum: 1, maximum: 1024 },
  headsUsed: { integer: true, minimum: 1, maximum: 16 },
  topM: { integer: true, minimum: 1, maximum: 1024 },
  temperature: { integer: false, minimum: 0, maximum: 100 },
  topP: { integer: false, minimum: 0, maximum: 1, aboveMinimum: true },
  seed: { integer: true, minimum: 0, maximum: 2 ** 32 - 1 },
  maxNewTokens: { integer: true, minimum: 1, maximum: 1_000_000 },
  threads: { integer: true, minimum: 1, maximum: 256 },
} as const satisfies Record<string, NumberRange>;

/** "a whole number from 1 to 1024" */
export function describeRange(range: NumberRange): string {
  const kind = range.integer ? 'a whole number' : 'a number';
  return range.aboveMinimum
    ? `${kind} above ${range.minimum}, at most ${range.maximum}`
    : `${kind} from ${range.minimum} to ${range.maximum}`;
}

/** The number that a text is in decimal notation, else NaN. (Number('') is 0, and Number('0x10') is 16.) */
export function parseDecimal(text: string): number {
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN;
}

/** Returns `value` when it lies in `range`; otherwise the error names the option, the value and the range. */
export function checkNumber(name: string, value: number, range: NumberRange, given: unknown = value): number {
  const inside =
    typeof value === 'number' &&
    value <= range.maximum &&
    (range.aboveMinimum ? value > range.minimum : value >= range.minimum) &&
    (!range.integer || Number.isInteger(value));
  if (inside) return value;
  const shown = typeof given === 'string' ? JSON.stringify(given) : String(given);
  throw new UsageError(`${name} must be ${describeRange(range)}, not ${shown}.`);
}

/** Returns `value` when it is one of `choices`. */
export function checkChoice<T extends string>(name: string, value: string, choices: readonly T[]): T {
  if ((choices as readonly string[]).includes(value)) return value as T;
  throw new UsageError(`${name} must be one of ${choices.join(', ')}, not ${JSON.stringify(value)}.`);
}

/** What the loaded model can do, as far as the options depend on it. */
export interface HeadFacts {
  /** 0 when no heads are loaded. */
  readonly headCount: number;
  readonly maxTopM: number;
  /** Name of the loaded heads. */
  readonly heads: string | undefined;
  /** Whether the loaded heads carry a table for joint `conditional`. */
  readonly hasConditional: boolean;
  /** Whether the loaded heads carry weights for lookups. */
  readonly hasLookup: boolean;
  /** Shown in messages, as is its folder. */
  readonly model: string;
  readonly modelFolder: string;
}

/** Fills in the defaults and checks every value against its range and against the model. */
export function resolveDecodingOptions(options: DecodingOptions, facts: HeadFacts): ResolvedDecodingOptions {
  const number = (name: keyof typeof numberRanges & keyof DecodingOptions, fallback: number): number => {
    const value = options[name] as number | undefined;
    return value === undefined ? fallback : checkNumber(name, value, numberRanges[name]);
  };
  const temperature = number('temperature', decodingDefaults.temperature);
  const tree = resolveTree(options, facts);
  return {
    tree,
    nodes: resolveNodes(options),
    headsUsed: resolveHeadsUsed(options, facts),
    topM: resolveTopM(options, facts),
    treePaths: options.treePaths,
    marginals: checkChoice('marginals', options.marginals ?? decodingDefaults.marginals, marginalsNames),
    joint: resolveJoint(options, tree, facts),
    lookup: resolveLookup(options, tree, facts),
    temperature,
    acceptance: resolveAcceptance(options, temperature),
    topP: number('topP', decodingDefaults.topP),
    seed: number('seed', Math.floor(Math.random() * 2 ** 32)),
    maxNewTokens: number('maxNewTokens', decodingDefaults.maxNewTokens),
    stop: resolveStop(options.stop ?? []),
  };
}

function resolveTree(options: DecodingOptions, facts: HeadFacts): TreeName {
  if (options.treePaths !== undefined && options.tree !== undefined && options.tree !== 'static') {
    throw new UsageError(`A tree file describes a static tree; it does not go with tree ${options.tree}.`);
  }
  const asked = options.treePaths === undefined ? options.tree : 'static';
  const tree = checkChoice('tree', asked ?? (facts.headCount > 0 ? 'dynamic' : 'none'), treeNames);
  if (tree !== 'none' && facts.headCount === 0) {
    throw new UsageError(
      `Tree ${tree} needs Medusa heads, and model ${facts.model} has none loaded. ` +
        'Use tree none, or prepare the model with heads ' +
        `(${withHeads(facts)}).`,
    );
  }
  return tree;
}

/** A tree file has its own size: another one beside it would be recorded and not used. */
function resolveNodes({ nodes = 'auto', treePaths }: DecodingOptions): number | 'auto' {
  const asked = nodes === 'auto' ? nodes : checkNumber('nodes', nodes, numberRanges.nodes);
  if (treePaths === undefined) return asked;
  const size = treePaths.length + 1;
  if (asked === 'auto' || asked === size) return size;
  throw new UsageError(
    `nodes (--nodes) is ${asked}, but the tree file describes a tree of ${size} nodes, root included. Leave one of the two out.`,
  );
}

/** The command that gives the model other heads. */
const withHeads = ({ modelFolder }: HeadFacts): string =>
  prepareCommand(modelFolder, '--heads', 'FILE', '--force');

/** `conditional` wherever it can be: it takes more tokens per step and costs a fraction of a millisecond. */
function resolveJoint(options: DecodingOptions, tree: TreeName, facts: HeadFacts): JointName {
  if (options.joint === undefined) {
    return tree === 'dynamic' && facts.hasConditional ? 'conditional' : 'product';
  }
  const joint = checkChoice('joint', options.joint, jointNames);
  if (joint === 'product') return joint;
  checkDynamic('joint', joint, tree);
  if (!facts.hasConditional) {
    throw new UsageError(
      `Joint ${joint} needs heads with a conditional table, and heads ${facts.heads} of model ${facts.model} have none. ` +
        'Use joint product, or prepare the model with heads that carry a table ' +
        `(${withHeads(facts)}).`,
    );
  }
  return joint;
}

/** `on` wherever it can be; who asks for the product of the heads' probabilities gets that and nothing else. */
function resolveLookup(options: DecodingOptions, tree: TreeName, facts: HeadFacts): LookupName {
  if (options.lookup === undefined) {
    return tree === 'dynamic' && facts.hasLookup && options.joint !== 'product' ? 'on' : 'off';
  }
  const lookup = checkChoice('lookup', options.lookup, lookupNames);
  if (lookup === 'off') return lookup;
  checkDynamic('lookup', lookup, tree);
  if (!facts.hasLookup) {
    throw new UsageError(
      `Lookup ${lookup} needs heads with lookup weights, and heads ${facts.heads} of model ${facts.model} have none. ` +
        'Use lookup off, or prepare the model with heads that carry them (export/fit_lookup.py; ' +
        `${withHeads(facts)}).`,
    );
  }
  return lookup;
}

/** Refuses a choice that only dynamic trees have. */
function checkDynamic(option: 'joint' | 'lookup', value: string, tree: TreeName): void {
  if (tree === 'dynamic') return;
  const name = option[0].toUpperCase() + option.slice(1);
  throw new UsageError(
    `${name} ${value} belongs to dynamic trees; the tree is ${tree}. Use --tree dynamic, or leave out --${option}.`,
  );
}

function resolveHeadsUsed(options: DecodingOptions, facts: HeadFacts): number {
  if (options.headsUsed === undefined) return Math.min(decodingDefaults.headsUsed, facts.headCount);
  const value = checkNumber('headsUsed', options.headsUsed, numberRanges.headsUsed);
  if (facts.headCount > 0 && value > facts.headCount) {
    throw new UsageError(
      `headsUsed (--heads-used) is ${value}, but model ${facts.model} has ${facts.headCount} heads: give at most ${facts.headCount}.`,
    );
  }
  return value;
}

function resolveTopM(options: DecodingOptions, facts: HeadFacts): number {
  if (options.topM === undefined) {
    return facts.headCount > 0 ? Math.min(decodingDefaults.topM, facts.maxTopM) : decodingDefaults.topM;
  }
  const value = checkNumber('topM', options.topM, numberRanges.topM);
  if (facts.headCount > 0 && value > facts.maxTopM) {
    throw new UsageError(
      `topM (--top-m) is ${value}, but the heads of model ${facts.model} give at most ${facts.maxTopM} candidates each.`,
    );
  }
  return value;
}

function resolveAcceptance(options: DecodingOptions, temperature: number): AcceptanceName {
  const above = options.topP === undefined ? 'sampling' : 'nucleus';
  const fallback = temperature > 0 ? above : 'greedy';
  const acceptance = checkChoice('acceptance', options.acceptance ?? fallback, acceptanceNames);
  if (acceptance === 'greedy' && temperature > 0) {
    throw new UsageError(
      `Acceptance greedy means temperature 0, but the temperature is ${temperature}. ` +
        'Leave one of the two out, or use acceptance sampling.',
    );
  }
  if (acceptance !== 'greedy' && temperature === 0) {
    throw new UsageError(`Acceptance ${acceptance} needs a temperature above 0 (0.7, say).`);
  }
  if (options.topP !== undefined && acceptance !== 'nucleus') {
    throw new UsageError(`topP (--top-p) belongs to acceptance nucleus; acceptance is ${acceptance}.`);
  }
  return acceptance;
}

function resolveStop(stop: readonly string[]): readonly string[] {
  const isList: boolean = Array.isArray(stop);
  if (!isList) {
    throw new UsageError(`stop must be a list of texts (['x'], not 'x'); found ${JSON.stringify(stop)}.`);
  }
  if (stop.some((text) => typeof text !== 'string' || text.length === 0)) {
    throw new UsageError('A stop string must have at least one character.');
  }
  return stop;
}
