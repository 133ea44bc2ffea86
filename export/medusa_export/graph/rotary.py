"""Tables of the rotary embedding (halves paired, as in Hugging Face's Llama)."""

from __future__ import annotations

import numpy as np

from ..weights.config import ModelConfig
from .builder import GraphBuilder


def rotary_tables(b: GraphBuilder, config: ModelConfig, dtype: str, positions: int | None = None) -> tuple[str, str]:
    """Cos and sin, [positions, D / 2] each; all of the context length by default."""
    half = config.head_dim // 2
    inverse = config.rope_theta ** (-np.arange(half, dtype=np.float64) / half)
    angle = np.arange(positions or config.context_length)[:, None] * inverse
    kind = np.dtype(dtype)
    return b.weight("rotary.cos", np.cos(angle).astype(kind)), b.weight("rotary.sin", np.sin(angle).astype(kind))
