"""The graph that moves accepted rows together in the cache of layout "shared".

    cache F [2 L G, capacity, D] --Gather(rows [k], axis 1)--> [2 L G, k, D]
                                 --TensorScatter(write_indices [2 L G], axis 1)--> cache_out (the same buffer)

Gather has finished before TensorScatter writes, so overlapping rows are safe.
"""

from __future__ import annotations

from pathlib import Path

from ..weights.config import ModelConfig
from .builder import GraphBuilder


def build_keep(config: ModelConfig, capacity: int, dtype: str, path: Path) -> GraphBuilder:
    """TensorScatter is an operator of opset 24."""
    b = GraphBuilder("keep", path, opset=24)
    count = 2 * config.layers * config.kv_heads
    shape = [count, capacity, config.head_dim]
    cache = b.input("cache", dtype, shape)
    rows = b.input("rows", "int64", ["k"])
    indices = b.input("write_indices", "int64", [count])
    taken = b.node("Gather", [cache, rows], axis=1)
    b.node("TensorScatter", [cache, taken, indices], "cache_out", axis=1, mode="linear")
    b.output("cache_out", dtype, shape)
    return b
