"""Tables of the rotary embedding (halves paired, as in Hugging Face's Llama)."""

from __future__ import annotations

import numpy as np

from ..weights.config import ModelConfig
from ..weights.rope import inverse_frequencies, rotary_scales
from .builder import GraphBuilder


def rotary_tables(
    b: GraphBuilder, config: ModelConfig, dtype: str, positions: int | None = None, is_local: bool = False
) -> tuple[str, str]:
    """Cos and sin, [positions, D / 2] each; of the context length by default. `is_local`: of layers with a window."""
    angle = np.arange(positions or config.context_length)[:, None] * inverse_frequencies(config, is_local)
    kind = np.dtype(dtype)
    cos, sin = np.cos(angle), np.sin(angle)
    if is_local:
        return b.weight("rotary.local.cos", cos.astype(kind)), b.weight("rotary.local.sin", sin.astype(kind))
    if config.rope_scale != 1:
        cos, sin = cos * rotary_scales(config), sin * rotary_scales(config)
    return b.weight("rotary.cos", cos.astype(kind)), b.weight("rotary.sin", sin.astype(kind))
