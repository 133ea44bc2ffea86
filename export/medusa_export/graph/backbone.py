"""The backbone graphs. Layer order: norm, attention, norm, gated MLP; residual sums are fused into the norms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..weights.config import ModelConfig
from ..weights.rotation import RotatedSource
from ..weights.source import Array, WeightSource, WeightTensor
from .attention_shared import declare_shared_inputs, shared_attention
from .attention_split import shared_inputs, split_attention
from .builder import GraphBuilder
from .embedding import embed
from .head_norm import head_norms
from .linear import Linear, turn_blocks
from .norm import rms_norm, skip_rms_norm
from .rotary import rotary_tables
from .tail import emit_tail

Progress = Callable[[int, int], None]
Attention = Callable[[int, str], str]  # (layer, qkv [n, (Q + 2G) D]) -> [n, Q D]


def build_split(
    source: WeightSource,
    linear: Linear,
    path: Path,
    keep_embedding_codes: bool,
    progress: Progress,
    sums: str = "float",
) -> GraphBuilder:
    """Layout "split" (CPU): see docs/formats.md for the interface. The caller calls `finish`."""
    c = source.config
    b = GraphBuilder("backbone", path, opset=23)
    ids = b.input("input_ids", "int64", ["n"])
    positions = b.input("position_ids", "int64", ["n"])
    bias = b.input("attention_bias", "float32", ["n", "C + n"])
    rows = b.input("output_rows", "int64", ["r"])
    want = b.input("want_logits", "bool", [])
    past_shape = [1, c.kv_heads, "C", c.head_dim]
    for i in range(c.layers):
        b.input(f"past_key.{i}", "float32", past_shape)
        b.input(f"past_value.{i}", "float32", past_shape)
    tables = rotary_tables(b, c, "float32")
    local = rotary_tables(b, c, "float32", is_local=True) if c.local_rope_theta else tables
    shared = shared_inputs(b, c, bias, positions, tables, local)
    fresh: list[str] = []

    def attend(layer: int, qkv: str) -> str:
        name = f"layers.{layer}.attention"
        past = f"past_key.{layer}", f"past_value.{layer}"
        norms = head_norms(source, layer, "float32")
        window = c.windows[layer] if c.windows else 0
        mixed, k, v = split_attention(b, c, name, qkv, *past, shared, sums, norms, window)
        fresh.extend([k, v])
        return mixed

    x = _scaled(b, c, embed(b, source.tensor("embed.weight"), ids, "float32", keep_embedding_codes), "float32")
    if isinstance(source, RotatedSource):
        x = b.node("MatMul", [x, b.weight("embed.turn", source.stream.dense())])
    x, skip = _layers(b, source, linear, x, attend, progress)
    emit_tail(b, source, linear, x, skip, rows, want)
    stacked = b.node("Concat", fresh, axis=0)  # [2 L, G, n, D]
    b.node("Reshape", [stacked, b.ints(c.layers, 2, c.kv_heads, -1, c.head_dim)], "new_kv")
    b.output("new_kv", "float32", [c.layers, 2, c.kv_heads, "n", c.head_dim])
    return b


def build_shared(source: WeightSource, linear: Linear, path: Path, capacity: int, progress: Progress) -> GraphBuilder:
    """Layout "shared" (CUDA; float32 on the CPU for tests): GroupQueryAttention keeps the cache in place."""
    c = source.config
    b = GraphBuilder("backbone", path)
    shared = declare_shared_inputs(b, c, linear.dtype, capacity)
    rows = b.input("output_rows", "int64", ["r"])
    cache_shape = [1, c.kv_heads, capacity, c.head_dim]
    for i in range(c.layers):
        b.input(f"cache_key.{i}", linear.dtype, cache_shape)
        b.input(f"cache_value.{i}", linear.dtype, cache_shape)

    def attend(layer: int, qkv: str) -> str:
        return shared_attention(b, c, layer, qkv, shared, head_norms(source, layer, linear.dtype))

    ids = b.reshape("input_ids", (-1,), "n", "int64")
    x = _scaled(b, c, embed(b, source.tensor("embed.weight"), ids, linear.dtype, keep_codes=False), linear.dtype)
    x, skip = _layers(b, source, linear, x, attend, progress)
    emit_tail(b, source, linear, x, skip, rows, None)
    for i in range(c.layers):
        b.output(f"cache_key_out.{i}", linear.dtype, cache_shape)
        b.output(f"cache_value_out.{i}", linear.dtype, cache_shape)
    return b


def _scaled(b: GraphBuilder, config: ModelConfig, x: str, dtype: str) -> str:
    """Embeddings times what the model multiplies them by."""
    if config.embed_scale == 1:
        return x
    return b.node("Mul", [x, b.constant("embed_scale", np.asarray(config.embed_scale, np.dtype(dtype)))])


def _layers(
    b: GraphBuilder, source: WeightSource, linear: Linear, x: str, attend: Attention, progress: Progress
) -> tuple[str, str]:
    """All layers; returns (residual, last MLP result), whose sum the tail normalises."""
    c = source.config
    skip = ""
    for i in range(c.layers):
        p = f"layers.{i}."

        def parts(*stems: str, prefix: str = p) -> list[WeightTensor]:
            return [source.tensor(f"{prefix}{stem}.weight") for stem in stems]

        (attn_gain,), (mlp_gain,) = parts("attn_norm"), parts("mlp_norm")
        if i == 0:
            normed = rms_norm(b, p + "attn_norm", x, attn_gain, c.rms_norm_eps, linear.dtype)
        else:
            normed, x = skip_rms_norm(b, p + "attn_norm", x, skip, attn_gain, c.rms_norm_eps, linear.dtype)
        qkv = linear.apply(b, p + "qkv", normed, parts("q", "k", "v"), _qkv_bias(source, p))
        out = linear.apply(b, p + "o", attend(i, qkv), parts("o"))
        if c.post_norms:
            out = rms_norm(b, p + "post_attn_norm", out, parts("post_attn_norm")[0], c.rms_norm_eps, linear.dtype)
        normed, x = skip_rms_norm(b, p + "mlp_norm", x, out, mlp_gain, c.rms_norm_eps, linear.dtype)
        inner = _mlp_inner(b, linear, p, normed, parts("gate", "up"), c)
        if isinstance(source, RotatedSource):
            inner = turn_blocks(b, inner, "inner", source.inner, c.intermediate_size)
        skip = linear.apply(b, p + "down", inner, parts("down"))
        if c.post_norms:
            skip = rms_norm(b, p + "post_mlp_norm", skip, parts("post_mlp_norm")[0], c.rms_norm_eps, linear.dtype)
        progress(i + 1, c.layers)
    return x, skip


def _mlp_inner(
    b: GraphBuilder, linear: Linear, p: str, x: str, gate_up: list[WeightTensor], config: ModelConfig
) -> str:
    """X [n, H] -> activation(gate(x)) * up(x) [n, I]; gate and up are one product."""
    size = config.intermediate_size
    both = linear.apply(b, p + "gate_up", x, gate_up)
    gate, up = b.nodes("Split", [both, b.ints(size, size)], [p + "gate", p + "up"], axis=-1)
    silu = config.activation == "silu"
    active = b.contrib("QuickGelu", [gate], alpha=1.0) if silu else b.node("Gelu", [gate], approximate="tanh")
    return b.node("Mul", [active, up], p + "inner")


def _qkv_bias(source: WeightSource, prefix: str) -> Array | None:
    if not source.config.qkv_bias:
        return None
    return np.concatenate([source.tensor(f"{prefix}{s}.bias").float32() for s in ("q", "k", "v")])
