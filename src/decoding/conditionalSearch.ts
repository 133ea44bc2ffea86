import { BestFirstSearch } from './bestFirst.js';
import { CandidateLevels } from './candidateLevels.js';
import type { ConditionalTable } from './conditionalTable.js';
import type { ContextLookup } from './contextLookup.js';

/**
 * The most probable prefixes when a candidate's probability depends on the candidates before it. With p_k the marginals
 * of head k and s the scores of a `ConditionalTable`, a child y of a node at depth k has
 *
 *     q(y) = p_k(y) e^s(y) / (sum over the top m of p_k(v) e^s(v) + what p_k leaves to tokens beyond them)
 *
 * (nothing is left with marginals `top-m`), times the level's correction factor, at most 1; scores beyond +-60 count as that.
 * All scores 0 give q = p: the tree of `ProductSearch`, to the bit.
 *
 * With a `ContextLookup`, the text so far has a say too: where the tokens before a candidate have stood in it already, with
 * c after them, the children are q'(y) = (1 - w) q(y) + w [y = c], w by depth and by the length of the match. c may be no
 * candidate of the heads, and beyond the heads it is the only one.
 *
 * The children of a node are scored when it is popped, at m dot products of length r, and offered one by one: the most
 * probable first, by rank among those of equal float32 path probability. Nodes keep their rank in the head's list; a copy that
 * is not in the list ranks after it.
 */
export class ConditionalSearch extends BestFirstSearch {
  private candidates = new CandidateLevels();
  private root = 0;
  /** Children a node may have: the candidates of a head, and a copy. */
  private slots = 0;
  /** `slots` rounded up to whole tiles. */
  private paddedWidth = 0;
  /** Depth of the deepest nodes. */
  private deepest = 0;
  /** [nodes] what each popped node copies when that is no candidate of the heads. */
  private copies = new Int32Array(0);
  /** [depth] tokens from a node up to the root's child. */
  private readonly path: number[] = [];
  /** [nodes, paddedWidth] path probabilities of each popped node's children; -1 for those offered already. */
  private children = new Float32Array(0);
  /** [r] the context vector of the node that is being scored. */
  private readonly context: Float64Array;
  /** [paddedWidth] scores, then weights p e^s, of the children of that node. */
  private weights = new Float64Array(0);
  /**
   * [levels, paddedWidth / tile, r, tile] the rows B[y] of each level's candidates, gathered when the level is first
   * reached: in float64 they need no conversion in the products, and tiles of rows read each context value once.
   */
  private outputs = new Float64Array(0);
  private gatheredLevels = 0;

  constructor(
    private readonly table: ConditionalTable,
    private readonly lookup?: ContextLookup,
  ) {
    super();
    this.context = new Float64Array(table.rank);
  }

  /**
   * Pops the root and then the `nodes - 1` most probable paths, or all there are.
   *
   * @param root the root's token
   * @param candidates whole lists: the normalisation runs over all of their candidates
   * @param copyDepth depth of the deepest copies, where there is a lookup (whose text ends with the root)
   * @param least [nodes] ends the search early; see `popNodes`
   * @returns the number of popped nodes, root included
   * @throws RangeError when the table needs contexts and the proposals bring none of its rank
   */
  run(
    root: number,
    candidates: CandidateLevels,
    nodes: number,
    copyDepth = 0,
    least?: ArrayLike<number>,
  ): number {
    this.checkContexts(candidates);
    this.deepest = this.lookup ? Math.max(candidates.levels, copyDepth) : candidates.levels;
    this.slots = candidates.width + (this.lookup ? 1 : 0);
    this.root = root;
    this.candidates = candidates;
    this.gatheredLevels = 0;
    this.paddedWidth = Math.ceil(this.slots / tile) * tile;
    this.reserve(nodes);
    return this.popNodes(nodes, least);
  }

  protected override reserve(nodes: number): boolean {
    const { paddedWidth } = this;
    const { levels } = this.candidates;
    if (this.children.length < nodes * paddedWidth) this.children = new Float32Array(nodes * paddedWidth);
    if (this.weights.length < paddedWidth) this.weights = new Float64Array(paddedWidth);
    const outputs = levels * paddedWidth * this.table.rank;
    if (this.outputs.length < outputs) this.outputs = new Float64Array(outputs);
    if (this.copies.length < nodes) this.copies = new Int32Array(nodes);
    return super.reserve(nodes);
  }

  /** The token of a popped node. */
  token(node: number): number {
    if (node === 0) return this.root;
    if (this.isCopy(node)) return this.copies[this.parents[node]];
    return this.candidates.token(this.depths[node] - 1, this.ranks[node]);
  }

  /** Whether a popped node is a copy that no head had among its candidates. */
  isCopy(node: number): boolean {
    return this.ranks[node] === this.candidates.width;
  }

  protected offerFirst(node: number): boolean {
    const depth = this.depths[node];
    if (depth >= this.deepest) return false;
    const from = node * this.paddedWidth;
    this.children.fill(-1, from, from + this.slots);
    if (depth < this.candidates.levels) this.scoreChildren(node);
    if (this.lookup) this.addCopy(node, this.lookup);
    return this.offerNext(node);
  }

  /** The first of the most probable children left. */
  protected offerNext(node: number): boolean {
    const { children } = this;
    const from = node * this.paddedWidth;
    const end = from + this.slots;
    let best = -1;
    let at = -1;
    for (let i = from; i < end; i++) {
      if (children[i] <= best) continue;
      best = children[i];
      at = i;
    }
    if (at === -1) return false;
    children[at] = -1;
    this.offeredRank[node] = at - from;
    this.offered[node] = best;
    return true;
  }

  private scoreChildren(node: number): void {
    const level = this.depths[node];
    const { width, probabilities, factors, isRenormalised } = this.candidates;
    const { weights, children, paddedWidth } = this;
    this.fillContext(node, level);
    // Levels are reached in order, as a node is popped after its parent.
    while (this.gatheredLevels <= level) this.gatherOutputs(this.gatheredLevels++);
    this.multiply(level);
    let before = 0;
    let after = 0;
    for (let rank = 0; rank < width; rank++) {
      const probability = probabilities[level * width + rank];
      weights[rank] = probability * Math.exp(clampScore(weights[rank]));
      before += probability;
      after += weights[rank];
    }
    const scale = factors[level] / normaliser(before, after, isRenormalised);
    const path = this.probabilities[node];
    const from = node * paddedWidth;
    for (let rank = 0; rank < width; rank++) {
      const conditional = weights[rank] * scale;
      // Rounded to float32 before the product, as marginals are.
      children[from + rank] = path * Math.fround(conditional < 1 ? conditional : 1);
    }
  }

  /** Mixes what the text says into the children of `node`. */
  private addCopy(node: number, lookup: ContextLookup): void {
    const { children, paddedWidth, path, parents } = this;
    const { index } = lookup;
    const level = this.depths[node];
    let count = 0;
    for (let at = node; at !== 0; at = parents[at]) path[count++] = this.token(at);
    const length = index.find(path, count);
    if (length === 0) return;
    const share = lookup.weight(level, length);
    const above = this.probabilities[node];
    const from = node * paddedWidth;
    const width = level < this.candidates.levels ? this.candidates.width : 0;
    let isListed = false;
    for (let rank = 0; rank < width; rank++) {
      const isCopied = this.candidates.token(level, rank) === index.found;
      isListed ||= isCopied;
      const mixed = children[from + rank] * (1 - share) + (isCopied ? above * share : 0);
      // No child is more probable than its parent, whatever the rounding.
      children[from + rank] = Math.min(above, mixed);
    }
    if (isListed || share === 0) return;
    children[from + this.candidates.width] = above * share;
    this.copies[node] = index.found;
  }

  /** The context vector of the children of `node`, which head `level` speaks about. */
  private fillContext(node: number, level: number): void {
    const { context } = this;
    const { rank, distances, vocabSize, inputs, activation, usesContexts, levels } = this.table;
    const { contexts } = this.candidates.proposals;
    const own = level * rank;
    for (let i = 0; i < rank; i++) {
      context[i] =
        (usesContexts ? contexts![own + i] : 0) + (levels === undefined ? 0 : levels.biases[own + i]);
    }
    let ancestor = node;
    for (let distance = 0; distance < distances && ancestor !== -1; distance++) {
      const from = (distance * vocabSize + this.token(ancestor)) * rank;
      for (let i = 0; i < rank; i++) context[i] += inputs[from + i];
      ancestor = this.parents[ancestor];
    }
    if (activation === 'silu') for (let i = 0; i < rank; i++) context[i] /= 1 + Math.exp(-context[i]);
    if (levels !== undefined) for (let i = 0; i < rank; i++) context[i] *= levels.gains[own + i];
  }

  private gatherOutputs(level: number): void {
    const { outputs, paddedWidth, table } = this;
    const { rank: length, outputs: rows } = table;
    let to = level * paddedWidth * length;
    for (let rank = 0; rank < paddedWidth; rank += tile) {
      // A tile's rows are read side by side: they lie far apart, and so their cache misses overlap.
      const row0 = this.outputOffset(level, rank);
      const row1 = this.outputOffset(level, rank + 1);
      const row2 = this.outputOffset(level, rank + 2);
      const row3 = this.outputOffset(level, rank + 3);
      for (let i = 0; i < length; i++) {
        outputs[to] = row0 < 0 ? 0 : rows[row0 + i];
        outputs[to + 1] = row1 < 0 ? 0 : rows[row1 + i];
        outputs[to + 2] = row2 < 0 ? 0 : rows[row2 + i];
        outputs[to + 3] = row3 < 0 ? 0 : rows[row3 + i];
        to += tile;
      }
    }
  }

  /** Where the row of a candidate begins in the table's outputs; negative when there is none. */
  private outputOffset(level: number, rank: number): number {
    const { candidates, table } = this;
    return rank < candidates.width ? table.outputRows[candidates.token(level, rank)] * table.rank : -1;
  }

  /** Scores of the candidates of `level`: the products of `context` with their rows. */
  private multiply(level: number): void {
    const { context, outputs, weights, paddedWidth } = this;
    const length = this.table.rank;
    let at = level * paddedWidth * length;
    for (let rank = 0; rank < paddedWidth; rank += tile) {
      let score0 = 0;
      let score1 = 0;
      let score2 = 0;
      let score3 = 0;
      for (let i = 0; i < length; i++) {
        const value = context[i];
        score0 += value * outputs[at];
        score1 += value * outputs[at + 1];
        score2 += value * outputs[at + 2];
        score3 += value * outputs[at + 3];
        at += tile;
      }
      weights[rank] = score0;
      weights[rank + 1] = score1;
      weights[rank + 2] = score2;
      weights[rank + 3] = score3;
    }
  }

  private checkContexts({ levels, proposals }: CandidateLevels): void {
    const { rank, usesContexts } = this.table;
    const found = proposals.contexts?.length ?? 0;
    if (!usesContexts || found >= levels * rank) return;
    throw new RangeError(
      `The conditional table needs contexts of ${levels} heads x ${rank} values, but the heads gave ${found} values. ` +
        'The table belongs to other heads: prepare the model again.',
    );
  }
}

/** Rows multiplied at a time. */
const tile = 4;

/** Larger scores would leave the range of exp; trained ones are far smaller. NaN (a damaged table) counts as the least. */
const largestScore = 60;

function clampScore(score: number): number {
  if (score > largestScore) return largestScore;
  return score >= -largestScore ? score : -largestScore;
}

/**
 * What the weights are divided by: their sum and what the list leaves to other tokens, in proportion to the same before
 * scoring. Written so that scores of 0 give exactly 1, and lists whose sum exceeds 1 by rounding keep that sum.
 *
 * @param before sum of the list's probabilities
 * @param after sum of its weights
 */
function normaliser(before: number, after: number, isRenormalised: boolean): number {
  if (before === 0) return 1;
  if (isRenormalised || before >= 1) return after / before;
  return Math.max(after, 1 + (after - before));
}
