import { BestFirstSearch } from './bestFirst.js';

/**
 * The most probable prefixes of independent candidates: the probability of a path is the product of its candidates'
 * marginals (MEDUSA-Plus).
 */
export class ProductSearch extends BestFirstSearch {
  protected offerFirst(node: number): boolean {
    return this.depths[node] < this.candidates.heads && this.offer(node, 0);
  }

  protected offerNext(node: number): boolean {
    return this.offer(node, this.offeredRank[node] + 1);
  }

  private offer(node: number, rank: number): boolean {
    if (rank >= this.candidates.width) return false;
    this.offeredRank[node] = rank;
    this.offered[node] = this.probabilities[node] * this.candidates.marginal(this.depths[node], rank);
    return true;
  }
}
