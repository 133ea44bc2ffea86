import type { HeadProposals } from '../types.js';

/**
 * Which probabilities rank the candidates. `full`: the heads' softmax over the whole draft vocabulary. `top-m`:
 * renormalised over the top m of each head, as MEDUSA-Plus does, which overrates uncertain heads.
 */
export type Marginals = 'full' | 'top-m';

export interface MarginalOptions {
  readonly marginals?: Marginals;
  /** [heads] factors on the heads' marginals, learnt from what was accepted; results are capped at 1. */
  readonly correction?: ArrayLike<number>;
}

const nothing: HeadProposals = {
  heads: 0,
  topM: 0,
  ids: new Int32Array(0),
  probabilities: new Float32Array(0),
};

/** The lists of one step's heads, checked, as the searches read them. A workspace to be loaded for each step. */
export class HeadCandidates {
  /** Heads that take part, one for each depth of the tree. */
  heads = 0;
  /** Candidates taken from each of them. */
  width = 0;
  proposals = nothing;
  /** [heads, width] the heads' own probabilities, descending along each list, at most 1. */
  probabilities: Float32Array = new Float32Array(0);
  /** [heads] what they are to be multiplied by: the correction, over the list's sum where that is to be 1. */
  factors: Float64Array = new Float64Array(0);
  isRenormalised = false;

  /** @throws RangeError when a probability is NaN, negative or larger than its predecessor's */
  load(proposals: HeadProposals, heads: number, width: number, options: MarginalOptions): void {
    this.heads = heads;
    this.width = width;
    this.proposals = proposals;
    this.isRenormalised = options.marginals === 'top-m';
    if (this.probabilities.length < heads * width) this.probabilities = new Float32Array(heads * width);
    if (this.factors.length < heads) this.factors = new Float64Array(heads);
    for (let head = 0; head < heads; head++) this.loadHead(head, options.correction?.[head] ?? 1);
  }

  /** A head's own probability for its candidate of `rank`, with its factor, at most 1; a float32. */
  marginal(head: number, rank: number): number {
    const marginal = this.probabilities[head * this.width + rank] * this.factors[head];
    return marginal < 1 ? Math.fround(marginal) : 1;
  }

  /** The token of the candidate of `rank` in the list of `head`. */
  token(head: number, rank: number): number {
    return this.proposals.ids[head * this.proposals.topM + rank];
  }

  private loadHead(head: number, correction: number): void {
    const { width } = this;
    const { probabilities, topM } = this.proposals;
    const from = head * topM;
    const total = this.isRenormalised ? sum(probabilities, from, topM) : 1;
    this.factors[head] = correction / (total || 1);
    let previous = 1;
    for (let rank = 0; rank < width; rank++) {
      const value = probabilities[from + rank];
      // Written so that NaN fails too. The slack is the rounding of a softmax computed in float16.
      if (!(value >= 0 && value <= previous * 1.001)) throw unsorted(head, rank, value, previous);
      if (value < previous) previous = value;
      this.probabilities[head * width + rank] = previous;
    }
  }
}

function sum(values: Float32Array, from: number, count: number): number {
  let total = 0;
  for (let i = from; i < from + count; i++) total += values[i];
  return total;
}

function unsorted(head: number, rank: number, value: number, previous: number): RangeError {
  return new RangeError(
    `Head ${head} gave probability ${value} at rank ${rank}; it must lie between 0 and ${previous}, ` +
      'the probability of the rank before. The heads do not compute a sorted softmax: export them again.',
  );
}
