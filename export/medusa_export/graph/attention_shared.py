"""Attention of layout "shared": GroupQueryAttention rotates, writes the step's keys and values into the cache in
place at past .. past + n - 1, and attends with an explicit bias.

    qkv [1, n, (Q + 2G) D], cache_key.i, cache_value.i, seqlens_k, total_sequence_length, cos, sin, position_ids,
    attention_bias
      --GroupQueryAttention(do_rotary)--> [1, n, Q D], cache_key_out.i, cache_value_out.i  (the same buffers)

Queries, keys and values go in as one tensor: splitting them would be a kernel of its own in each layer. Where queries
and keys have norms (Qwen3), they are split first and go in as q [1, n, Q D], k and v [1, n, G D].

| input | dtype | shape | |
|---|---|---|---|
| attention_bias | F | [1, 1, n, T] | exactly T = total_sequence_length columns, the query's own type |
| seqlens_k | int32 | [1] | past + n - 1 |
| total_sequence_length | int32 | [] | T, a bucket <= capacity |
| cache_key.i, cache_value.i | F | [1, G, capacity, D] | |

Traps: GQA adds its own causal mask, so tree nodes must come parents first; on the CPU, with n == T, only the first
position id counts, so T must exceed n.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..weights.config import ModelConfig
from .builder import CONTRIB, GraphBuilder
from .head_norm import HeadNorms
from .rotary import rotary_tables


@dataclass(frozen=True)
class SharedInputs:
    """Values that every layer shares."""

    bias: str  # F [1, 1, n, T]
    position_ids: str  # int64 [1, n]
    tables: tuple[str, str]  # cos and sin
    local_tables: tuple[str, str]  # of the layers with a window


def declare_shared_inputs(b: GraphBuilder, config: ModelConfig, dtype: str, capacity: int) -> SharedInputs:
    """The inputs of the graph up to the cache. The rotary tables span the capacity: no position lies beyond it."""
    b.input("input_ids", "int64", [1, "n"])
    b.input("position_ids", "int64", [1, "n"])
    b.input("attention_bias", dtype, [1, 1, "n", "T"])
    b.input("seqlens_k", "int32", [1])
    b.input("total_sequence_length", "int32", [])
    tables = rotary_tables(b, config, dtype, capacity)
    local = rotary_tables(b, config, dtype, capacity, is_local=True) if config.local_rope_theta else tables
    return SharedInputs("attention_bias", "position_ids", tables, local)


def shared_attention(
    b: GraphBuilder, config: ModelConfig, layer: int, qkv: str, shared: SharedInputs, norms: HeadNorms | None = None
) -> str:
    """Qkv [n, (Q + 2G) D] -> [n, Q D]; declares nothing, but names the outputs cache_key_out.i, cache_value_out.i."""
    name = f"layers.{layer}.attention"
    if norms is None:
        fresh = [b.node("Unsqueeze", [qkv, b.ints(0)]), "", ""]
    else:
        fresh = _normalised(b, config, name, qkv, norms)
    inputs = [
        *fresh, f"cache_key.{layer}", f"cache_value.{layer}", "seqlens_k", "total_sequence_length",
        *(shared.local_tables if config.windows and config.windows[layer] else shared.tables),
        shared.position_ids, shared.bias,
    ]  # fmt: skip
    outputs = [name, f"cache_key_out.{layer}", f"cache_value_out.{layer}"]
    b.nodes(
        "GroupQueryAttention", inputs, outputs, CONTRIB,
        num_heads=config.query_heads, kv_num_heads=config.kv_heads, scale=config.score_scale, do_rotary=1,
        rotary_interleaved=0,
    )  # fmt: skip
    return b.node("Squeeze", [name, b.ints(0)])


def _normalised(b: GraphBuilder, config: ModelConfig, name: str, qkv: str, norms: HeadNorms) -> list[str]:
    """Qkv [n, (Q + 2G) D] -> q [1, n, Q D] and k [1, n, G D], every head normalised, and v [1, n, G D]."""
    heads, groups, size = config.query_heads, config.kv_heads, config.head_dim
    each = b.reshape(qkv, (1, -1, heads + 2 * groups, size), "n", norms.dtype)
    parts = [f"{name}.{part}_plain" for part in "qkv"]
    q, k, v = b.nodes("Split", [each, b.ints(heads, groups, groups)], parts, axis=2)
    widths = (heads * size, groups * size, groups * size)
    flat = zip((*norms.apply(b, name, q, k), v), widths, strict=True)
    return [b.reshape(x, (1, -1, width), "n", norms.dtype) for x, width in flat]
