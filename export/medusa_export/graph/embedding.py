"""Token embeddings: a table of floats, as wide as the checkpoint's, or the codes of a Q8_0, Q4_0 or Q4_1 matrix with
their scales (a quarter of the size) and, of Q4_1, offsets.

input_ids [n] --Gather(codes [V, H])-----> [n, H] --Cast, Reshape--> [n, H/32, 32] --Mul--(Add)--> [n, H]
              |-Gather(scales [V, H/32])-------------------------> [n, H/32, 1] --'     |
              '-Gather(offsets [V, H/32])------------------------> [n, H/32, 1] --------'
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
from onnx import TensorProto

from ..weights.source import Array, WeightTensor
from .builder import GraphBuilder

_SIXTEEN_BITS = {"F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}


def embed(b: GraphBuilder, table: WeightTensor, input_ids: str, dtype: str, keep_codes: bool) -> str:
    """input_ids int64 [n] -> [n, H] of `dtype`. With `keep_codes`, a table in blocks stays as it is."""
    blocks = table.blocks() if keep_codes else None
    if blocks is None:
        kept = _SIXTEEN_BITS.get(table.type_name) if dtype == "float32" else None
        if kept is None:
            weight = b.weight("embed.weight", table.float32().astype(np.dtype(dtype)))
            return b.node("Gather", [weight, input_ids], "embedded", axis=0)
        # Half the size, and exact: the checkpoint has no more bits.
        rows = b.node("Gather", [b.weight("embed.weight", table.float32().astype(kept)), input_ids], axis=0)
        return b.node("Cast", [rows], "embedded", to=TensorProto.FLOAT)
    hidden = table.shape[1]
    codes, offset = blocks.codes, blocks.offset
    if offset is not None and np.array_equal(offset, -8 * blocks.scale):  # Q4_0
        codes, offset = codes.astype(np.int8) - np.int8(8), None

    def of_blocks(name: str, values: Array) -> str:
        return b.node("Unsqueeze", [b.node("Gather", [b.weight(name, values), input_ids], axis=0), b.ints(-1)])

    rows = b.node("Gather", [b.weight("embed.codes", codes), input_ids], axis=0)
    values = b.node("Cast", [rows], to=TensorProto.FLOAT)
    in_blocks = b.reshape(values, (-1, hidden // blocks.block, blocks.block), b.rows)
    scaled = b.node("Mul", [in_blocks, of_blocks("embed.scale", blocks.scale)])
    if offset is not None:
        scaled = b.node("Add", [scaled, of_blocks("embed.offset", offset)])
    return b.reshape(scaled, (-1, hidden), b.rows, name="embedded")
