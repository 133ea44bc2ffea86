import { BestFirstSearch } from './bestFirst.js';
import type { HeadCandidates } from './headCandidates.js';
import type { ConditionalTable } from './conditionalTable.js';
import { mostSourced, type DraftSources } from '../draft/draftSources.js';
import { ScoreKernel } from './scoreKernel.js';

/**
 * The most probable prefixes when a candidate's probability depends on the candidates before it. With p_k the marginals
 * of head k and s the scores of a `ConditionalTable`, a child y of a node at depth k has
 *
 *     q(y) = p_k(y) e^s(y) / (sum over the top m of p_k(v) e^s(v) + what p_k leaves to tokens beyond them)
 *
 * (nothing is left with marginals `top-m`), times the head's correction factor, at most 1; scores beyond +-60 count as that.
 * All scores 0 give q = p: the tree of `ProductSearch`, to the bit.
 *
 * With `DraftSources`, which name candidates of their own with probabilities f, the children are
 *
 *     q'(y) = (1 - w) q(y) + w f(y)
 *
 * where w, the share of the sources, is learnt. Beyond the heads, and without any, w is 1.
 *
 * The children of a node are scored when it is popped, at m dot products of length r in float32 (`ScoreKernel`), and
 * offered one by one: the most probable first, by rank among those of equal float32 path probability. Nodes keep their rank
 * in the head's list; candidates of other sources that are not in it rank after it.
 */
export class ConditionalSearch extends BestFirstSearch {
  /** Children a node may have: the candidates of a head, and a token looked up. */
  private slots = 0;
  /** Depth of the deepest nodes. */
  private deepest = 0;
  /** [depth] tokens from a node up to the root's child. */
  private readonly path: number[] = [];
  /** [nodes, slots] path probabilities of each popped node's children; -1 for those offered already. */
  private children = new Float32Array(0);
  /** [nodes, slots] what the heads alone say of the same candidates, given their parent. */
  private conditionals = new Float32Array(0);
  /** Holds each head's candidates with their rows B[y], gathered when its depth is first reached. */
  private readonly kernel: ScoreKernel;
  private gatheredHeads = 0;

  constructor(
    private readonly table: ConditionalTable,
    private readonly sources?: DraftSources,
  ) {
    super();
    this.kernel = new ScoreKernel(table.rank, table.activation, table.distances + 1, table.perHead);
  }

  /** @throws RangeError when the table needs hidden terms and the proposals bring none of its rank */
  protected override begin(nodes: number): void {
    super.begin(nodes);
    const { candidates, sources } = this;
    this.checkHiddenTerms(candidates);
    this.deepest = sources ? Math.max(candidates.heads, this.sourceDepth) : candidates.heads;
    this.slots = candidates.width + (sources ? mostSourced : 0);
    this.gatheredHeads = 0;
    const children = nodes * this.slots;
    if (this.children.length < children) this.children = new Float32Array(children);
    this.kernel.reserve(candidates.heads, candidates.width);
    if (sources && this.conditionals.length < children) this.conditionals = new Float32Array(children);
  }

  override token(node: number): number {
    if (!this.isSourced(node)) return super.token(node);
    return this.sources!.tokens[this.parents[node] * mostSourced + this.ranks[node] - this.candidates.width];
  }

  protected offerFirst(node: number): boolean {
    const depth = this.depths[node];
    if (depth >= this.deepest) return false;
    const from = node * this.slots;
    this.children.fill(-1, from, from + this.slots);
    if (depth < this.candidates.heads) this.scoreChildren(node);
    if (this.sources) this.mixSources(node, this.sources);
    return this.offerNext(node);
  }

  /** The first of the most probable children left. */
  protected offerNext(node: number): boolean {
    const { children } = this;
    const from = node * this.slots;
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
    const head = this.depths[node];
    const { width, probabilities, factors, isRenormalised } = this.candidates;
    const { kernel, children, slots } = this;
    this.addTerms(node, head);
    // Depths are reached in order, as a node is popped after its parent.
    while (this.gatheredHeads <= head) this.gatherOutputs(this.gatheredHeads++);
    kernel.weigh(head);
    const { weights } = kernel;
    let before = 0;
    let after = 0;
    for (let rank = 0; rank < width; rank++) {
      before += probabilities[head * width + rank];
      after += weights[rank];
    }
    const scale = factors[head] / normaliser(before, after, isRenormalised);
    const path = this.probabilities[node];
    const from = node * slots;
    for (let rank = 0; rank < width; rank++) {
      const conditional = weights[rank] * scale;
      // Rounded to float32 before the product, as marginals are.
      children[from + rank] = path * Math.fround(conditional < 1 ? conditional : 1);
    }
  }

  /**
   * Has the sources learn what followed an accepted node of the search that was run last.
   *
   * @param node a popped node
   * @param right the token that followed
   */
  learn(node: number, right: number): void {
    const { sources, conditionals, slots, candidates } = this;
    if (!sources?.knows(node)) return;
    sources.learn(node, right);
    const head = this.depths[node];
    if (head >= candidates.heads) return;
    const rank = this.rankOf(head, right);
    sources.learnShare(node, right, rank === -1 ? 0 : conditionals[node * slots + rank]);
  }

  /** Mixes the candidates of the sources into those of the heads. */
  private mixSources(node: number, sources: DraftSources): void {
    const { children, conditionals, slots, path, parents, candidates } = this;
    const depth = this.depths[node];
    const width = depth < candidates.heads ? candidates.width : 0;
    const from = node * slots;
    const above = this.probabilities[node];
    let count = 0;
    for (let at = node; at !== 0; at = parents[at]) path[count++] = this.token(at);
    const found = sources.collect(node, path, count);
    let best = 0;
    for (let slot = from; slot < from + width; slot++) {
      conditionals[slot] = above > 0 ? children[slot] / above : 0;
      if (conditionals[slot] > best) best = conditionals[slot];
    }
    const share = width === 0 ? 1 : sources.share(node, depth, best);
    for (let slot = from; slot < from + width; slot++) children[slot] *= 1 - share;
    for (let index = 0; index < found; index++) {
      const at = node * mostSourced + index;
      const rank = width === 0 ? -1 : this.rankOf(depth, sources.tokens[at]);
      const mass = above * share * sources.probabilities[at];
      if (rank === -1) children[from + candidates.width + index] = mass;
      // No child is more probable than its parent, whatever the rounding.
      else children[from + rank] = Math.min(above, children[from + rank] + mass);
    }
  }

  /** The rank of `token` in the list of `head`; -1 where it is not in it. */
  private rankOf(head: number, token: number): number {
    for (let rank = 0; rank < this.candidates.width; rank++) {
      if (this.candidates.token(head, rank) === token) return rank;
    }
    return -1;
  }

  /** What makes the query of the children of `node`, which `head` speaks about, beside the head's bias. */
  private addTerms(node: number, head: number): void {
    const { kernel, parents } = this;
    const { rank, distances, inputs, usesHidden } = this.table;
    if (usesHidden) kernel.addTerm(this.candidates.proposals.hiddenTerms!, head * rank);
    let ancestor = node;
    for (let distance = 0; distance < distances && ancestor !== -1; distance++) {
      const row = inputs.find(distance, this.token(ancestor));
      kernel.addTerm(inputs.values, row);
      ancestor = parents[ancestor];
    }
  }

  private gatherOutputs(head: number): void {
    const { width, probabilities } = this.candidates;
    const { outputs } = this.table;
    for (let rank = 0; rank < width; rank++) {
      const probability = probabilities[head * width + rank];
      this.kernel.setCandidate(head, rank, probability, outputs, this.outputOffset(head, rank));
    }
  }

  /** Where the row of a candidate begins in the table's outputs; negative when there is none. */
  private outputOffset(head: number, rank: number): number {
    const { candidates, table } = this;
    return table.outputRows[candidates.token(head, rank)] * table.rank;
  }

  private checkHiddenTerms({ heads, proposals }: HeadCandidates): void {
    const { rank, usesHidden } = this.table;
    const found = proposals.hiddenTerms?.length ?? 0;
    if (!usesHidden || found >= heads * rank) return;
    throw new RangeError(
      `The conditional table needs hidden terms of ${heads} heads x ${rank} values, but the heads gave ${found} values. ` +
        'The table belongs to other heads: prepare the model again.',
    );
  }
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
