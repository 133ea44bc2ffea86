/**
 * Candidate trees. The base model has chosen the token A: the root. Head 0 guesses that B (60%) or C (30%) follows, head 1
 * that D (50%) or E (20%) follows that. The five most probable of the seven paths are these, each the product of its
 * candidates' probabilities. Rows are in flat-index order: by depth, then by the ranks along the path.
 *
 *     A           100%        row  token  parent  depth  rank  position  sees the cache and rows  0 1 2 3 4
 *     |- B         60%         0     A      -1      0     -1   past                               1 . . . .
 *     |  `- D      30%         1     B       0      1      0   past + 1                           1 1 . . .
 *     `- C         30%         2     C       0      1      1   past + 1                           1 . 1 . .
 *        `- D      15%         3     D       1      2      0   past + 2                           1 1 . 1 .
 *     (left out: BE, CE)       4     D       2      2      0   past + 2                           1 . 1 . 1
 *
 * D stands in the tree twice, after B and after C: the same guess in two futures, which do not see each other. One run gives
 * the base model's own next token after every row, and acceptance follows it from the root:
 *
 *     after row         0  1  2  3  4
 *     it chooses        B  D  E  F  G     rows 0, 1, 3 are kept; B and D were guessed, F is the bonus: 3 tokens
 *     it chooses        H  D  E  F  G     row 0 is kept; H is the bonus: 1 token, as without a tree
 */
import type { BestFirstSearch } from './bestFirst.js';
import { HeadCandidates, type MarginalOptions } from './headCandidates.js';
import { ConditionalSearch } from './conditionalSearch.js';
import { scoreless, type ConditionalTable } from './conditionalTable.js';
import type { DraftSources } from '../draft/draftSources.js';
import { ProductSearch } from './productSearch.js';
import { chainParents } from './treeMask.js';
import type { CandidateTree, HeadProposals, TreeLimits } from '../types.js';

export type { Marginals } from './headCandidates.js';

export interface TreeSearchOptions extends TreeLimits, MarginalOptions {
  /** Largest depth of candidates from other sources than heads; default: `depth`. */
  readonly sourceDepth?: number;
  /** The text so far, the root last: where the other sources go on from. */
  readonly text?: readonly number[];
  /** [nodes] the search ends after n nodes where the next one is less probable than `least[n - 1]`; default: never. */
  readonly least?: ArrayLike<number>;
}

/**
 * Builds dynamic candidate trees, such as the one above: the most probable prefixes of all combinations of the heads'
 * candidates, where a combination's probability is the product of the heads' marginals (MEDUSA-Plus), or, given a
 * `ConditionalTable`, of probabilities that depend on the candidates before (`ConditionalSearch`). `DraftSources` add
 * candidates of their own, and change the odds of the heads'.
 *
 * A workspace to be reused for every step; the trees it returns are the caller's.
 */
export class CandidateTreeBuilder {
  private readonly search: BestFirstSearch;
  private readonly candidates = new HeadCandidates();
  private rows = new Int32Array(0);

  constructor(
    table?: ConditionalTable,
    private readonly sources?: DraftSources,
  ) {
    const isProduct = table === undefined && sources === undefined;
    this.search = isProduct ? new ProductSearch() : new ConditionalSearch(table ?? scoreless, sources);
  }

  /**
   * Searches the `nodes` most probable nodes. `probabilities` then has them in descending order, from which the caller
   * may choose how many to `take`.
   *
   * @param root the root's token
   * @returns the number of nodes found, root included
   * @throws RangeError when a probability is NaN, negative or larger than its predecessor's, or when the table needs
   *   hidden terms that the proposals lack, or when the text that a lookup searches does not end with the root
   */
  find(root: number, proposals: HeadProposals | undefined, options: TreeSearchOptions): number {
    const { search, candidates } = this;
    const { nodes, least } = options;
    const given = proposals ?? noProposals;
    const heads = Math.max(0, Math.min(given.heads, options.depth, nodes - 1));
    if (this.rows.length < nodes) this.rows = new Int32Array(nodes);
    // A node of rank r has r likelier siblings, so ranks from nodes - 1 on can never enter. A conditional search needs whole
    // lists all the same: it normalises over them.
    const width = search instanceof ProductSearch ? Math.min(given.topM, Math.max(1, nodes - 1)) : given.topM;
    candidates.load(given, heads, width, options);
    return search.run(root, candidates, nodes, this.look(root, options), least);
  }

  /** [found] path probabilities of the last search, root (1) first, descending. Valid until the next `find`. */
  get probabilities(): Float32Array {
    return this.search.probabilities;
  }

  /** The tree of the `size` most probable nodes of the last search, in flat-index order. */
  take(size: number): CandidateTree {
    const { search, rows } = this;
    if (size > search.count) throw new RangeError(`No ${size} nodes were found; call find first.`);
    const tree = allocateTree(size);
    search.arrange(size, rows, tree.parents);
    for (let row = 0; row < size; row++) {
      const node = rows[row];
      tree.tokens[row] = search.token(node);
      tree.depths[row] = search.depths[node];
      tree.ranks[row] = search.isSourced(node) ? -1 : search.ranks[node];
      tree.probabilities[row] = search.probabilities[node];
    }
    return tree;
  }

  /**
   * Has the other sources learn from an accepted path of the tree that was taken last.
   *
   * @param rows the accepted rows, root first
   * @param bonus the token after the last of them
   */
  learn(rows: readonly number[], bonus: number): void {
    const { search } = this;
    if (!(search instanceof ConditionalSearch)) return;
    rows.forEach((row, depth) => {
      const next = rows.at(depth + 1);
      search.learn(this.rows[row], next === undefined ? bonus : search.token(this.rows[next]));
    });
  }

  /** Has the other sources know the text. Returns how deep their candidates may lie. */
  private look(root: number, { nodes, depth, sourceDepth, text }: TreeSearchOptions): number {
    if (this.sources === undefined) return 0;
    if (text?.at(-1) !== root)
      throw new RangeError(`The text must end with the root ${root}, not with ${text?.at(-1)}.`);
    this.sources.begin(text, nodes);
    return Math.min(sourceDepth ?? depth, deepestSourced, nodes - 1);
  }
}

/** Depth of the deepest node that another source than a head may add: a step emits at most one token more. */
export const deepestSourced = 16;

const noProposals: HeadProposals = {
  heads: 0,
  topM: 0,
  ids: new Int32Array(0),
  probabilities: new Float32Array(0),
};

/**
 * Builds one dynamic tree. Step after step, a `CandidateTreeBuilder` does the same without allocating its workspace.
 */
export function buildTree(
  root: number,
  proposals: HeadProposals | undefined,
  options: TreeSearchOptions,
  table?: ConditionalTable,
  sources?: DraftSources,
): CandidateTree {
  const builder = new CandidateTreeBuilder(table, sources);
  return builder.take(builder.find(root, proposals, options));
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

/** A tree of one path: a text as the rows of one run. */
export function chainTree(tokens: ArrayLike<number>): CandidateTree {
  const size = tokens.length;
  return {
    size,
    tokens: Int32Array.from(tokens),
    parents: chainParents(size),
    depths: Int32Array.from({ length: size }, (_, row) => row),
    ranks: new Int32Array(size),
    probabilities: new Float32Array(size).fill(1),
  };
}

/** The rows from the root to `row`, root first. */
export function pathTo(tree: CandidateTree, row: number): number[] {
  const rows = [];
  for (let at = row; at !== -1; at = tree.parents[at]) rows.push(at);
  return rows.reverse();
}
