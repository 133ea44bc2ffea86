"""Attention of layout "split": the past comes in read-only and padded, the step's own keys and values go out.

    qkv [n, (Q + 2G) D]
     | Reshape, Transpose, Split
     |-- q,k [1, Q + G, n, D] -- RotaryEmbedding(position_ids [1, n]) -- Split -- q [1, Q, n, D], k [1, G, n, D]
     '-- v [1, G, n, D]
                                          q grouped by key-value head: [1, G, (Q/G) n, D]
    q x past_k^T * 1/sqrt(D) -> [1, G, (Q/G) n, C] --.
    q x k^T * 1/sqrt(D)      -> [1, G, (Q/G) n, n] --'Concat -> [G, Q/G, n, C + n] -- + bias [n, C + n] -- Softmax
    Softmax --Split--> p_past x past_v + p_new x v -> [1, G, (Q/G) n, D] -> [n, Q D]

Two products (past and new apart) instead of one over the joined keys: joining would copy the past at every layer.

| symbol | meaning |          | symbol | meaning |
|---|---|                     |---|---|
| n | rows of this run |       | Q | query heads |
| C | padded past |            | G | key-value heads |
| D | head size |              | | |
"""

from __future__ import annotations

from dataclasses import dataclass

from ..weights.config import ModelConfig
from .builder import GraphBuilder


@dataclass(frozen=True)
class SplitInputs:
    """Values that every layer shares."""

    position_ids: str  # int64 [1, n]
    bias: str  # float32 [n, C + n]
    parts: str  # int64 [2] = (C, n): how the columns of the scores split
    cos: str  # [positions, D / 2]
    sin: str


def shared_inputs(b: GraphBuilder, bias: str, position_ids: str, cos: str, sin: str) -> SplitInputs:
    """Computes once a run what all layers use."""
    n = b.node("Shape", [position_ids])  # [1]
    columns = b.node("Shape", [bias], start=1, end=2)  # [1] = C + n
    past = b.node("Sub", [columns, n])
    parts = b.node("Concat", [past, n], axis=0)
    positions = b.node("Unsqueeze", [position_ids, b.ints(0)])
    return SplitInputs(positions, bias, parts, cos, sin)


def split_attention(
    b: GraphBuilder,
    config: ModelConfig,
    name: str,
    qkv: str,
    past_key: str,
    past_value: str,
    shared: SplitInputs,
) -> tuple[str, str, str]:
    """Returns (mixed values [n, Q D], new keys [1, G, n, D], new values [1, G, n, D])."""
    heads, groups, size = config.query_heads, config.kv_heads, config.head_dim
    each = b.node("Reshape", [qkv, b.ints(1, -1, heads + 2 * groups, size)])
    by_head = b.node("Transpose", [each], perm=[0, 2, 1, 3])
    qk, v = b.nodes("Split", [by_head, b.ints(heads + groups, groups)], [name + ".qk", name + ".v"], axis=1)
    rotated = b.contrib("RotaryEmbedding", [qk, shared.position_ids, shared.cos, shared.sin], name + ".rotated")
    q, k = b.nodes("Split", [rotated, b.ints(heads, groups)], [name + ".q", name + ".k"], axis=1)
    grouped = b.node("Reshape", [q, b.ints(1, groups, -1, size)])

    alpha = size**-0.5
    old = b.contrib("FusedMatMul", [grouped, past_key], transB=1, alpha=alpha)
    new = b.contrib("FusedMatMul", [grouped, k], transB=1, alpha=alpha)
    p_old, p_new = _probabilities(b, config, name, old, new, shared)
    mixed = b.node("Add", [b.node("MatMul", [p_old, past_value]), b.node("MatMul", [p_new, v])])
    rows = b.node("Transpose", [b.node("Reshape", [mixed, b.ints(1, heads, -1, size)])], perm=[0, 2, 1, 3])
    return b.node("Reshape", [rows, b.ints(-1, heads * size)], name + ".mixed"), k, v


def _probabilities(
    b: GraphBuilder, config: ModelConfig, name: str, old: str, new: str, shared: SplitInputs
) -> tuple[str, str]:
    """Scores [1, G, (Q/G) n, C] and [.., n] -> softmax over both, split again the same way."""
    scores = b.node("Concat", [old, new], axis=-1)
    # The bias [n, C + n] fits [1, Q, n, C + n]; a 0 in the shape keeps the dimension, -1 is inferred.
    per_head = b.node("Reshape", [scores, b.ints(1, config.query_heads, -1, 0)])
    softmax = b.node("Softmax", [b.node("Add", [per_head, shared.bias])], axis=-1)
    grouped = b.node("Reshape", [softmax, b.ints(1, config.kv_heads, -1, 0)])
    p_old, p_new = b.nodes("Split", [grouped, shared.parts], [name + ".p_old", name + ".p_new"], axis=-1)
    return p_old, p_new
