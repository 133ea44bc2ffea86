import { BestFirstSearch } from './bestFirst.js';
import type { CandidateTree, HeadProposals, TreeLimits } from './types.js';

/**
 * Which probabilities rank the candidates. `full`: the heads' softmax over their whole vocabulary. `top-m`:
 * renormalised over the top m of each head, as MEDUSA-Plus does, which overrates uncertain heads.
 */
export type Marginals = 'full' | 'top-m';

export interface TreeSearchOptions extends TreeLimits {
  readonly marginals?: Marginals;
  /** [levels] factors on the heads' marginals, learnt from what was accepted; results are capped at 1. */
  readonly correction?: ArrayLike<number>;
}

/**
 * Builds dynamic candidate trees (MEDUSA-Plus): of all products of the heads' marginals, the most probable prefixes.
 * A workspace to be reused for every step; the trees it returns are the caller's.
 */
export class CandidateTreeBuilder {
  private readonly search = new BestFirstSearch();
  private levels = new Float32Array(0);
  private rows = new Int32Array(0);
  private proposals: HeadProposals | undefined;

  /**
   * Searches the `nodes` most probable nodes. `probabilities` then has them in descending order, from which the caller
   * may choose how many to `take`.
   *
   * @returns the number of nodes found, root included
   * @throws RangeError when a probability is NaN, negative or larger than its predecessor's
   */
  find(proposals: HeadProposals, options: TreeSearchOptions): number {
    const levels = Math.max(0, Math.min(proposals.heads, options.depth, options.nodes - 1));
    // A node of rank r has r likelier siblings, so ranks from nodes - 1 on can never enter.
    const width = Math.min(proposals.topM, Math.max(1, options.nodes - 1));
    if (this.levels.length < levels * width) this.levels = new Float32Array(levels * width);
    if (this.rows.length < options.nodes) this.rows = new Int32Array(options.nodes);
    for (let level = 0; level < levels; level++) this.loadLevel(proposals, level, width, options);
    this.proposals = proposals;
    return this.search.run(this.levels, levels, width, options.nodes);
  }

  /** [found] path probabilities of the last search, root (1) first, descending. Valid until the next `find`. */
  get probabilities(): Float32Array {
    return this.search.probabilities;
  }

  /** The tree of the `size` most probable nodes of the last search, in flat-index order. */
  take(root: number, size: number): CandidateTree {
    const { search, rows, proposals } = this;
    if (!proposals || size > search.count)
      throw new RangeError(`No ${size} nodes were found; call find first.`);
    const tree = allocateTree(size);
    search.arrange(size, rows, tree.parents);
    tree.tokens[0] = root;
    for (let row = 0; row < size; row++) {
      const node = rows[row];
      const depth = (tree.depths[row] = search.depths[node]);
      const rank = (tree.ranks[row] = search.ranks[node]);
      tree.probabilities[row] = search.probabilities[node];
      if (row > 0) tree.tokens[row] = proposals.ids[(depth - 1) * proposals.topM + rank];
    }
    return tree;
  }

  /** Copies one head's marginals, checked, renormalised and corrected as asked. */
  private loadLevel(
    proposals: HeadProposals,
    level: number,
    width: number,
    options: TreeSearchOptions,
  ): void {
    const { probabilities, topM } = proposals;
    const from = level * topM;
    const total = options.marginals === 'top-m' ? sum(probabilities, from, topM) : 1;
    const factor = (options.correction?.[level] ?? 1) / (total || 1);
    let previous = 1;
    for (let rank = 0; rank < width; rank++) {
      const value = probabilities[from + rank];
      // Written so that NaN fails too. The slack is the rounding of a softmax computed in float16.
      if (!(value >= 0 && value <= previous * 1.001)) throw unsorted(level, rank, value, previous);
      if (value < previous) previous = value;
      const marginal = previous * factor;
      this.levels[level * width + rank] = marginal < 1 ? marginal : 1;
    }
  }
}

/**
 * Builds one dynamic tree. Step after step, a `CandidateTreeBuilder` does the same without allocating its workspace.
 */
export function buildTree(root: number, proposals: HeadProposals, options: TreeSearchOptions): CandidateTree {
  const builder = new CandidateTreeBuilder();
  return builder.take(root, builder.find(proposals, options));
}

/** The tree of plain decoding: the root alone. */
export function rootTree(root: number): CandidateTree {
  const tree = allocateTree(1);
  tree.tokens[0] = root;
  tree.parents[0] = tree.ranks[0] = -1;
  tree.probabilities[0] = 1;
  return tree;
}

/** An empty tree of `size` nodes in one allocation. */
export function allocateTree(size: number): CandidateTree {
  const buffer = new ArrayBuffer(20 * size);
  return {
    size,
    tokens: new Int32Array(buffer, 0, size),
    parents: new Int32Array(buffer, 4 * size, size),
    depths: new Int32Array(buffer, 8 * size, size),
    ranks: new Int32Array(buffer, 12 * size, size),
    probabilities: new Float32Array(buffer, 16 * size, size),
  };
}

/** The row of the child of `row` with token `token`, or -1. Children follow their parents, so the search starts there. */
export function findChild(tree: CandidateTree, row: number, token: number): number {
  const { parents, tokens, size } = tree;
  for (let child = row + 1; child < size; child++) {
    if (tokens[child] === token && parents[child] === row) return child;
  }
  return -1;
}

/** The rows from the root to `row`, root first. */
export function pathTo(tree: CandidateTree, row: number): number[] {
  const rows = [];
  for (let at = row; at !== -1; at = tree.parents[at]) rows.push(at);
  return rows.reverse();
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
