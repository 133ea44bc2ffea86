import type { CandidateTree } from '../types.js';

/** Milliseconds that a step of so many nodes takes where the text is now. */
export type StepTime = (nodes: number) => number;

/**
 * The number of nodes that is worth its time.
 *
 * A tree of the n most probable nodes adds 1 + p_2 + ... + p_n tokens on average and costs T(n). The tokens per
 * millisecond of a whole generation are largest when each step maximises `tokens - rate * time`, where `rate` is what
 * the generation achieves in tokens per millisecond: a node enters when its probability beats what the same time
 * yields elsewhere. (Maximising (1 + sum p) / T(n) step by step, as Sequoia does for its one fixed tree, would take too
 * many nodes where the heads are unsure and too few where they are sure.) T is not convex, as kernels work in blocks
 * of rows, so every n is tried.
 *
 * @param probabilities [count] path probabilities in descending order, root (1) first
 */
export function bestTreeSize(
  probabilities: ArrayLike<number>,
  count: number,
  timeOf: StepTime,
  rate: number,
): number {
  let best = 1;
  let bestGain = -Infinity;
  let tokens = 0;
  for (let nodes = 1; nodes <= count; nodes++) {
    tokens += probabilities[nodes - 1];
    const gain = tokens - rate * timeOf(nodes);
    if (gain > bestGain) {
      best = nodes;
      bestGain = gain;
    }
  }
  return best;
}

/**
 * How probable the next node must be for a larger tree to be worth looking for: a search that stops where it is less
 * finds the best size all the same. With p_{n+1} < rate * (T(n') - T(n)) / (n' - n) for every n' > n, no tree of n'
 * nodes can gain on that of n, as the probabilities descend.
 *
 * @param into [nodes] receives, at n - 1, what node n + 1 must have
 */
export function leastProbabilities(
  nodes: number,
  timeOf: StepTime,
  rate: number,
  into: Float64Array,
): Float64Array {
  const times = into; // a time is read for the last time before its place is written
  for (let n = 1; n <= nodes; n++) times[n - 1] = timeOf(n);
  for (let n = 1; n <= nodes; n++) {
    let slope = Infinity;
    for (let larger = n + 1; larger <= nodes; larger++) {
      slope = Math.min(slope, (times[larger - 1] - times[n - 1]) / (larger - n));
    }
    into[n - 1] = rate * slope;
  }
  return into;
}

/**
 * Tokens per millisecond over the recent steps, beginning with the rate of plain decoding.
 */
export class RecentRate {
  private tokens = 0;
  private time = 0;

  /** @param plainTime milliseconds of a plain step now */
  value(plainTime: number): number {
    return (ratePrior + this.tokens) / (ratePrior * plainTime + this.time);
  }

  observe(tokens: number, time: number): void {
    this.tokens = rateMemory * this.tokens + tokens;
    this.time = rateMemory * this.time + time;
  }
}

/** Plain steps that the rate starts from; what a step's weight is multiplied by with each later step. */
const ratePrior = 2;
const rateMemory = 0.98;

/**
 * Learns by how much each head over- or underrates its candidates after an accepted parent: accepted children
 * against the probability mass of the children on offer, as decayed sums. Overconfident heads would otherwise fill
 * trees with nodes that cost time, and products of independent marginals are off even where each head is honest.
 */
export class Calibration {
  /** [heads] factors on the heads' marginals. */
  readonly factors: Float64Array;
  private readonly offered: Float64Array;
  private readonly accepted: Float64Array;

  constructor(heads: number) {
    this.factors = new Float64Array(heads).fill(1);
    // Without heads the first depth still tells how far what was promised can be believed.
    this.offered = new Float64Array(Math.max(1, heads));
    this.accepted = new Float64Array(Math.max(1, heads));
  }

  /** How far the corrected probabilities can be believed, from 0 (not yet checked) towards 1. */
  get trust(): number {
    return this.offered[0] / (this.offered[0] + halfTrust);
  }

  /**
   * @param tree a verified tree, its probabilities corrected by `factors`
   * @param rows its accepted rows, root first
   */
  observe(tree: CandidateTree, rows: readonly number[]): void {
    rows.forEach((row, depth) => {
      const mass = offeredMass(tree, row);
      if (!(mass > 0) || depth >= this.offered.length) return;
      this.offered[depth] = calibrationMemory * this.offered[depth] + mass / (this.factors[depth] ?? 1);
      this.accepted[depth] = calibrationMemory * this.accepted[depth] + (depth + 1 < rows.length ? 1 : 0);
      if (depth >= this.factors.length) return;
      const factor = (this.accepted[depth] + calibrationPrior) / (this.offered[depth] + calibrationPrior);
      this.factors[depth] = Math.max(leastFactor, Math.min(mostFactor, factor));
    });
  }
}

/** Accepted and offered nodes that the factors start from: a handful of steps must not overrule the heads. */
const calibrationPrior = 3;
const calibrationMemory = 0.98;
/** Probability mass, seen at the first head, that earns half the trust. */
const halfTrust = 10;
const leastFactor = 0.05;
const mostFactor = 2;

/** The probability, given `row`, that the tree assigns to the children of `row` together. */
function offeredMass(tree: CandidateTree, row: number): number {
  let mass = 0;
  for (let child = row + 1; child < tree.size; child++) {
    if (tree.parents[child] === row) mass += tree.probabilities[child];
  }
  return mass / tree.probabilities[row];
}

/**
 * Decides whether to speculate at all, so that hopeless heads cost next to nothing.
 *
 * An account in units of plain steps: a speculative step pays in the tokens it added and draws the plain steps that
 * its time would have bought. Overdrawn, decoding turns plain and earns a small allowance with each step, until it can
 * pay for another try. Each failed try halves the allowance, so the pauses grow; success restores it. The loss
 * against plain decoding is thus at most the first credit and a share of the time that soon falls below 1%.
 *
 * What a plain step takes is not seen while every step speculates. On a machine that has become slower the trees then
 * look dearer than they are, and the account is overdrawn without cause. So plain steps, once they are taken, price the
 * last speculative ones again, and the account opens at once where it should not have been closed.
 */
export class SpeculationAccount {
  /** Whether the next step should speculate. */
  open = true;
  /** Whether it would be the first try after a pause. */
  probing = false;
  private balance = firstCredit;
  private allowance = largestAllowance;
  /** The allowance before the account was closed. */
  private earlierAllowance = largestAllowance;
  /** The last speculative steps: what they earned, their milliseconds, and the plain steps they were taken for. */
  private recent: { readonly tokens: number; readonly time: number; readonly cost: number }[] = [];

  /**
   * @param time the step's milliseconds
   * @param plainTime those of a plain step, as far as it is known
   */
  speculated(tokens: number, time: number, plainTime: number): void {
    const cost = time / plainTime;
    this.recent.push({ tokens, time, cost });
    if (this.recent.length > pricedAgain) this.recent.shift();
    this.probing = false;
    this.balance = Math.min(largestBalance, this.balance + tokens - cost);
    if (this.balance >= firstCredit) this.allowance = largestAllowance;
    if (this.balance >= 0) return;
    this.open = false;
    this.balance = Math.max(this.balance, -largestDebt);
    this.earlierAllowance = this.allowance;
    this.allowance = Math.max(leastAllowance, this.allowance / 2);
  }

  decodedPlainly(plainTime: number): void {
    if (this.open) return;
    this.balance += this.allowance;
    this.open = this.probing = this.balance >= probeCredit;
    if (this.open) return;
    let [gain, overcharged] = [0, 0];
    for (const { tokens, time, cost } of this.recent) {
      gain += tokens - time / plainTime;
      overcharged += cost - time / plainTime;
    }
    if (gain < 0 || this.balance + overcharged < probeCredit) return;
    this.open = true;
    this.balance = Math.min(firstCredit, this.balance + overcharged);
    this.allowance = this.earlierAllowance;
    this.recent = [];
  }
}

const firstCredit = 3;
const largestBalance = 8;
/** Beyond this a debt is forgiven: one very long step must not close the account for good. */
const largestDebt = 1;
const probeCredit = 0.5;
const largestAllowance = 0.02;
const leastAllowance = 0.0025;
/** Speculative steps that plain ones price again. */
const pricedAgain = 16;
