"""RMSNorm, alone and fused with the residual addition before it.

x [n, H] --SimplifiedLayerNormalization(gain [H])--> [n, H]
x [n, H], skip [n, H] --SkipSimplifiedLayerNormalization--> norm(x + skip), x + skip
"""

from __future__ import annotations

import numpy as np

from ..weights.source import WeightTensor
from .builder import CONTRIB, GraphBuilder


def rms_norm(b: GraphBuilder, name: str, x: str, gain: WeightTensor, eps: float, dtype: str) -> str:
    weight = b.weight(name + ".weight", gain.float32().astype(np.dtype(dtype)))
    return b.node("SimplifiedLayerNormalization", [x, weight], name, axis=-1, epsilon=eps, stash_type=1)


def skip_rms_norm(
    b: GraphBuilder, name: str, x: str, skip: str, gain: WeightTensor, eps: float, dtype: str, output: str = ""
) -> tuple[str, str]:
    """Returns (normalised sum, sum); the former is called `output`, else `name`."""
    weight = b.weight(name + ".weight", gain.float32().astype(np.dtype(dtype)))
    outputs = [output or name, "", "", name + ".sum"]
    b.nodes("SkipSimplifiedLayerNormalization", [x, skip, weight], outputs, CONTRIB, epsilon=eps)
    return outputs[0], outputs[-1]
