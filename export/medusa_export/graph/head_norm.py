"""RMSNorm of every head's queries and keys by themselves, before they are rotated (Qwen3).

q [..., D] --RMSNorm(gain [D])--> [..., D], and k with a gain of its own
"""

from __future__ import annotations

from dataclasses import dataclass

from ..weights.source import WeightSource, WeightTensor
from .builder import GraphBuilder
from .norm import rms_norm


@dataclass(frozen=True)
class HeadNorms:
    """Gains [D] of one layer, and what the norms need to know."""

    q_gain: WeightTensor
    k_gain: WeightTensor
    eps: float
    dtype: str

    def apply(self, b: GraphBuilder, name: str, q: str, k: str) -> tuple[str, str]:
        """Both normalised over their last axis, which is the head's."""
        return (
            rms_norm(b, name + ".q_norm", q, self.q_gain, self.eps, self.dtype),
            rms_norm(b, name + ".k_norm", k, self.k_gain, self.eps, self.dtype),
        )


def head_norms(source: WeightSource, layer: int, dtype: str) -> HeadNorms | None:
    """Those of a layer; None where the model has none."""
    if not source.config.qk_norm:
        return None
    q, k = (source.tensor(f"layers.{layer}.{stem}.weight") for stem in ("q_norm", "k_norm"))
    return HeadNorms(q, k, source.config.rms_norm_eps, dtype)
