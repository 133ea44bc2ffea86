import type { CostPoint } from '../decoding/policy/costCurve.js';
import { CostCurve } from '../decoding/policy/costCurve.js';
import type { DraftMemory } from '../decoding/draft/draftMemory.js';
import { DraftSources } from '../decoding/draft/draftSources.js';
import type { NestedTrees } from '../decoding/tree/nestedTrees.js';
import { autoTree, dynamicTree, noTree, staticTree } from '../decoding/policy/treePolicy.js';
import {
  searchStaticTree,
  staticTreeFromPaths,
  TreeFormatError,
  type StaticTree,
} from '../decoding/tree/staticTree.js';
import type { TreePolicy } from '../decoding/types.js';
import type { OpenConditional } from '../models/conditional.js';
import type { ResolvedDecodingOptions } from './options/decodingOptions.js';
import { ModelError, UsageError } from '../util/errors.js';

/** Most nodes a tree of automatic size may have: the paper's number. */
export const mostAutoNodes = 64;

/** What policies need to know of the open model. */
export interface PolicyFacts {
  /** [heads][rank] how often the candidate was right on calibration data. */
  readonly accuracies: readonly (readonly number[])[];
  /** The static trees searched from them, where the heads bring them. */
  readonly staticTrees?: NestedTrees;
  /** Measured cost of verifying n nodes here. */
  readonly costs: readonly CostPoint[];
  /** Opens the heads' conditional table; absent when they have none. */
  readonly openConditional?: () => Promise<OpenConditional>;
}

/** Makes the tree policy of a generation. */
export class PolicyMaker {
  /** Policies of automatic size learn from each step: one for each kind is kept for later generations. */
  private readonly learning = new Map<string, { policy: TreePolicy; sources: DraftSources | undefined }>();

  /** Opened when first asked for: products do without its memory. */
  private conditional: Promise<OpenConditional> | undefined;

  constructor(private readonly facts: PolicyFacts) {}

  /**
   * @param memory of the user that the generation is for
   * @throws ModelError when the table that joint `conditional` needs cannot be read
   */
  async make(options: ResolvedDecodingOptions, memory: DraftMemory): Promise<TreePolicy> {
    if (options.tree === 'none') return noTree();
    if (options.nodes === 'auto' && this.facts.costs.length === 0) {
      throw new UsageError(
        'nodes auto needs to know what a step costs, and the engine was opened with measure: false. Give a number of nodes.',
      );
    }
    if (options.tree === 'static') return staticTree(this.shape(options));
    const { nodes, headsUsed: heads, topM, marginals, joint, draft } = options;
    const conditional = joint === 'conditional' ? await this.openConditional() : undefined;
    const use = { recycle: draft.includes('recycle'), lookup: draft.includes('lookup') };
    const sources = use.recycle || use.lookup ? new DraftSources(memory, use) : undefined;
    const search = { heads, topM, marginals, conditional, sources };
    if (nodes !== 'auto') return dynamicTree({ nodes, ...search });
    const key = [heads, topM, marginals, joint, ...draft].join();
    const known = this.learning.get(key);
    if (known !== undefined) {
      if (known.sources) known.sources.memory = memory;
      return known.policy;
    }
    const policy = autoTree({ nodes: mostAutoNodes, ...search, costs: this.facts.costs });
    this.learning.set(key, { policy, sources });
    return policy;
  }

  /** Closes the conditional table, once it is open. The policies that were made draft no more trees. */
  async dispose(): Promise<void> {
    // Who wanted a table that could not be opened was told.
    (await this.conditional?.catch(() => undefined))?.close();
  }

  private openConditional(): Promise<OpenConditional> {
    const { openConditional } = this.facts;
    if (openConditional === undefined) throw new Error('These heads have no conditional table.');
    return (this.conditional ??= openConditional());
  }

  private shape(options: ResolvedDecodingOptions): StaticTree {
    const { treePaths, headsUsed, topM, nodes } = options;
    if (treePaths !== undefined) return fromPaths(treePaths, headsUsed, topM);
    const { accuracies, staticTrees, costs } = this.facts;
    if (accuracies.length === 0) {
      throw new ModelError(
        'These heads carry no measured accuracies, from which the static tree is searched. ' +
          'Give the tree yourself with --tree-file, or use --tree dynamic.',
      );
    }
    const search = (size: number): StaticTree => {
      const limits = { nodes: size, depth: headsUsed };
      return staticTrees?.shape(limits, topM) ?? searchStaticTree(accuracies, limits, topM);
    };
    return nodes === 'auto' ? bestTree(search, accuracies, new CostCurve(costs)) : search(nodes);
  }
}

function fromPaths(paths: unknown, heads: number, topM: number): StaticTree {
  try {
    return staticTreeFromPaths(paths, { heads, topM });
  } catch (error) {
    if (error instanceof TreeFormatError)
      throw new UsageError(`The static tree: ${error.message}`, { cause: error });
    throw error;
  }
}

/** The static tree that promises the most tokens per millisecond. */
function bestTree(
  search: (size: number) => StaticTree,
  accuracies: readonly (readonly number[])[],
  costs: CostCurve,
): StaticTree {
  const rate = (shape: StaticTree): number => expectedTokens(shape, accuracies) / costs.at(shape.size);
  let best = search(2);
  for (let size = 3; size <= mostAutoNodes; size++) {
    const shape = search(size);
    if (rate(shape) > rate(best)) best = shape;
  }
  return best;
}

/** Tokens a step adds on average when each rank is right as often as it was on the calibration data. */
function expectedTokens(shape: StaticTree, accuracies: readonly (readonly number[])[]): number {
  const probabilities = [1];
  for (let row = 1; row < shape.size; row++) {
    const rate = accuracies[shape.depths[row] - 1][shape.ranks[row]] ?? 0;
    probabilities.push(probabilities[shape.parents[row]] * rate);
  }
  return probabilities.reduce((sum, probability) => sum + probability, 0);
}
