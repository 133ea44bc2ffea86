import { isDeepStrictEqual } from 'node:util';
import type { AcceptanceName } from '../../decoding/types.js';
import { prepareCommand } from '../../models/prepareCommand.js';
import { UsageError } from '../../util/errors.js';
import {
  decodingTable,
  type DecodingOptions,
  type JointName,
  type DraftName,
  type ResolvedDecodingOptions,
  type TreeName,
} from './decodingOptions.js';
import type { Entry } from './entry.js';
import { expandPaper } from './paper.js';
import { checkValue } from './values.js';

/** What the loaded model can do, as far as the options depend on it. */
export interface HeadFacts {
  /** 0 when no heads are loaded. */
  readonly headCount: number;
  readonly maxTopM: number;
  /** Name of the loaded heads. */
  readonly heads: string | undefined;
  /** Whether the loaded heads carry a table for joint `conditional`. */
  readonly hasConditional: boolean;
  /** Shown in messages, as is its folder. */
  readonly model: string;
  readonly modelFolder: string;
}

/** Options whose default is the same whatever the model and the other options are. */
type Simple = {
  [K in keyof ResolvedDecodingOptions]: (typeof decodingTable)[K] extends { default: unknown } ? K : never;
}[keyof ResolvedDecodingOptions];

/** Fills in the defaults and checks every value against its range and against the model. */
export function resolveDecodingOptions(given: DecodingOptions, facts: HeadFacts): ResolvedDecodingOptions {
  for (const [name, entry] of Object.entries<Entry>(decodingTable)) {
    const value = given[name as keyof DecodingOptions];
    if (value !== undefined) checkValue(name, value, entry);
  }
  const options = expandPaper(given);
  const tree = resolveTree(options, facts);
  const draft = resolveDraft(options, tree, facts);
  const usesHeads = draft.includes('heads');
  return {
    ...withDefaults(options),
    tree,
    nodes: resolveNodes(options),
    headsUsed: tree === 'dynamic' && !usesHeads ? 0 : resolveHeadsUsed(options, facts),
    topM: resolveTopM(options, facts),
    treePaths: options.treePaths,
    joint: resolveJoint(options, tree, usesHeads, facts),
    draft,
    acceptance: resolveAcceptance(options),
    seed: options.seed ?? Math.floor(Math.random() * 2 ** 32),
  };
}

function withDefaults(options: DecodingOptions): Pick<ResolvedDecodingOptions, Simple> {
  const simple = Object.entries<Entry>(decodingTable).filter(
    ([name, entry]) => entry.default !== undefined && name !== 'paper',
  );
  return Object.fromEntries(
    simple.map(([name, entry]) => [name, options[name as keyof DecodingOptions] ?? entry.default]),
  ) as unknown as Pick<ResolvedDecodingOptions, Simple>;
}

function resolveTree(options: DecodingOptions, facts: HeadFacts): TreeName {
  if (options.treePaths !== undefined && options.tree !== undefined && options.tree !== 'static') {
    throw new UsageError(`A tree file describes a static tree; it does not go with tree ${options.tree}.`);
  }
  const asked = options.treePaths === undefined ? options.tree : 'static';
  const tree = asked ?? decodingTable.tree.default;
  if (tree === 'static' && facts.headCount === 0) {
    throw new UsageError(
      `Tree static needs Medusa heads, and model ${facts.model} has none loaded. ` +
        'Use tree dynamic, which can do without (--draft recycle,lookup), or prepare the model with heads ' +
        `(${withHeads(facts)}).`,
    );
  }
  return tree;
}

/** A tree file has its own size: another one beside it would be recorded and not used. */
function resolveNodes({ nodes = 'auto', treePaths }: DecodingOptions): number | 'auto' {
  if (treePaths === undefined) return nodes;
  const size = treePaths.length + 1;
  if (nodes === 'auto' || nodes === size) return size;
  throw new UsageError(
    `nodes (--nodes) is ${nodes}, but the tree file describes a tree of ${size} nodes, root included. Leave one of the two out.`,
  );
}

/** The command that gives the model other heads. */
const withHeads = ({ modelFolder }: HeadFacts): string =>
  prepareCommand(modelFolder, '--heads', 'FILE', '--force');

/** `conditional` wherever it can be: it takes more tokens per step and costs a fraction of a millisecond. */
function resolveJoint(
  options: DecodingOptions,
  tree: TreeName,
  usesHeads: boolean,
  facts: HeadFacts,
): JointName {
  if (options.joint === undefined) {
    return tree === 'dynamic' && usesHeads && facts.hasConditional ? 'conditional' : 'product';
  }
  const { joint } = options;
  if (joint === 'product') return joint;
  checkDynamic('joint', joint, tree);
  if (!usesHeads) {
    throw new UsageError(
      `Joint ${joint} is about heads, and draft (--draft) leaves them out. Leave one of the two out.`,
    );
  }
  if (!facts.hasConditional) {
    throw new UsageError(
      `Joint ${joint} needs heads with a conditional table, and heads ${facts.heads} of model ${facts.model} have none. ` +
        'Use joint product, or prepare the model with heads that carry a table ' +
        `(${withHeads(facts)}).`,
    );
  }
  return joint;
}

/** All that there is; who asks for the product of the heads' probabilities gets that and nothing else. */
function resolveDraft(options: DecodingOptions, tree: TreeName, facts: HeadFacts): readonly DraftName[] {
  const { draft } = options;
  const hasHeads = facts.headCount > 0;
  if (draft === undefined) {
    if (tree === 'none') return [];
    if (tree === 'static' || (options.joint === 'product' && hasHeads)) return ['heads'];
    return hasHeads ? ['heads', 'recycle', 'lookup'] : ['recycle', 'lookup'];
  }
  if (draft.includes('heads') && !hasHeads && tree !== 'none') {
    throw new UsageError(
      `Draft heads needs Medusa heads, and model ${facts.model} has none loaded. ` +
        `Leave heads out of draft (--draft recycle,lookup), or prepare the model with some (${withHeads(facts)}).`,
    );
  }
  if (tree === 'none' && draft.length === 0) return draft;
  if (draft.length === 0) {
    throw new UsageError(
      'draft is empty: a tree needs something to be made of. Leave it out, or use tree none.',
    );
  }
  if (!isDeepStrictEqual(draft, ['heads'])) checkDynamic('draft', draft.join(), tree);
  return draft;
}

/** Refuses a choice that only dynamic trees have. */
function checkDynamic(option: 'joint' | 'draft', value: string, tree: TreeName): void {
  if (tree === 'dynamic') return;
  const name = option[0].toUpperCase() + option.slice(1);
  throw new UsageError(
    `${name} ${value} belongs to dynamic trees; the tree is ${tree}. Use --tree dynamic, or leave out --${option}.`,
  );
}

function resolveHeadsUsed(options: DecodingOptions, facts: HeadFacts): number {
  const value = options.headsUsed;
  if (value === undefined) return Math.min(decodingTable.headsUsed.default, facts.headCount);
  if (facts.headCount > 0 && value > facts.headCount) {
    throw new UsageError(
      `headsUsed (--heads-used) is ${value}, but model ${facts.model} has ${facts.headCount} heads: give at most ${facts.headCount}.`,
    );
  }
  return value;
}

function resolveTopM(options: DecodingOptions, facts: HeadFacts): number {
  const value = options.topM;
  if (value === undefined) {
    return Math.min(decodingTable.topM.default, facts.headCount > 0 ? facts.maxTopM : Infinity);
  }
  if (facts.headCount > 0 && value > facts.maxTopM) {
    throw new UsageError(
      `topM (--top-m) is ${value}, but the heads of model ${facts.model} give at most ${facts.maxTopM} candidates each.`,
    );
  }
  return value;
}

function resolveAcceptance(options: DecodingOptions): AcceptanceName {
  const temperature = options.temperature ?? decodingTable.temperature.default;
  const above = options.topP === undefined ? 'sampling' : 'nucleus';
  const fallback = temperature > 0 ? above : 'greedy';
  const acceptance = options.acceptance ?? fallback;
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
