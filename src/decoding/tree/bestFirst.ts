import { HeadCandidates } from './headCandidates.js';

/**
 * Best-first search for the most probable prefixes of per-position candidates, whatever makes their probabilities:
 * `ProductSearch` (independent marginals) and `ConditionalSearch` (a candidate's probability depends on its ancestors).
 *
 * Path probabilities are float32 products from the root outwards (((p1 p2) p3) p4) of factors of at most 1, so no path
 * beats its parent. Every popped node offers its best child not popped yet, and the best offer is popped next: the
 * popped set is closed under prefixes by construction, and no product outside it and its border is ever formed.
 *
 * Ties (equal float32 path probabilities): the shallower path first, then the lexicographically smaller ranks. This is
 * the order of the reference's flat index (offsets 0, m, m + m^2, ... plus the ranks in base m) without the index
 * itself, which leaves the range of exact doubles for m = 64, K = 9.
 *
 * One instance is a workspace: it grows to the largest search it has seen and allocates nothing afterwards. The popped
 * nodes stay readable until the next search.
 */
export abstract class BestFirstSearch {
  /** Popped nodes, root included, in the order they were popped; indexes the arrays below. */
  count = 0;
  /** [count] probability of the path, descending; 1 for the root. */
  probabilities: Float32Array = new Float32Array(0);
  /** [count] distance from the root. */
  depths: Int32Array = new Int32Array(0);
  /** [count] rank within the list of the head at that depth; -1 for the root. */
  ranks: Int32Array = new Int32Array(0);
  /** [count] the popped index of the parent; -1 for the root. */
  parents: Int32Array = new Int32Array(0);

  protected candidates = new HeadCandidates();
  protected sourceDepth = 0;
  private root = 0;
  // What each popped node offers now: a rank and the path probability (stored as float32: products are rounded here).
  protected offeredRank: Int32Array = new Int32Array(0);
  protected offered: Float32Array = new Float32Array(0);

  // The popped tree as links, so that it can be read out level by level; siblings by rank. -1: none.
  private firstChild = new Int32Array(0);
  private lastChild = new Int32Array(0);
  private nextSibling = new Int32Array(0);
  // The border: the nodes that offer a child, the best offer first.
  private heap = new Int32Array(0);
  private heapSize = 0;

  /**
   * Makes `node`, just popped, offer its most probable child: sets `offeredRank` and `offered`.
   *
   * @returns false when it has no children
   */
  protected abstract offerFirst(node: number): boolean;

  /** Makes `node` offer the child that follows the one just popped: less probable, or equally and of a higher rank. */
  protected abstract offerNext(node: number): boolean;

  /** Makes ready for a search of `nodes` nodes among `candidates`: room for them. */
  protected begin(nodes: number): void {
    if (nodes <= this.heap.length) return;
    this.probabilities = new Float32Array(nodes);
    this.offered = new Float32Array(nodes);
    for (const name of integerArrays) this[name] = new Int32Array(nodes);
  }

  /**
   * Pops the root and then the `nodes - 1` most probable paths, or all there are.
   *
   * @param root the root's token
   * @param sourceDepth depth of the deepest candidates that come from other sources than heads
   * @param least [nodes] the search ends after n nodes where the next one is less probable than `least[n - 1]`
   * @returns the number of popped nodes, root included
   */
  run(
    root: number,
    candidates: HeadCandidates,
    nodes: number,
    sourceDepth = 0,
    least?: ArrayLike<number>,
  ): number {
    this.root = root;
    this.candidates = candidates;
    this.sourceDepth = sourceDepth;
    this.begin(nodes);
    this.heapSize = 0;
    this.count = 0;
    this.addNode(-1, -1, 0, 1);
    if (nodes > 1 && this.offerFirst(0)) this.siftUp(0);
    while (this.count < nodes && this.heapSize > 0) {
      if (least !== undefined && this.offered[this.heap[0]] < least[this.count - 1]) break;
      this.pop(nodes);
    }
    return this.count;
  }

  /** The token of a popped node. */
  token(node: number): number {
    return node === 0 ? this.root : this.candidates.token(this.depths[node] - 1, this.ranks[node]);
  }

  /** Whether a popped node came from another source and is no candidate of its head. */
  isSourced(node: number): boolean {
    return this.ranks[node] >= this.candidates.width;
  }

  /**
   * Writes the `size` first popped nodes in flat-index order: level by level, siblings by rank.
   *
   * @param rows [size] receives the popped index of each row
   * @param parentRows [size] receives the row of each row's parent; -1 for the root
   */
  arrange(size: number, rows: Int32Array, parentRows: Int32Array): void {
    const { firstChild, nextSibling } = this;
    rows[0] = 0;
    parentRows[0] = -1;
    let end = 1;
    for (let row = 0; end < size; row++) {
      for (let child = firstChild[rows[row]]; child !== -1; child = nextSibling[child]) {
        if (child >= size) continue;
        rows[end] = child;
        parentRows[end++] = row;
      }
    }
  }

  /** Moves the best offer into the tree; its parent then offers the next sibling, and the node its first child. */
  private pop(nodes: number): void {
    const parent = this.heap[0];
    const rank = this.offeredRank[parent];
    const probability = this.offered[parent];
    if (this.offerNext(parent)) {
      this.siftDown(parent);
    } else {
      this.heapSize--;
      if (this.heapSize > 0) this.siftDown(this.heap[this.heapSize]);
    }
    const node = this.addNode(parent, rank, this.depths[parent] + 1, probability);
    // Nothing will be popped after the last node, so its children need not be looked at.
    if (this.count < nodes && this.offerFirst(node)) this.siftUp(node);
  }

  private addNode(parent: number, rank: number, depth: number, probability: number): number {
    const node = this.count++;
    this.parents[node] = parent;
    this.ranks[node] = rank;
    this.depths[node] = depth;
    this.probabilities[node] = probability;
    this.firstChild[node] = -1;
    this.lastChild[node] = -1;
    this.nextSibling[node] = -1;
    if (parent !== -1) this.link(parent, node, rank);
    return node;
  }

  /** Puts `node` among its siblings by rank. Mostly it is the last: likelier candidates have lower ranks. */
  private link(parent: number, node: number, rank: number): void {
    const { ranks, firstChild, lastChild, nextSibling } = this;
    const last = lastChild[parent];
    if (last === -1 || ranks[last] < rank) {
      if (last === -1) firstChild[parent] = node;
      else nextSibling[last] = node;
      lastChild[parent] = node;
      return;
    }
    let before = -1;
    let after = firstChild[parent];
    for (; ranks[after] < rank; after = nextSibling[after]) before = after;
    nextSibling[node] = after;
    if (before === -1) firstChild[parent] = node;
    else nextSibling[before] = node;
  }

  /** Enters `node` into the heap with its offer. */
  private siftUp(node: number): void {
    const { heap } = this;
    let at = this.heapSize++;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!this.precedes(node, heap[above])) break;
      heap[at] = heap[above];
      at = above;
    }
    heap[at] = node;
  }

  /** Puts `node` at the top of the heap and restores its order. */
  private siftDown(node: number): void {
    const { heap, heapSize } = this;
    let at = 0;
    for (let child = 1; child < heapSize; child = 2 * at + 1) {
      if (child + 1 < heapSize && this.precedes(heap[child + 1], heap[child])) child++;
      if (!this.precedes(heap[child], node)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = node;
  }

  /** Whether the child offered by `a` is to be popped before the one offered by `b`. */
  private precedes(a: number, b: number): boolean {
    const difference = this.offered[a] - this.offered[b];
    return difference === 0 ? this.comesEarlier(a, b) : difference > 0;
  }

  /** The tie rule for two different nodes: shallower, then smaller ranks from the root on. */
  private comesEarlier(a: number, b: number): boolean {
    const { depths, parents, ranks } = this;
    if (depths[a] !== depths[b]) return depths[a] < depths[b];
    while (parents[a] !== parents[b]) {
      a = parents[a];
      b = parents[b];
    }
    return ranks[a] < ranks[b];
  }
}

const integerArrays = [
  'depths',
  'ranks',
  'parents',
  'firstChild',
  'lastChild',
  'nextSibling',
  'offeredRank',
  'heap',
] as const;
