import { CandidateTreeBuilder, rootTree, type Marginals } from '../tree/candidateTree.js';
import type { ConditionalTable } from '../tree/conditionalTable.js';
import { PromptLookup, type LookupWeights } from '../tree/promptLookup.js';
import { CostCurve, type CostPoint } from './costCurve.js';
import { bestTreeSize, Calibration, leastProbabilities, RecentRate, SpeculationAccount } from './treeSize.js';
import { fillStaticTree, sizeWithin, type StaticTree } from '../tree/staticTree.js';
import type { CandidateTree, HeadProposals, StepObservation, TreeLimits, TreePolicy } from '../types.js';

const unlimited: TreeLimits = { nodes: Infinity, depth: Infinity };

/** Plain decoding. */
export function noTree(): TreePolicy {
  return { name: 'none', wantedTopM: () => 0, build: (root) => rootTree(root), observe: () => {} };
}

/** The same tree at each step (Medusa). */
export function staticTree(shape: StaticTree): TreePolicy {
  return {
    name: 'static',
    wantedTopM: (limits = unlimited) => (sizeWithin(shape, limits) > 1 ? shape.topM : 0),
    build: (root, proposals, limits = unlimited) =>
      proposals ? fillStaticTree(shape, root, proposals, limits) : rootTree(root),
    observe: () => {},
  };
}

export interface DynamicTreeOptions {
  /** Nodes of each tree, root included; >= 1. */
  readonly nodes: number;
  /** How many heads take part: the largest depth; >= 1. */
  readonly heads: number;
  /** Candidates taken from each head; >= 1. */
  readonly topM: number;
  readonly marginals?: Marginals;
  /** A learnt correction of the joint probability; without it the marginals are multiplied (MEDUSA-Plus). */
  readonly conditional?: ConditionalTable;
  /** Weights of the prompt lookup: how far trees trust repeats of the text so far. Without them nothing is looked up. */
  readonly lookup?: LookupWeights;
}

/** The `nodes` most probable nodes of each step's proposals (MEDUSA-Plus). */
export function dynamicTree(options: DynamicTreeOptions): TreePolicy {
  checkOptions(options);
  const builder = newBuilder(options);
  return {
    name: 'dynamic',
    wantedTopM: (limits = unlimited) => (within(options, limits).nodes > 1 ? options.topM : 0),
    build(root, proposals, limits = unlimited, text = undefined) {
      if (!proposals) return rootTree(root);
      return builder.take(builder.find(root, proposals, { ...within(options, limits), text }));
    },
    observe: () => {},
  };
}

export interface AutoTreeOptions extends DynamicTreeOptions {
  /** Most nodes of a tree, root included. */
  readonly nodes: number;
  /** The measured cost of verifying n nodes on this machine. */
  readonly costs: readonly CostPoint[];
}

/**
 * Dynamic trees whose size is chosen at each step from the proposals and the machine's cost curve, and no trees at all
 * where speculation does not pay. What it learns carries over to later generations: keep one for each model.
 */
export function autoTree(options: AutoTreeOptions): TreePolicy {
  return new AutoTreePolicy(options);
}

class AutoTreePolicy implements TreePolicy {
  readonly name = 'dynamic';
  private readonly builder: CandidateTreeBuilder;
  private readonly account = new SpeculationAccount();
  private readonly rate = new RecentRate();
  private readonly calibration: Calibration;
  private readonly costs: CostCurve;
  /** [nodes] see `leastProbabilities`. */
  private readonly least: Float64Array;
  /** Milliseconds of a step beside its backbone run, whatever its tree. */
  private overhead = 0;
  private drafts = 0;
  /** Milliseconds of the quickest heads run and search so far. */
  private quickestDraft = Infinity;
  /** The last tree, and whether the heads ran for it. */
  private built: { tree: CandidateTree; speculative: boolean } | undefined;

  constructor(private readonly options: AutoTreeOptions) {
    checkOptions(options);
    this.builder = newBuilder(options);
    this.costs = new CostCurve(options.costs);
    this.calibration = new Calibration(options.heads);
    this.least = new Float64Array(options.nodes);
  }

  wantedTopM(limits = unlimited): number {
    return this.account.open && within(this.options, limits).nodes > 1 ? this.options.topM : 0;
  }

  build(
    root: number,
    proposals: HeadProposals | undefined,
    limits = unlimited,
    text?: readonly number[],
  ): CandidateTree {
    const tree = proposals ? this.speculate(root, proposals, limits, text) : rootTree(root);
    this.built = { tree, speculative: proposals !== undefined };
    return tree;
  }

  /** The consumer's time, `rest`, is left out: it comes with each token, however that was found. */
  observe({ nodes, rows, acceptedTokens, times }: StepObservation): void {
    const { costs, account } = this;
    // A stall of the machine says nothing about the tree. Lasting slowness gets into the curve, and so into the cap.
    const backbone = Math.min(times.backbone, longestStep * costs.at(nodes));
    costs.observe(nodes, times.backbone);
    this.overhead += 0.1 * (times.accept + times.keep - this.overhead);
    if (!this.built) return;
    const draft = this.built.speculative ? this.draftTime(times.heads + times.tree) : 0;
    const besides = draft + times.accept + times.keep;
    this.rate.observe(acceptedTokens, besides + backbone);
    if (this.built.speculative) {
      this.calibration.observe(this.built.tree, rows);
      // The run counts for what such a run is now believed to take: plain steps would have been as slow in a slow moment.
      const time = besides + costs.at(nodes);
      account.speculated(this.earnedTokens(this.built.tree, acceptedTokens), time, this.plainTime);
    } else {
      account.decodedPlainly(this.plainTime);
    }
  }

  private speculate(
    root: number,
    proposals: HeadProposals,
    limits: TreeLimits,
    text?: readonly number[],
  ): CandidateTree {
    const { builder, costs, account } = this;
    const bounds = within(this.options, limits);
    const rate = this.rate.value(this.plainTime);
    const least = leastProbabilities(bounds.nodes, costs, rate, this.least);
    // A try that verifies nothing would learn nothing.
    if (account.probing) least[0] = 0;
    const correction = this.calibration.factors;
    const found = builder.find(root, proposals, { ...bounds, text, correction, least });
    const best = bestTreeSize(builder.probabilities, found, costs, rate);
    return builder.take(account.probing ? Math.min(found, Math.max(best, 2)) : best);
  }

  /**
   * What a draft counts for. The first ones compile the search and touch its tables for the first time, which may take
   * longer than three steps and says nothing about the later ones; those may be held up, like backbone runs.
   */
  private draftTime(measured: number): number {
    this.quickestDraft = Math.min(measured, this.quickestDraft);
    return ++this.drafts <= coldDrafts ? 0 : Math.min(measured, longestStep * this.quickestDraft);
  }

  /**
   * What a step earned, for the decision whether to go on: a mean of the tokens it happened to add and those that its
   * tree promised, which vary less, weighted by how well such promises were kept.
   */
  private earnedTokens(tree: CandidateTree, acceptedTokens: number): number {
    const promised = tree.probabilities.reduce((sum, probability) => sum + probability, 0);
    return acceptedTokens + this.calibration.trust * (promised - acceptedTokens);
  }

  private get plainTime(): number {
    return this.costs.at(1) + this.overhead;
  }
}

/** How many times its expected duration a backbone run counts for at most, and a draft how many times the quickest one. */
const longestStep = 3;
/** Drafts that are not counted. */
const coldDrafts = 4;

function newBuilder({ conditional, lookup }: DynamicTreeOptions): CandidateTreeBuilder {
  return new CandidateTreeBuilder(conditional, lookup && new PromptLookup(lookup));
}

/** The options of a search that respects the limits as well. */
function within(
  { nodes, heads, marginals }: DynamicTreeOptions,
  limits: TreeLimits,
): TreeLimits & { lookupDepth: number; marginals?: Marginals } {
  const most = limits.depth < 1 ? 1 : Math.min(nodes, limits.nodes);
  return { nodes: most, depth: Math.min(heads, limits.depth), lookupDepth: limits.depth, marginals };
}

function checkOptions({ nodes, heads, topM }: DynamicTreeOptions): void {
  for (const [name, value] of Object.entries({ nodes, heads, topM })) {
    if (Number.isInteger(value) && value >= 1) continue;
    throw new RangeError(`${name} is ${value}; it must be a whole number from 1.`);
  }
}
