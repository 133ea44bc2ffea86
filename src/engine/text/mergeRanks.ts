/** Ranks of pairs of tokens, asked for as the tokenizers library does: by the pair's JSON text. */
export interface MergeRanks {
  get(pair: string): number | undefined;
}

type Merge = string | readonly [string, string];

/**
 * The ranks of a BPE's merges, where they stand in the vocabulary one behind the other, as trainers write them: the rank of a
 * pair then follows from the id of what it gives. Nothing is built that a short prompt would not ask for; the library's own map
 * of all pairs takes several times as long as the look at their order.
 *
 * @param model the `model` of a tokenizer.json
 * @returns undefined where the merges stand in another order, or the model is no BPE
 */
export function mergeRanks(model: object | undefined): MergeRanks | undefined {
  const { type, vocab, merges } = (model ?? {}) as {
    type?: string;
    vocab?: Record<string, number>;
    merges?: readonly Merge[];
  };
  if (type !== 'BPE' || !vocab || !merges || merges.length === 0) return undefined;
  const first = idOf(vocab, pairOf(merges[0]).join(''));
  if (first === undefined) return undefined;
  for (let rank = 0; rank < merges.length; rank++) {
    const [left, right] = pairOf(merges[rank]);
    if (vocab[left + right] !== first + rank) return undefined;
  }
  // All give other tokens, so no pair but the one at the token's rank is a merge.
  return {
    get: (pair) => {
      const [left, right] = JSON.parse(pair) as [string, string];
      const rank = (idOf(vocab, left + right) ?? -1) - first;
      if (rank < 0 || rank >= merges.length) return undefined;
      return pairOf(merges[rank])[0] === left ? rank : undefined;
    },
  };
}

const pairOf = (merge: Merge): readonly string[] => (typeof merge === 'string' ? merge.split(' ', 2) : merge);

/** Names of Object.prototype are no tokens. */
function idOf(vocab: Record<string, number>, token: string): number | undefined {
  const id: unknown = vocab[token];
  return typeof id === 'number' ? id : undefined;
}
