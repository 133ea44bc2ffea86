import type { DraftMemory } from './draftMemory.js';
import { cell } from './evidence.js';
import { longestRun, type RunIndex } from './runIndex.js';
import { recycledWidth } from './recycledTokens.js';

/** Candidates that the sources can name for one node at most. */
export const mostSourced = 2 * longestRun + 2 * recycledWidth;

/** Kinds of evidence for a candidate: copied from the conversation, from earlier texts, after the pair, after the token. */
const kinds = 4;

/** Kinds of evidence for the sources as a whole: the match, the pair, the head, how sure the head is. */
const shareKinds = 4;

/** Which sources take part beside the heads. */
export interface DraftUse {
  /** Copies from the text so far (prompt lookup), and from earlier texts where the memory has them. */
  readonly lookup: boolean;
  /** Recycled tokens. */
  readonly recycle: boolean;
}

/**
 * The candidates that come without heads, for the nodes of one tree: what followed the same tokens in the text, and what the
 * model preferred after them. The odds of a candidate are e^(the sum of the weights of what speaks for it), and all of a node
 * are scaled down where their probabilities exceed 1 in sum (`Evidence`).
 *
 * A workspace to be reused for every tree.
 */
export class DraftSources {
  /** [nodes, mostSourced] candidates of each node. */
  tokens: Int32Array = new Int32Array(0);
  /** [nodes, mostSourced] their probabilities, by these sources alone. */
  probabilities: Float32Array = new Float32Array(0);
  /** [nodes, mostSourced] the same before they were scaled. */
  private unscaled = new Float32Array(0);
  /** [nodes] how many there are; -1 for nodes that were not looked at. */
  private counts = new Int32Array(0);
  /** [nodes, mostSourced, kinds] cells of the candidates; -1: none. */
  private cells = new Int32Array(0);
  /** [nodes, kinds] cells that all candidates of a node have; -1: none. */
  private nodeCells = new Int32Array(0);
  /** [nodes, shareKinds] cells of the share; -1: none. */
  private shareCells = new Int32Array(0);
  /** The end of the text with a path, last token first. */
  private readonly suffix = new Int32Array(longestRun);
  private readonly textEnd = new Int32Array(longestRun);
  private textCount = 0;

  /** @param memory may be changed between generations */
  constructor(
    public memory: DraftMemory,
    private readonly use: DraftUse,
  ) {}

  /** Learns what the model would write after each node of a verified tree (`DraftMemory.recycle`). */
  recycle(...verified: Parameters<DraftMemory['recycle']>): void {
    if (this.use.recycle) this.memory.recycle(...verified);
  }

  /** Makes ready for a tree of `nodes` nodes after `text`. */
  begin(text: ArrayLike<number>, nodes: number): void {
    this.memory.follow(text);
    this.textCount = this.memory.conversation.suffix(this.textEnd);
    if (this.counts.length < nodes) {
      this.tokens = new Int32Array(nodes * mostSourced);
      this.probabilities = new Float32Array(nodes * mostSourced);
      this.unscaled = new Float32Array(nodes * mostSourced);
      this.counts = new Int32Array(nodes);
      this.cells = new Int32Array(nodes * mostSourced * kinds);
      this.nodeCells = new Int32Array(nodes * kinds);
      this.shareCells = new Int32Array(nodes * shareKinds);
    }
    this.counts.fill(-1);
  }

  /**
   * Collects the candidates for the children of `node`, each once, and their probabilities.
   *
   * @param path tokens after the root, last first
   * @param count how many
   * @returns how many candidates there are
   */
  collect(node: number, path: ArrayLike<number>, count: number): number {
    const { memory, use } = this;
    const length = this.joinSuffix(path, count);
    this.counts[node] = 0;
    this.nodeCells.fill(-1, node * kinds, (node + 1) * kinds);
    this.shareCells.fill(-1, node * shareKinds, (node + 1) * shareKinds);
    if (use.lookup) {
      this.collectCopies(node, memory.conversation, length, false);
      if (memory.earlier) this.collectCopies(node, memory.earlier, length, true);
    }
    if (use.recycle) this.collectRecycled(node, length);
    this.weigh(node);
    return this.counts[node];
  }

  /** Whether the candidates of `node` were collected. */
  knows(node: number): boolean {
    return this.counts[node] >= 0;
  }

  /**
   * How far these sources are believed, from 0 to 1, where a head has candidates for the children of `node` too.
   *
   * @param best the probability of the head's best candidate
   */
  share(node: number, head: number, best: number): number {
    if (this.counts[node] === 0) return 0;
    this.shareCells[node * shareKinds + 2] = cell.shareOfHead(head);
    this.shareCells[node * shareKinds + 3] = cell.shareByBest(best);
    return logistic(this.sum(this.shareCells, node * shareKinds, shareKinds));
  }

  /** Learns from a node after which the token `right` came. */
  learn(node: number, right: number): void {
    const { evidence } = this.memory;
    const first = node * mostSourced;
    let all = 0;
    for (let at = first; at < first + this.counts[node]; at++) {
      const gradient = (this.tokens[at] === right ? 1 : 0) - this.unscaled[at];
      all += gradient;
      for (let kind = 0; kind < kinds; kind++) evidence.learn(this.cells[at * kinds + kind], gradient);
    }
    for (let kind = 0; kind < kinds; kind++) evidence.learn(this.nodeCells[node * kinds + kind], all);
    evidence.learn(cell.any, all);
  }

  /**
   * Learns how far to believe the sources beside a head, from a node after which the token `right` came.
   *
   * @param byHead the head's probability for it
   */
  learnShare(node: number, right: number, byHead: number): void {
    const first = node * mostSourced;
    const at = this.tokens.subarray(first, first + this.counts[node]).indexOf(right);
    const bySources = at === -1 ? 0 : this.probabilities[first + at];
    const share = logistic(this.sum(this.shareCells, node * shareKinds, shareKinds));
    const mixed = (1 - share) * byHead + share * bySources;
    const gradient = (share * (1 - share) * (bySources - byHead)) / (mixed + leastMixed);
    for (let kind = 0; kind < shareKinds; kind++) {
      this.memory.evidence.learn(this.shareCells[node * shareKinds + kind], gradient);
    }
  }

  private weigh(node: number): void {
    const { counts, unscaled, probabilities } = this;
    const all = this.memory.evidence.weights[cell.any] + this.sum(this.nodeCells, node * kinds, kinds);
    const first = node * mostSourced;
    const end = first + counts[node];
    let total = 0;
    for (let at = first; at < end; at++) {
      total += unscaled[at] = logistic(all + this.sum(this.cells, at * kinds, kinds));
    }
    const scale = total > 1 ? 1 / total : 1;
    for (let at = first; at < end; at++) probabilities[at] = unscaled[at] * scale;
  }

  private joinSuffix(path: ArrayLike<number>, count: number): number {
    const { suffix, textEnd } = this;
    const length = Math.min(longestRun, count + this.textCount);
    for (let i = 0; i < length; i++) suffix[i] = i < count ? path[i] : textEnd[i - count];
    return length;
  }

  private collectCopies(node: number, index: RunIndex, length: number, isEarlier: boolean): void {
    const kind = isEarlier ? 1 : 0;
    const longest = index.find(this.suffix, length);
    this.nodeCells[node * kinds + kind] = cell.matched(longest, isEarlier);
    // The longest run that a token followed is the one that counts.
    for (let run = longest; run > 0; run--) {
      const own = cell.copied(run, run === longest, index.streaks[run - 1], isEarlier);
      this.add(node, index.found[run - 1], kind, own);
    }
    const streak = longest === 0 ? 0 : index.streaks[longest - 1];
    if (!isEarlier) this.shareCells[node * shareKinds] = cell.shareOfMatch(longest, streak);
  }

  private collectRecycled(node: number, length: number): void {
    const { suffix, nodeCells } = this;
    const { recycled } = this.memory;
    const pair = length < 2 ? -1 : recycled.find(suffix[1], suffix[0]);
    const single = length < 1 ? -1 : recycled.find(-1, suffix[0]);
    const isPairKnown = pair !== -1;
    const pairStreak = isPairKnown ? recycled.streak(pair) : undefined;
    const streak = single === -1 ? undefined : recycled.streak(single);
    this.shareCells[node * shareKinds + 1] = cell.shareOfPair(pairStreak);
    nodeCells[node * kinds + 2] = cell.pair(pairStreak);
    nodeCells[node * kinds + 3] = cell.single(streak, isPairKnown);
    for (let rank = 0; rank < recycledWidth; rank++) {
      const token = isPairKnown ? recycled.token(pair, rank) : -1;
      if (token === -1) break;
      this.add(node, token, 2, cell.afterPair(rank, pairStreak!));
    }
    for (let rank = 0; rank < recycledWidth; rank++) {
      const token = single === -1 ? -1 : recycled.token(single, rank);
      if (token === -1) break;
      this.add(node, token, 3, cell.afterSingle(rank, streak!, isPairKnown));
    }
  }

  /** Adds a cell to a candidate, unless one of the kind is there already. */
  private add(node: number, token: number, kind: number, own: number): void {
    const { tokens, counts, cells } = this;
    const first = node * mostSourced;
    const end = first + counts[node];
    let at = first;
    while (at < end && tokens[at] !== token) at++;
    if (at === end) {
      tokens[at] = token;
      cells.fill(-1, at * kinds, (at + 1) * kinds);
      counts[node]++;
    }
    if (cells[at * kinds + kind] === -1) cells[at * kinds + kind] = own;
  }

  private sum(cells: Int32Array, from: number, count: number): number {
    const { weights } = this.memory.evidence;
    let sum = 0;
    for (let at = from; at < from + count; at++) if (cells[at] !== -1) sum += weights[cells[at]];
    return sum;
  }
}

/** Keeps one surprise from moving the share far. */
const leastMixed = 1e-4;

const logistic = (x: number): number => 1 / (1 + Math.exp(-x));
