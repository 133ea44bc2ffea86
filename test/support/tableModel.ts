import { argmax } from '../../src/decoding/distribution.js';
import type {
  CandidateTree,
  DraftingModel,
  HeadProposals,
  VerifiedRows,
  VerifyOptions,
} from '../../src/decoding/types.js';

export interface TableModelOptions {
  vocabSize?: number;
  contextLength?: number;
  headCount?: number;
  maxTopM?: number;
  /** [head] how often each candidate is right when those before it were wrong; the last entry repeats. */
  accuracy?: readonly number[];
  /** [head] what the heads claim their accuracy to be; `accuracy` itself unless told otherwise. */
  confidence?: readonly number[];
  seed?: number;
  /** Spread of the logits: 0 makes all tokens equally likely. */
  sharpness?: number;
  /** Greedy decoding takes this token wherever the path's hash divides by `every`. */
  inject?: { token: number; every: number };
  /** Milliseconds of simulated time; see `clock`. */
  costs?: { verify: (nodes: number) => number; heads: number };
}

/**
 * A deterministic language model without a network: the next-token logits are drawn from a hash of the whole token
 * path, so a row of a tree gets the right logits exactly when it is taken for the path from the start to that node.
 * Its heads know the greedy continuation and give it away as often as they are told to. Calls out of order throw.
 */
export class TableModel implements DraftingModel {
  readonly vocabSize: number;
  readonly contextLength: number;
  readonly headCount: number;
  readonly maxTopM: number;
  /** Names of the calls so far. */
  readonly calls: string[] = [];
  /** Tokens computed by prefills. */
  prefilledTokens = 0;
  /** Simulated milliseconds. */
  time = 0;
  readonly clock = (): number => this.time;
  private readonly options: TableModelOptions;
  /** [cachedLength] hash of the path up to each cached token. */
  private states: number[] = [];
  private cached: number[] = [];
  private verified: { tree: CandidateTree; states: number[] } | undefined;
  private mayPropose = false;
  /** What `propose` was told of the next tree. */
  private announcedRoot: number | undefined;

  constructor(options: TableModelOptions = {}) {
    this.options = options;
    this.vocabSize = options.vocabSize ?? 16;
    this.contextLength = options.contextLength ?? 256;
    this.headCount = options.headCount ?? 4;
    this.maxTopM = Math.min(options.maxTopM ?? 8, this.vocabSize);
  }

  get cachedLength(): number {
    return this.cached.length;
  }

  get cachedTokens(): readonly number[] {
    return this.cached;
  }

  truncate(length: number): void {
    check(length >= 0 && length <= this.cachedLength, `truncate(${length}) of ${this.cachedLength}`);
    this.calls.push('truncate');
    this.cached.length = this.states.length = length;
    this.mayPropose = false;
    this.announcedRoot = undefined;
  }

  prefill(ids: ArrayLike<number>, options: VerifyOptions): Promise<VerifiedRows> {
    check(ids.length > 0, 'prefill of nothing');
    check(this.cachedLength + ids.length <= this.contextLength, 'prefill beyond the context');
    this.calls.push('prefill');
    this.prefilledTokens += ids.length;
    for (const id of Array.from(ids)) this.append(id);
    this.time += this.options.costs?.verify(1) ?? 0;
    this.mayPropose = true;
    return Promise.resolve(this.rows([this.states.at(-1)!], options));
  }

  verify(tree: CandidateTree, options: VerifyOptions): Promise<VerifiedRows> {
    checkTree(tree);
    check(this.cachedLength > 0, 'verify before prefill');
    check(this.cachedLength + tree.size <= this.contextLength, 'verify beyond the context');
    const [root] = tree.tokens;
    check((this.announcedRoot ?? root) === root, `verify of root ${root}, propose for ${this.announcedRoot}`);
    this.calls.push('verify');
    const states: number[] = [];
    for (let row = 0; row < tree.size; row++) {
      const before = row === 0 ? this.states.at(-1)! : states[tree.parents[row]];
      states.push(mix(before, tree.tokens[row]));
    }
    this.verified = { tree, states };
    this.mayPropose = false;
    this.announcedRoot = undefined;
    this.time += this.options.costs?.verify(tree.size) ?? 0;
    return Promise.resolve(this.rows(states, options));
  }

  keep(rows: readonly number[]): Promise<void> {
    check(this.verified !== undefined, 'keep without verify');
    this.calls.push('keep');
    const { tree } = this.verified!;
    rows.forEach((row, i) => {
      check(tree.parents[row] === (i === 0 ? -1 : rows[i - 1]), `keep of ${rows.join()}, which is no path`);
      this.append(tree.tokens[row]);
    });
    check(rows.length > 0, 'keep of nothing');
    this.verified = undefined;
    this.mayPropose = true;
    return Promise.resolve();
  }

  propose(topM: number, root: number): Promise<HeadProposals> {
    check(this.mayPropose, 'propose out of order');
    check(topM >= 1 && topM <= this.maxTopM, `propose(${topM}) of ${this.maxTopM}`);
    check(Number.isInteger(root) && root >= 0 && root < this.vocabSize, `propose for root ${root}`);
    this.announcedRoot = root;
    this.calls.push('propose');
    this.time += this.options.costs?.heads ?? 0;
    const ids = new Int32Array(this.headCount * topM);
    const probabilities = new Float32Array(this.headCount * topM);
    let state = this.states.at(-1)!;
    let token = this.greedy(state);
    for (let head = 0; head < this.headCount; head++) {
      state = mix(state, token);
      token = this.greedy(state);
      this.fillHead(head, token, mix(state, 7919 + head), topM, ids, probabilities);
    }
    return Promise.resolve({ heads: this.headCount, topM, ids, probabilities });
  }

  dispose(): Promise<void> {
    return Promise.resolve();
  }

  /** [vocabSize] next-token logits after `path`, for tests that compute what must come out. */
  logitsAfter(path: readonly number[]): Float32Array {
    return this.logits(path.reduce(mix, this.origin));
  }

  /** What plain greedy decoding yields after `path`. */
  greedyContinuation(path: readonly number[], count: number): number[] {
    let state = path.reduce(mix, this.origin);
    return Array.from({ length: count }, () => {
      const token = this.greedy(state);
      state = mix(state, token);
      return token;
    });
  }

  private get origin(): number {
    return mix(0x2545f491, this.options.seed ?? 1);
  }

  private append(token: number): void {
    check(Number.isInteger(token) && token >= 0 && token < this.vocabSize, `token ${token}`);
    this.states.push(mix(this.states.at(-1) ?? this.origin, token));
    this.cached.push(token);
  }

  private rows(states: readonly number[], { logits }: VerifyOptions): VerifiedRows {
    const values = new Float32Array(states.length * this.vocabSize);
    states.forEach((state, row) => values.set(this.logits(state), row * this.vocabSize));
    const nextTokens = Int32Array.from(states, (_, row) =>
      argmax(values, row * this.vocabSize, this.vocabSize),
    );
    return {
      rows: states.length,
      nextTokens,
      vocabSize: this.vocabSize,
      ...(logits === true && { logits: values }),
      ...(logits === 'by row' && {
        logitsOf: (row: number) => values.subarray(row * this.vocabSize, (row + 1) * this.vocabSize),
      }),
    };
  }

  private greedy(state: number): number {
    return argmax(this.logits(state));
  }

  private logits(state: number): Float32Array {
    const sharpness = this.options.sharpness ?? 4;
    const logits = Float32Array.from(
      { length: this.vocabSize },
      (_, token) => sharpness * uniform(mix(state, token + 1)),
    );
    const { inject } = this.options;
    if (inject && state % inject.every === 0) logits[inject.token] = sharpness + 1;
    return logits;
  }

  /** One head's list: distinct tokens, with `truth` at a geometrically distributed rank, perhaps beyond the list. */
  private fillHead(
    head: number,
    truth: number,
    state: number,
    topM: number,
    ids: Int32Array,
    probabilities: Float32Array,
  ): void {
    const { accuracy = [0.6, 0.5, 0.4], confidence = accuracy } = this.options;
    const right = accuracy[head] ?? accuracy.at(-1)!;
    const rank = right === 1 ? 0 : Math.floor(Math.log(1 - uniform(mix(state, 1))) / Math.log(1 - right));
    const list = Array.from({ length: this.vocabSize }, (_, token) => token)
      .filter((token) => token !== truth)
      .sort((a, b) => mix(state, a + 11) - mix(state, b + 11));
    list.splice(Math.min(rank, list.length), 0, truth);
    const first = confidence[head] ?? confidence.at(-1)!;
    for (let i = 0; i < topM; i++) {
      ids[head * topM + i] = list[i];
      probabilities[head * topM + i] = first * (1 - first) ** i;
    }
  }
}

/** Throws unless `tree` keeps the promises of `CandidateTree`. */
export function checkTree(tree: CandidateTree): void {
  const { size, tokens, parents, depths, probabilities } = tree;
  check(size >= 1 && tokens.length === size && probabilities.length === size, 'tree arrays');
  check(parents[0] === -1 && depths[0] === 0 && tree.ranks[0] === -1 && probabilities[0] === 1, 'tree root');
  // A token looked up that no head listed has no rank and comes after its siblings.
  const ranks = tree.ranks.map((rank) => (rank === -1 ? 0x7fffffff : rank));
  for (let row = 1; row < size; row++) {
    const parent = parents[row];
    check(parent >= 0 && parent < row, `parent ${parent} of row ${row}`);
    check(depths[row] === depths[parent] + 1, `depth of row ${row}`);
    for (let before = 1; before < row; before++) {
      if (parents[before] !== parent) continue;
      const isUnlisted = ranks[before] === 0x7fffffff && ranks[row] === 0x7fffffff;
      check(isUnlisted || ranks[before] < ranks[row], `ranks of rows ${before} and ${row}`);
      check(tree.tokens[before] !== tree.tokens[row], `tokens of rows ${before} and ${row}`);
    }
  }
}

/** A 32-bit hash of a path and its next token. */
function mix(state: number, token: number): number {
  let z = (Math.imul(state ^ 0x9e3779b9, 0x85ebca6b) + Math.imul(token + 1, 0xc2b2ae35)) | 0;
  z = Math.imul(z ^ (z >>> 15), 0x2c1b3c6d);
  z = Math.imul(z ^ (z >>> 12), 0x297a2d39);
  return (z ^ (z >>> 15)) >>> 0;
}

function uniform(hash: number): number {
  return hash / 2 ** 32;
}

function check(condition: boolean, what: string): void {
  if (!condition) throw new Error(`TableModel: ${what}`);
}
