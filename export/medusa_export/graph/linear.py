"""Matrix products y = x W^T + b in each precision. x: [n, K], W: [N, K] (rows may come from several tensors).

Every variant treats the rows of x independently: a row's result depends on that row alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from ..weights.rotation import hadamard_of
from ..weights.source import Array, WeightTensor
from .builder import GraphBuilder

INT8_MAX = 127
WEIGHT_ZERO = 128  # of int8 codes kept as uint8


class Linear(Protocol):
    """One way to multiply by a weight matrix."""

    dtype: str  # of x and y

    def apply(self, b: GraphBuilder, name: str, x: str, parts: list[WeightTensor], bias: Array | None = None) -> str:
        """Emit y [n, N] = x [n, K] times the stacked `parts`, plus `bias` [N]."""
        ...


def stack(parts: list[WeightTensor]) -> Array:
    """[N, K] float32."""
    return parts[0].float32() if len(parts) == 1 else np.concatenate([p.float32() for p in parts])


def add_bias(b: GraphBuilder, name: str, y: str, bias: Array | None) -> str:
    if bias is None:
        return y
    return b.node("Add", [y, b.weight(name + ".bias", bias)], name + ".biased")


class FloatLinear:
    """fp32 or fp16: one MatMul with the transposed weights.

    x [n, K] --MatMul(W^T [K, N])--> [n, N] (--Add(bias [N])-->)
    """

    def __init__(self, dtype: str = "float32") -> None:
        self.dtype = dtype
        self._numpy = np.dtype(dtype)

    def apply(self, b: GraphBuilder, name: str, x: str, parts: list[WeightTensor], bias: Array | None = None) -> str:
        weight = b.weight(name + ".weight", stack(parts).T.astype(self._numpy))
        y = b.node("MatMul", [x, weight], name)
        return add_bias(b, name, y, None if bias is None else bias.astype(self._numpy))


class Int8RowLinear:
    """int8 weights with one scale a row of W, uint8 activations (or of fewer bits) with one scale a row of x.

    x [n, K] --Abs, ReduceMax--> [n, 1] --x 1/127--> s [n, 1]
    x --QuantizeLinear(s, zero point 128, blocks of K)--> u8 [n, K]
      --MatMulIntegerToFloat(s, W^T int8 [K, N], column scales [N])--> y [n, N]

    A scale s of two dimensions is multiplied after the column scales, whatever n is. One element of one dimension
    would be multiplied into the column scales first, which rounds otherwise: a row alone would get other bits.

    With `unsigned_weights` W^T is uint8 with zero point 128: the same products, without the saturating kernel that
    processors without VNNI have for int8.
    """

    dtype = "float32"

    def __init__(self, activation_bits: int = 8, unsigned_weights: bool = False) -> None:
        self._zero = 2 ** (activation_bits - 1)
        self._unsigned = unsigned_weights

    def apply(self, b: GraphBuilder, name: str, x: str, parts: list[WeightTensor], bias: Array | None = None) -> str:
        codes, scale = quantise_rows(stack(parts))
        if self._unsigned:
            codes = (codes.astype(np.int16) + WEIGHT_ZERO).astype(np.uint8)
        weight, scale_name = b.weight(name + ".weight", codes.T), b.weight(name + ".scale", scale)
        return self.apply_codes(b, name, x, codes.shape[1], weight, scale_name, bias)

    def apply_codes(
        self, b: GraphBuilder, name: str, x: str, width: int, weight: str, scale: str, bias: Array | None = None
    ) -> str:
        """The same with codes [K, N] and scales [N] that are in the graph already; `width`: K."""
        peak = b.node("ReduceMax", [b.node("Abs", [x]), b.ints(-1)], keepdims=1)
        most = self._zero - 1
        row_scale = b.node("Mul", [peak, b.constant(f"f32.1_{most}", 1 / most)])  # [n, 1]
        zero_point = b.constant(f"u8.{self._zero}", np.uint8(self._zero))
        # QuantizeLinear wants a zero point for each scale: n times the same, made once for all products of these rows.
        zero_points = b.once("zero_points", lambda: b.node("Expand", [zero_point, b.node("Shape", [row_scale])]))
        quantised = b.node("QuantizeLinear", [x, row_scale, zero_points], axis=1, block_size=width)
        zero_points_of_weight = [b.constant("weight_zero", np.uint8(WEIGHT_ZERO))] if self._unsigned else []
        inputs = [quantised, weight, row_scale, scale, zero_point, *zero_points_of_weight]
        y = b.contrib("MatMulIntegerToFloat", inputs, name)
        return add_bias(b, name, y, bias)


class TurnedInt8Linear:
    """`Int8RowLinear` whose channels are mixed first, in blocks of B, so that none of x is much larger than the others.

    x [n, K] --Reshape [n K/B, B]--MatMul(H [B, B])--Reshape--> x H [n, K] --int8 products with W H--> y [n, N]

    H is an orthogonal Hadamard matrix, so x H (W H)^T = x W^T. Where the residual stream is rotated this is not needed.
    """

    dtype = "float32"

    def __init__(self, unsigned_weights: bool = False) -> None:
        self._rows = Int8RowLinear(unsigned_weights=unsigned_weights)

    def apply(self, b: GraphBuilder, name: str, x: str, parts: list[WeightTensor], bias: Array | None = None) -> str:
        matrix = hadamard_of(parts[0].shape[1])
        turned = [replace(part, read=lambda part=part: turn_rows(part.float32(), matrix)) for part in parts]
        return self._rows.apply(b, name, turn_blocks(b, x, name, matrix, parts[0].shape[1]), turned, bias)


def turn_blocks(b: GraphBuilder, x: str, name: str, matrix: Array, size: int) -> str:
    """X [n, size], every block of B channels times `matrix` [B, B], which is written once as `name`.turn."""
    blocks = b.reshape(x, (-1, len(matrix)), f"{size // len(matrix)}{b.rows}")
    turned = b.node("MatMul", [blocks, b.weight(f"{name}.turn", matrix)])
    return b.reshape(turned, (-1, size), b.rows)


def turn_rows(weight: Array, matrix: Array) -> Array:
    """Weights [N, K] for channels that `turn_blocks` has turned."""
    return (weight.reshape(-1, len(matrix)) @ matrix).reshape(weight.shape)


def quantise_rows(weight: Array) -> tuple[Array, Array]:
    """Symmetric int8 with one scale a row: [N, K] float32 -> codes [N, K] int8, scale [N] float32."""
    scale = np.abs(weight).max(axis=1) / INT8_MAX
    scale[scale == 0] = 1
    codes = np.rint(weight / scale[:, None]).astype(np.int8)
    return codes, scale.astype(np.float32)
