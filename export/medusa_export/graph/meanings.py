"""What the inputs and outputs of the graphs are, as their doc strings say (docs/formats.md has more).

n rows of a run, r wanted rows, C padded past, T columns, V tokens, H hidden size, K heads, m candidates.
"""

from __future__ import annotations

MEANINGS = {
    "input_ids": "tokens of the rows: a piece of the text, or the nodes of a tree, parents before children",
    "position_ids": "place in the text of each row: cached positions + depth in the tree",
    "attention_bias": "added to the scores: 0 where a row sees a column, -1e9 (float16: -10000) where it does not",
    "output_rows": "rows whose results are wanted",
    "want_logits": "whether logits come out",
    "past_key": "cached keys of a layer, rotated; read only, columns beyond the past are not seen",
    "past_value": "cached values of a layer; read only",
    "cache_key": "keys of a layer; the rows of the run are written into it in place",
    "cache_value": "values of a layer; the rows of the run are written into it in place",
    "seqlens_k": "cached positions + rows - 1",
    "total_sequence_length": "columns of the bias, at most the capacity",
    "next_tokens": "most probable next token after each wanted row",
    "logits": "next-token logits of the wanted rows; no rows unless they are wanted",
    "hidden": "state of each wanted row after the final norm: what heads read",
    "new_kv": "keys and values of all rows of this run, by layer, key or value, head: append accepted rows",
    "cache_key_out": "the same buffer as cache_key",
    "cache_value_out": "the same buffer as cache_value",
    "row": "which row of hidden the heads read",
    "top_m": "candidates wanted of each head",
    "token": "the token that the model has chosen already: the root of the next tree",
    "top_ids": "most probable tokens of each head, best first; head k is about the token k + 1 after the root",
    "top_probs": "their probabilities: softmax over the draft vocabulary",
    "context": "what the hidden state adds to the conditional joint",
}


def meaning_of(name: str) -> str:
    """By the name without a layer's number; empty where there is none."""
    return MEANINGS.get(name.split(".")[0], "")
