"""RMSNorm, alone and fused with the residual addition before it.

x [n, H] --RMSNormalization(gain [H])--> [n, H]
x [n, H], skip [n, H] --SkipSimplifiedLayerNormalization--> norm(x + skip), x + skip

Opset 23 has RMSNormalization. On CPUs ONNX Runtime gives the same bits in the same time as with its own
SimplifiedLayerNormalization, which stands in the standard domain without being in the standard. Graphs of an earlier
opset (layout "shared") keep the latter: nobody has measured the former on a GPU.
"""

from __future__ import annotations

import numpy as np

from ..weights.source import WeightTensor
from .builder import CONTRIB, GraphBuilder


def rms_norm(b: GraphBuilder, name: str, x: str, gain: WeightTensor, eps: float, dtype: str) -> str:
    weight = b.weight(name + ".weight", gain.float32().astype(np.dtype(dtype)))
    op = "RMSNormalization" if b.opset >= 23 else "SimplifiedLayerNormalization"
    return b.node(op, [x, weight], name, axis=-1, epsilon=eps, stash_type=1)


def skip_rms_norm(
    b: GraphBuilder, name: str, x: str, skip: str, gain: WeightTensor, eps: float, dtype: str, output: str = ""
) -> tuple[str, str]:
    """Returns (normalised sum, sum); the former is called `output`, else `name`."""
    weight = b.weight(name + ".weight", gain.float32().astype(np.dtype(dtype)))
    outputs = [output or name, "", "", name + ".sum"]
    b.nodes("SkipSimplifiedLayerNormalization", [x, skip, weight], outputs, CONTRIB, epsilon=eps)
    return outputs[0], outputs[-1]
