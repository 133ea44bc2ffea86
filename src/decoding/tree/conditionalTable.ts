/** What is applied to a query before it meets the candidates. */
export type TableActivation = 'none' | 'silu';

/**
 * A learnt correction of the joint probability of head candidates: how well a candidate y goes with the tokens before
 * it, as a low-rank score: the product of a query c, made from those tokens, with what stands for y
 *
 *     s(y) = c . B[y],   c = g_k * activation(A_1[x_{j-1}] + ... + A_D[x_{j-D}] + z_k + l_k)
 *
 * for a candidate at depth j of a tree, where x_{j-1}, x_{j-2}, ... are its ancestors (the root, x_0, the last) and z_k is
 * what the heads graph may give for head k = j - 1 (`HeadProposals.hiddenTerms`). l_k and g_k, where there are any, tell the
 * heads apart. Everything is final: scales and temperatures are folded in.
 */
export interface ConditionalTable {
  /** r, the length of a query. */
  readonly rank: number;
  /** D, how many ancestors count. */
  readonly distances: number;
  readonly activation: TableActivation;
  /** Whether z_k is part of the sum. */
  readonly usesHidden: boolean;
  /** [K, r] each, l and g of every head; undefined where heads are treated alike. */
  readonly perHead: { readonly biases: Float32Array; readonly gains: Float32Array } | undefined;
  /** V, the model's vocabulary. */
  readonly vocabSize: number;
  /** A_1, A_2, ...: what each token adds to the query of the tokens 1, 2, ... after it. */
  readonly inputs: InputRows;
  /** [V', r] B, one row for each token that has a score. */
  readonly outputs: Float32Array;
  /** [V] the row of each token in `outputs`; -1 for a token without one, whose score is 0. */
  readonly outputRows: Int32Array;
}

/**
 * The rows of A_1, A_2, ..., r float32 values each. Few of them are ever needed: where they are is up to the implementation.
 */
export interface InputRows {
  /** Holds the row that was found last. */
  readonly values: Float32Array;

  /**
   * Where in `values` the row A_{distance + 1}[token] begins. It stays there until the next call.
   *
   * @param distance 0 .. D - 1
   * @param token 0 .. V - 1
   */
  find(distance: number, token: number): number;
}

/** @param values [D, V, r] */
export function rowsInMemory(values: Float32Array, vocabSize: number, rank: number): InputRows {
  return { values, find: (distance, token) => (distance * vocabSize + token) * rank };
}

/** The table that scores nothing: a search with it multiplies the heads' probabilities. */
export const scoreless: ConditionalTable = {
  rank: 0,
  distances: 0,
  activation: 'none',
  usesHidden: false,
  perHead: undefined,
  vocabSize: 0,
  inputs: rowsInMemory(new Float32Array(0), 0, 0),
  outputs: new Float32Array(0),
  outputRows: new Int32Array(0),
};
