"""Tables of the rotary embedding (halves paired, as in Hugging Face's Llama)."""

from __future__ import annotations

import numpy as np

from ..weights.config import ModelConfig
from ..weights.rope import inverse_frequencies, rotary_scales
from .builder import GraphBuilder


def rotary_tables(b: GraphBuilder, config: ModelConfig, dtype: str, positions: int | None = None) -> tuple[str, str]:
    """Cos and sin, [positions, D / 2] each; all of the context length by default."""
    angle = np.arange(positions or config.context_length)[:, None] * inverse_frequencies(config)
    kind = np.dtype(dtype)
    cos, sin = np.cos(angle), np.sin(angle)
    if config.rope_scale != 1:
        cos, sin = cos * rotary_scales(config), sin * rotary_scales(config)
    return b.weight("rotary.cos", cos.astype(kind)), b.weight("rotary.sin", sin.astype(kind))
