import {
  CandidateTreeBuilder,
  rootTree,
  type Marginals,
  type TreeSearchOptions,
} from '../tree/candidateTree.js';
import type { ConditionalTable } from '../tree/conditionalTable.js';
import type { DraftSources } from '../draft/draftSources.js';
import { CostCurve, measuredPast, type CostPoint } from './costCurve.js';
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
  /** How many heads take part: the largest depth, but for other sources; none only where there are `sources`. */
  readonly heads: number;
  /** Candidates taken from each head; >= 1. Not read without heads. */
  readonly topM: number;
  readonly marginals?: Marginals;
  /** A learnt correction of the joint probability; without it the marginals are multiplied (MEDUSA-Plus). */
  readonly conditional?: ConditionalTable;
  /** Sources beside the heads. */
  readonly sources?: DraftSources;
}

/** The `nodes` most probable nodes of each step's proposals (MEDUSA-Plus). */
export function dynamicTree(options: DynamicTreeOptions): TreePolicy {
  checkOptions(options);
  const drafter = new Drafter(options);
  return {
    name: 'dynamic',
    wantedTopM: (limits = unlimited) => drafter.wantedTopM(limits),
    build: (root, proposals, limits = unlimited, text = undefined) =>
      drafter.canDraft(proposals, limits)
        ? drafter.take(drafter.find(root, proposals, limits, { text }))
        : drafter.plain(root),
    observe: (step) => drafter.learn(step),
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
  private readonly drafter: Drafter;
  private readonly account = new SpeculationAccount();
  /** In times of steps behind `measuredPast` positions, so that it holds for a text of another length too. */
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
  /** Whether the last tree was drafted, if only to be found too small. */
  private isSpeculative = false;

  constructor(private readonly options: AutoTreeOptions) {
    checkOptions(options);
    this.drafter = new Drafter(options);
    this.costs = new CostCurve(options.costs);
    this.calibration = new Calibration(options.heads);
    this.least = new Float64Array(options.nodes);
  }

  wantedTopM(limits = unlimited): number {
    return this.account.open ? this.drafter.wantedTopM(limits) : 0;
  }

  build(
    root: number,
    proposals: HeadProposals | undefined,
    limits = unlimited,
    text?: readonly number[],
  ): CandidateTree {
    this.isSpeculative = this.account.open && this.drafter.canDraft(proposals, limits);
    return this.isSpeculative ? this.speculate(root, proposals, limits, text) : this.drafter.plain(root);
  }

  /** The consumer's time, `rest`, is left out: it comes with each token, however that was found. */
  observe(step: StepObservation): void {
    const { costs, account } = this;
    const { tree, rows, times } = step;
    const past = pastOf(step.text);
    // A stall of the machine says nothing about the tree. Lasting slowness gets into the curve, and so into the cap.
    const backbone = Math.min(times.backbone, longestStep * costs.at(tree.size, past));
    costs.observe(tree.size, times.backbone, past);
    this.overhead += 0.1 * (times.accept + times.keep - this.overhead);
    const draft = this.isSpeculative ? this.draftTime(times.heads + times.tree) : 0;
    const besides = draft + times.accept + times.keep;
    const plainTime = this.plainTime(past);
    this.rate.observe(rows.length, (besides + backbone) / costs.stretch(past));
    this.drafter.learn(step);
    if (this.isSpeculative) {
      this.calibration.observe(tree, rows);
      // The run counts for what such a run is now believed to take: plain steps would have been as slow in a slow moment.
      const time = besides + costs.at(tree.size, past);
      account.speculated(this.earnedTokens(tree, rows.length), time, plainTime);
    } else {
      account.decodedPlainly(plainTime);
    }
  }

  private speculate(
    root: number,
    proposals: HeadProposals | undefined,
    limits: TreeLimits,
    text?: readonly number[],
  ): CandidateTree {
    const { drafter, costs, account } = this;
    const past = pastOf(text);
    const timeOf = (nodes: number): number => costs.at(nodes, past);
    const stretch = costs.stretch(past);
    const rate = this.rate.value(this.plainTime(past) / stretch) / stretch;
    const least = leastProbabilities(within(this.options, limits).nodes, timeOf, rate, this.least);
    // A try that verifies nothing would learn nothing.
    if (account.probing) least[0] = 0;
    const correction = this.calibration.factors;
    const found = drafter.find(root, proposals, limits, { text, correction, least });
    const best = bestTreeSize(drafter.probabilities, found, timeOf, rate);
    return drafter.take(account.probing ? Math.min(found, Math.max(best, 2)) : best);
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

  private plainTime(past: number): number {
    return this.costs.at(1, past) + this.overhead;
  }
}

/** Positions cached when `text` has been read up to its root; as measured when it is not known. */
const pastOf = (text: readonly number[] | undefined): number => (text ? text.length - 1 : measuredPast);

/** How many times its expected duration a backbone run counts for at most, and a draft how many times the quickest one. */
const longestStep = 3;
/** Drafts that are not counted. */
const coldDrafts = 4;

/** Drafts trees from the sources of the options, and has those learn. */
class Drafter {
  private readonly builder: CandidateTreeBuilder;
  /** Whether the last tree came from `take`. */
  private isTaken = false;

  constructor(private readonly options: DynamicTreeOptions) {
    this.builder = new CandidateTreeBuilder(options.conditional, options.sources);
  }

  wantedTopM(limits: TreeLimits): number {
    const { heads, topM } = this.options;
    return heads > 0 && within(this.options, limits).nodes > 1 ? topM : 0;
  }

  /** Whether there is anything to draft from: proposals, or no heads that could have given some. */
  canDraft(proposals: HeadProposals | undefined, limits: TreeLimits): boolean {
    return (proposals !== undefined || this.options.heads === 0) && within(this.options, limits).nodes > 1;
  }

  find(
    root: number,
    proposals: HeadProposals | undefined,
    limits: TreeLimits,
    search: Pick<TreeSearchOptions, 'text' | 'correction' | 'least'>,
  ): number {
    return this.builder.find(root, proposals, { ...within(this.options, limits), ...search });
  }

  get probabilities(): Float32Array {
    return this.builder.probabilities;
  }

  take(size: number): CandidateTree {
    this.isTaken = true;
    return this.builder.take(size);
  }

  plain(root: number): CandidateTree {
    this.isTaken = false;
    return rootTree(root);
  }

  learn({ tree, rows, bonus, nextTokens, text }: StepObservation): void {
    const { sources } = this.options;
    if (!sources) return;
    if (this.isTaken) this.builder.learn(rows, bonus);
    sources.recycle(tree, text.at(-2) ?? -1, nextTokens, rows);
  }
}

/** The options of a search that respects the limits as well. */
function within(
  { nodes, heads, marginals }: DynamicTreeOptions,
  limits: TreeLimits,
): TreeLimits & { sourceDepth: number; marginals?: Marginals } {
  const most = limits.depth < 1 ? 1 : Math.min(nodes, limits.nodes);
  return { nodes: most, depth: Math.min(heads, limits.depth), sourceDepth: limits.depth, marginals };
}

function checkOptions({ nodes, heads, topM, sources }: DynamicTreeOptions): void {
  const wanted = heads === 0 && sources ? { nodes } : { nodes, heads, topM };
  for (const [name, value] of Object.entries(wanted)) {
    if (Number.isInteger(value) && value >= 1) continue;
    throw new RangeError(`${name} is ${value}; it must be a whole number from 1.`);
  }
}
