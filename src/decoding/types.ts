/**
 * The vocabulary of the decode loop. Everything in `src/decoding` is model-free: no runtime, no files, no clock.
 *
 * Names: the **root** of a candidate tree is the backbone's own next token, already decided; a **node** is one
 * candidate token; **rows** index the nodes of a tree in the order they were verified; the **bonus** token is the
 * backbone's own choice after the last accepted node, and the root of the next tree.
 */

/**
 * What the Medusa heads propose for the positions after the root.
 * Head k (0-based) speaks about the token k + 1 positions after the root.
 */
export interface HeadProposals {
  /** Number of heads, K >= 1. */
  readonly heads: number;
  /** Candidates per head, m >= 1. */
  readonly topM: number;
  /** [heads, topM] token ids, most probable first. */
  readonly ids: Int32Array;
  /** [heads, topM] probabilities under the softmax over the head's whole (draft) vocabulary, descending. */
  readonly probabilities: Float32Array;
  /**
   * [heads, r] what the hidden state adds to the queries of a `ConditionalTable` of rank r, where the heads give it (their
   * graph's output `context`).
   */
  readonly hiddenTerms?: Float32Array;
}

/**
 * A candidate tree in struct-of-arrays form. Node 0 is the root; parents precede children; siblings are in
 * ascending rank order relative to each other, tokens that no head listed after them.
 */
export interface CandidateTree {
  /** Number of nodes, root included, n >= 1. */
  readonly size: number;
  /** [size] token ids. */
  readonly tokens: Int32Array;
  /** [size] row of each node's parent; -1 for the root. */
  readonly parents: Int32Array;
  /** [size] distance from the root; 0 for the root. */
  readonly depths: Int32Array;
  /** [size] the node's rank within the list of head `depth - 1`; -1 for the root and for tokens that no head listed. */
  readonly ranks: Int32Array;
  /** [size] probability that drafting assigns to the whole path from the root; 1 for the root. */
  readonly probabilities: Float32Array;
}

/** What the backbone says about each requested row. */
export interface VerifiedRows {
  readonly rows: number;
  /** [rows] argmax of the next-token logits. */
  readonly nextTokens: Int32Array;
  /** [rows, vocabSize] next-token logits; present only when they were asked for. */
  readonly logits?: Float32Array;
  /**
   * [vocabSize] the next-token logits of a row, fetched when it is asked for; may be present in place of `logits` when they were
   * wanted `by row`. Holds until the next call of it, or of the model.
   */
  readonly logitsOf?: (row: number) => Float32Array;
  readonly vocabSize: number;
}

export interface VerifyOptions {
  /**
   * Ask for the next-token logits as well (temperature > 0): all of them, or `by row`, where those of a few rows will be read
   * and the rest may stay where they are. Greedy decoding pays nothing for them.
   */
  readonly logits: boolean | 'by row';
}

/**
 * The one seam between the loop and a model: a backbone with its KV cache, and the heads on its hidden states.
 * Calls must not overlap. `keep` may only follow `verify`; `propose` may follow `prefill` or `keep`.
 */
export interface DraftingModel {
  readonly vocabSize: number;
  /** Most positions the cache can hold. */
  readonly contextLength: number;
  /** Number of Medusa heads; 0 when none are loaded. */
  readonly headCount: number;
  /** Most candidates `propose` can return per head. */
  readonly maxTopM: number;
  /** Most tokens that one `prefill` takes, a part of a longer prompt; any number when absent. */
  readonly promptRows?: number;
  /** Positions cached now. */
  readonly cachedLength: number;

  /** Forgets all cached positions from `length` on (0 <= length <= cachedLength). */
  truncate(length: number): void;
  /**
   * Appends `ids` to the cache and returns the last row's result (rows = 1). The function `prefill` does so for any length.
   *
   * @throws RangeError when there are none, more than `promptRows`, or more than the cache has room for
   */
  prefill(ids: ArrayLike<number>, options: VerifyOptions): Promise<VerifiedRows>;
  /** Runs all nodes of `tree` after the cached positions, without changing the cache. One result row per node. */
  verify(tree: CandidateTree, options: VerifyOptions): Promise<VerifiedRows>;
  /** Appends the given rows of the last verified tree (a root-to-node path, root first) to the cache. */
  keep(rows: readonly number[]): Promise<void>;
  /**
   * Runs the heads on the hidden state of the last cached position (the row that chose the next root).
   *
   * @param root the token of the next tree's root; heads that do not read it ignore it
   */
  propose(topM: number, root: number): Promise<HeadProposals>;
  /** Frees sessions and buffers. */
  dispose(): Promise<void>;
}

/** The outcome of acceptance: a root-to-node path and the token that follows it. */
export interface AcceptedPath {
  /** Accepted rows, root (row 0) first; length >= 1. */
  readonly rows: readonly number[];
  /** The backbone's token after the last accepted row. */
  readonly bonus: number;
}

/** Chooses the accepted path of a verified tree. */
export interface Acceptance {
  readonly name: AcceptanceName;
  /** Whether `accept` reads logits. */
  readonly needsLogits: boolean;
  /** The first token after the prompt (rows = 1). */
  firstToken(result: VerifiedRows): number;
  accept(tree: CandidateTree, result: VerifiedRows): AcceptedPath;
}

export type AcceptanceName = 'greedy' | 'sampling' | 'typical' | 'nucleus';

/** What a tree must not exceed. */
export interface TreeLimits {
  /** Most nodes, root included, >= 1: the positions the cache has left. */
  readonly nodes: number;
  /** Largest depth; 0 allows the root only. Deeper nodes could not be emitted any more. */
  readonly depth: number;
}

/** Decides which tree, if any, each step verifies. */
export interface TreePolicy {
  readonly name: 'dynamic' | 'static' | 'none';
  /**
   * How many candidates per head the next step needs; 0 when the heads are not to be run at all: when the step should be
   * plain (as where `limits` leave room for the root only), or the tree comes from other sources.
   */
  wantedTopM(limits?: TreeLimits): number;
  /**
   * The tree of the next step, within `limits`. `proposals` is undefined exactly when `wantedTopM()` returned 0 for
   * the same limits.
   *
   * @param text the prompt and all tokens since, the root last; only sources beside the heads read it
   */
  build(
    root: number,
    proposals: HeadProposals | undefined,
    limits?: TreeLimits,
    text?: readonly number[],
  ): CandidateTree;
  /** Feedback after a step. Times in milliseconds. */
  observe(step: StepObservation): void;
}

export interface StepObservation {
  /** What `build` returned last. */
  readonly tree: CandidateTree;
  /** Its accepted rows, root first: as many as the step added tokens. */
  readonly rows: readonly number[];
  /** The token after the last of them. */
  readonly bonus: number;
  /** [tree.size] the base model's most probable token after each row. */
  readonly nextTokens: ArrayLike<number>;
  /** The prompt and all tokens since, the root last: as `build` was given it. */
  readonly text: readonly number[];
  readonly times: StageTimes;
}

/** Milliseconds spent in each stage of a step. */
export interface StageTimes {
  heads: number;
  tree: number;
  backbone: number;
  accept: number;
  /** Appending accepted rows to the cache (CPU) or compacting it on the device (CUDA). */
  keep: number;
  /** Everything else: detokenising, stop checks, the consumer. */
  rest: number;
}

export type FinishReason = 'eos' | 'stop' | 'length' | 'context' | 'aborted';

/** Why a token was the last one. */
export type StopReason = Exclude<FinishReason, 'context' | 'aborted'>;

/** Is shown each new token in turn, and says when a generation ends. The last token is part of the output and is counted. */
export interface StoppingCriteria {
  /** Returns why the generation ends with this token, or undefined to go on. */
  push(token: number): StopReason | undefined;
}

/** One verification step, as the loop reports it. The prefill is reported as step 0 with no tree. */
export interface DecodeStep {
  /** 0 for the prefill, then 1, 2, ... */
  readonly index: number;
  /** Tokens this step added, already cut at the stop. */
  readonly tokens: readonly number[];
  readonly tree?: CandidateTree;
  readonly accepted?: AcceptedPath;
  readonly proposals?: HeadProposals;
  readonly times: StageTimes;
  readonly finishReason?: FinishReason;
}

/** Counts of one generation. Prefill is an inference but not a step. */
export interface DecodeStatistics {
  readonly promptTokens: number;
  /** Prompt tokens found in the cache and not computed again. */
  readonly cachedPromptTokens: number;
  readonly newTokens: number;
  /** Verification runs, prefill excluded. */
  readonly steps: number;
  /** steps + 1. */
  readonly inferences: number;
  /** Tokens added by verification steps / steps; the first token belongs to the prefill. 0 without steps. */
  readonly tokensPerStep: number;
  /** All new tokens / inferences (the MEDUSA-Plus notebook's rule). */
  readonly tokensPerInference: number;
  /** [steps] tokens added by each step. */
  readonly acceptLengths: readonly number[];
  /** [steps] nodes verified by each step. */
  readonly nodeCounts: readonly number[];
  readonly finishReason: FinishReason;
  readonly times: StageTimes;
  readonly prefillTime: number;
  readonly wallTime: number;
}
