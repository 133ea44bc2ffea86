import { BestFirstSearch } from './bestFirst.js';

/**
 * The most probable prefixes of independent candidates: the probability of a path is the product of its candidates'
 * marginals (MEDUSA-Plus).
 */
export class ProductSearch extends BestFirstSearch {
  private marginals: Float32Array = new Float32Array(0);
  private heads = 0;
  private width = 0;

  /**
   * Pops the root and then the `nodes - 1` most probable paths, or all there are.
   *
   * @param marginals [heads, width] probabilities, descending along each list, in [0, 1]
   * @param least [nodes] ends the search early; see `popNodes`
   * @returns the number of popped nodes, root included
   */
  run(
    marginals: Float32Array,
    heads: number,
    width: number,
    nodes: number,
    least?: ArrayLike<number>,
  ): number {
    this.marginals = marginals;
    this.heads = width === 0 ? 0 : heads;
    this.width = width;
    this.reserve(nodes);
    return this.popNodes(nodes, least);
  }

  protected offerFirst(node: number): boolean {
    const head = this.depths[node];
    if (head >= this.heads) return false;
    this.offeredRank[node] = 0;
    this.offered[node] = this.probabilities[node] * this.marginals[head * this.width];
    return true;
  }

  protected offerNext(node: number): boolean {
    const rank = this.offeredRank[node] + 1;
    if (rank >= this.width) return false;
    this.offeredRank[node] = rank;
    this.offered[node] = this.probabilities[node] * this.marginals[this.depths[node] * this.width + rank];
    return true;
  }
}
