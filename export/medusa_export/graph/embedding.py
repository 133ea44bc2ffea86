"""Token embeddings: a table of floats, as wide as the checkpoint's, or the codes of a Q8_0 matrix with their scales (a
quarter of the size).

input_ids [n] --Gather(codes int8 [V, H])--> [n, H] --Cast, Reshape--> [n, H/32, 32] --Mul--> [n, H]
              '-Gather(scales [V, H/32])----------------------------> [n, H/32, 1] --'
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
from onnx import TensorProto

from ..weights.source import WeightTensor
from .builder import GraphBuilder

_SIXTEEN_BITS = {"F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}


def embed(b: GraphBuilder, table: WeightTensor, input_ids: str, dtype: str, keep_codes: bool) -> str:
    """input_ids int64 [n] -> [n, H] of `dtype`. With `keep_codes`, a Q8_0 table stays as it is."""
    blocks = table.blocks() if keep_codes else None
    if blocks is None or blocks.offset is not None:
        kept = _SIXTEEN_BITS.get(table.type_name) if dtype == "float32" else None
        if kept is None:
            weight = b.weight("embed.weight", table.float32().astype(np.dtype(dtype)))
            return b.node("Gather", [weight, input_ids], "embedded", axis=0)
        # Half the size, and exact: the checkpoint has no more bits.
        rows = b.node("Gather", [b.weight("embed.weight", table.float32().astype(kept)), input_ids], axis=0)
        return b.node("Cast", [rows], "embedded", to=TensorProto.FLOAT)
    hidden = table.shape[1]
    codes = b.node("Gather", [b.weight("embed.codes", blocks.codes), input_ids], axis=0)
    scale = b.node("Gather", [b.weight("embed.scale", blocks.scale), input_ids], axis=0)
    values = b.node("Cast", [codes], to=TensorProto.FLOAT)
    in_blocks = b.reshape(values, (-1, hidden // blocks.block, blocks.block), b.rows)
    scaled = b.node("Mul", [in_blocks, b.node("Unsqueeze", [scale, b.ints(-1)])])
    return b.reshape(scaled, (-1, hidden), b.rows, name="embedded")
