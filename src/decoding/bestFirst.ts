/**
 * Best-first search for the most probable prefixes of independent per-position candidates.
 *
 * The probability of a path is the product of its levels' marginals, computed in float32 from the root outwards
 * (((p1 p2) p3) p4). Among all m + m^2 + ... + m^K paths the search pops the most probable first, so the popped set is
 * closed under prefixes by construction and no product outside it and its border is ever formed.
 *
 * Ties: the shallower path first, then the lexicographically smaller ranks. This is the order of the reference's flat
 * index (offsets 0, m, m + m^2, ... plus the ranks in base m) without the index itself, which leaves the range of
 * exact doubles for m = 64, K = 9.
 *
 * One instance is a workspace: it grows to the largest search it has seen and allocates nothing afterwards. The popped
 * nodes stay readable until the next `run`.
 */
export class BestFirstSearch {
  /** Popped nodes, root included, in the order they were popped; indexes the arrays below. */
  count = 0;
  /** [count] probability of the path, descending; 1 for the root. */
  probabilities = new Float32Array(0);
  /** [count] distance from the root. */
  depths = new Int32Array(0);
  /** [count] rank within the level's marginals; -1 for the root. */
  ranks = new Int32Array(0);
  /** [count] the popped index of the parent; -1 for the root. */
  parents = new Int32Array(0);

  // The popped tree as links, so that it can be read out level by level. -1: none.
  private firstChild = new Int32Array(0);
  private lastChild = new Int32Array(0);
  private nextSibling = new Int32Array(0);
  // The border: every popped node offers its best child not popped yet. The heap holds the offering nodes.
  private offeredRank = new Int32Array(0);
  private offered = new Float32Array(0);
  private heap = new Int32Array(0);
  private heapSize = 0;

  /**
   * Pops the root and then the `nodes - 1` most probable paths, or all there are.
   *
   * @param marginals [levels, width] probabilities, descending along each level, in [0, 1]
   * @returns the number of popped nodes, root included
   */
  run(marginals: Float32Array, levels: number, width: number, nodes: number): number {
    this.reserve(nodes);
    this.heapSize = 0;
    this.addNode(-1, -1, 0, 1);
    this.count = 1;
    if (levels > 0) this.offerFirstChild(0, 1, marginals[0]);
    while (this.count < nodes && this.heapSize > 0) this.pop(marginals, levels, width);
    return this.count;
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
      // Children were popped by ascending rank, so the chain's popped indices ascend too.
      for (let child = firstChild[rows[row]]; child !== -1 && child < size; child = nextSibling[child]) {
        rows[end] = child;
        parentRows[end++] = row;
      }
    }
  }

  /** Moves the best offer into the tree, then lets its parent offer the next sibling and the node its first child. */
  private pop(marginals: Float32Array, levels: number, width: number): void {
    const parent = this.heap[0];
    const depth = this.depths[parent] + 1;
    const rank = this.offeredRank[parent];
    const probability = this.offered[parent];
    const node = this.count++;
    this.addNode(parent, rank, depth, probability);
    if (rank + 1 < width) {
      this.offeredRank[parent] = rank + 1;
      this.offered[parent] = this.probabilities[parent] * marginals[(depth - 1) * width + rank + 1];
      this.siftDown(parent);
    } else {
      this.heapSize--;
      if (this.heapSize > 0) this.siftDown(this.heap[this.heapSize]);
    }
    if (depth < levels) this.offerFirstChild(node, probability, marginals[depth * width]);
  }

  private addNode(parent: number, rank: number, depth: number, probability: number): void {
    const node = parent === -1 ? 0 : this.count - 1;
    this.parents[node] = parent;
    this.ranks[node] = rank;
    this.depths[node] = depth;
    this.probabilities[node] = probability;
    this.firstChild[node] = -1;
    this.nextSibling[node] = -1;
    if (parent === -1) return;
    if (rank === 0) this.firstChild[parent] = node;
    else this.nextSibling[this.lastChild[parent]] = node;
    this.lastChild[parent] = node;
  }

  private offerFirstChild(node: number, probability: number, marginal: number): void {
    this.offeredRank[node] = 0;
    this.offered[node] = probability * marginal; // stored as float32: the product is rounded here
    let at = this.heapSize++;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!this.precedes(node, this.heap[above])) break;
      this.heap[at] = this.heap[above];
      at = above;
    }
    this.heap[at] = node;
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

  private reserve(nodes: number): void {
    if (nodes <= this.heap.length) return;
    this.probabilities = new Float32Array(nodes);
    this.offered = new Float32Array(nodes);
    for (const name of integerArrays) this[name] = new Int32Array(nodes);
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
