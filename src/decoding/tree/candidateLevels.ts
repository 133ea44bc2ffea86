import type { HeadProposals } from '../types.js';

/**
 * Which probabilities rank the candidates. `full`: the heads' softmax over their whole vocabulary. `top-m`:
 * renormalised over the top m of each head, as MEDUSA-Plus does, which overrates uncertain heads.
 */
export type Marginals = 'full' | 'top-m';

export interface LevelOptions {
  readonly marginals?: Marginals;
  /** [levels] factors on the heads' marginals, learnt from what was accepted; results are capped at 1. */
  readonly correction?: ArrayLike<number>;
}

const nothing: HeadProposals = {
  heads: 0,
  topM: 0,
  ids: new Int32Array(0),
  probabilities: new Float32Array(0),
};

/** One step's candidates, checked, as the searches read them. A workspace to be loaded for each step. */
export class CandidateLevels {
  /** Heads that take part, one for each level of the tree. */
  levels = 0;
  /** Candidates taken from each of them. */
  width = 0;
  proposals = nothing;
  /** [levels, width] the heads' own probabilities, descending along each level, at most 1. */
  probabilities: Float32Array = new Float32Array(0);
  /** [levels] what they are to be multiplied by: the correction, over the list's sum where that is to be 1. */
  factors: Float64Array = new Float64Array(0);
  isRenormalised = false;

  /** @throws RangeError when a probability is NaN, negative or larger than its predecessor's */
  load(proposals: HeadProposals, levels: number, width: number, options: LevelOptions): void {
    this.levels = levels;
    this.width = width;
    this.proposals = proposals;
    this.isRenormalised = options.marginals === 'top-m';
    if (this.probabilities.length < levels * width) this.probabilities = new Float32Array(levels * width);
    if (this.factors.length < levels) this.factors = new Float64Array(levels);
    for (let level = 0; level < levels; level++) this.loadLevel(level, options.correction?.[level] ?? 1);
  }

  /** The token of the candidate of `rank` at `level`. */
  token(level: number, rank: number): number {
    return this.proposals.ids[level * this.proposals.topM + rank];
  }

  private loadLevel(level: number, correction: number): void {
    const { width } = this;
    const { probabilities, topM } = this.proposals;
    const from = level * topM;
    const total = this.isRenormalised ? sum(probabilities, from, topM) : 1;
    this.factors[level] = correction / (total || 1);
    let previous = 1;
    for (let rank = 0; rank < width; rank++) {
      const value = probabilities[from + rank];
      // Written so that NaN fails too. The slack is the rounding of a softmax computed in float16.
      if (!(value >= 0 && value <= previous * 1.001)) throw unsorted(level, rank, value, previous);
      if (value < previous) previous = value;
      this.probabilities[level * width + rank] = previous;
    }
  }
}

function sum(values: Float32Array, from: number, count: number): number {
  let total = 0;
  for (let i = from; i < from + count; i++) total += values[i];
  return total;
}

function unsorted(level: number, rank: number, value: number, previous: number): RangeError {
  return new RangeError(
    `Head ${level} gave probability ${value} at rank ${rank}; it must lie between 0 and ${previous}, ` +
      'the probability of the rank before. The heads do not compute a sorted softmax: export them again.',
  );
}
