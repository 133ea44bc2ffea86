"""Products with block-quantised weights through MatMulNBits (accuracy level 4: int8 products, one activation scale
for each block of each row, so rows are independent).

MatMulNBits stores W [N, K] as uint8 [N, K / block, block * bits / 8], scales float32 [N, K / block] and zero points
uint8 [N, ceil(K / block * bits / 8)]; w = (code - zero) * scale. 4-bit codes: the even element in the low half.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..weights.source import Array, WeightTensor
from .builder import GraphBuilder
from .linear import Linear, TurnedInt8Linear, add_bias, stack

_CHUNK = 1 << 20  # bytes of weights that are quantised at a time: what is made of them stays in a processor's caches


class NBitsLinear:
    """Weights quantised again: asymmetric, `bits` 4 or 8, blocks of `block` along K.

    x [n, K] --MatMulNBits--> [n, N]

    The LM head goes through `head`, where one is given.
    """

    dtype = "float32"

    def __init__(self, bits: int, block: int, head: Linear | None = None) -> None:
        self._bits, self._block, self._head = bits, block, head

    def apply(self, b: GraphBuilder, name: str, x: str, parts: list[WeightTensor], bias: Array | None = None) -> str:
        if self._head is not None and name == "lm_head":
            return self._head.apply(b, name, x, parts, bias)
        codes, scale, zero = quantise_blocks(stack(parts), self._bits, self._block)
        return emit_nbits(b, name, x, codes, scale, zero, self._bits, self._block, bias)


class ExactQ4Linear:
    """Q4_0 and Q4_1 weights as they are: codes through MatMulNBits, block offsets as a second small product.

    w = code * d + m = (code - z) * d + (m + z d), z the whole number nearest -m/d that a zero point can hold

    x [n, K] --MatMulNBits(codes, z, d)------------------------------------> [n, N] --Add--> y
      '--Reshape [n, K/32, 32]--ReduceSum--> [n, K/32] --MatMul(m + z d)--> [n, N] --'

    Other tensors are quantised again: the LM head as `TurnedInt8Linear` has it, and through MatMulNBits Q8_0 ones to 8
    bits, floats to 4.
    """

    dtype = "float32"
    _eight, _four = NBitsLinear(8, 32), NBitsLinear(4, 32)

    def __init__(self, unsigned_weights: bool = False) -> None:
        self._head = TurnedInt8Linear(unsigned_weights)

    def apply(self, b: GraphBuilder, name: str, x: str, parts: list[WeightTensor], bias: Array | None = None) -> str:
        blocks = [part.blocks() for part in parts]
        found = [block for block in blocks if block is not None and block.bits == 4 and block.offset is not None]
        if len(found) != len(parts):
            if name == "lm_head":
                return self._head.apply(b, name, x, parts, bias)
            has_codes = any(block is not None for block in blocks)
            return (self._eight if has_codes else self._four).apply(b, name, x, parts, bias)
        codes = np.concatenate([block.codes for block in found])
        scale = np.concatenate([block.scale for block in found])
        offset = np.concatenate([block.offset for block in found if block.offset is not None])
        safe = np.where(scale == 0, 1, scale)
        zero = np.clip(np.rint(-offset / safe), 0, 15).astype(np.uint8)
        block = found[0].block
        y = emit_nbits(b, name, x, codes, scale, zero, 4, block, bias)
        rest = offset + zero * scale  # [N, K / block]
        if not np.any(rest):
            return y
        sums = b.node("ReduceSum", [b.reshape(x, (-1, rest.shape[1], block), b.rows), b.ints(-1)], keepdims=0)
        small = b.node("MatMul", [sums, b.weight(name + ".offset", np.ascontiguousarray(rest.T))])
        return b.node("Add", [y, small], name + ".exact")


def quantise_blocks(weight: Array, bits: int, block: int) -> tuple[Array, Array, Array]:
    """[N, K] -> codes [N, K] uint8, scale [N, K / block] float32, zero [N, K / block] uint8."""
    n, k = weight.shape
    codes = np.empty((n, k), np.uint8)
    scale, zero = np.empty((n, k // block), np.float32), np.empty((n, k // block), np.uint8)
    rows = max(1, _CHUNK // (4 * k))

    def quantise(start: int) -> None:
        part = slice(start, start + rows)
        codes[part], scale[part], zero[part] = _quantise_rows(weight[part], bits, block)

    # numpy lets go of the interpreter's lock, so that threads share the work.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(quantise, range(0, n, rows)))
    return codes, scale, zero


def _quantise_rows(weight: Array, bits: int, block: int) -> tuple[Array, Array, Array]:
    n, k = weight.shape
    top = 2**bits - 1
    blocks = weight.reshape(n, k // block, block)
    low, high = np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)
    scale = (high - low) / top
    scale[scale == 0] = 1
    zero = np.clip(np.rint(-low / scale), 0, top)
    codes = np.clip(np.rint(blocks / scale[:, :, None]) + zero[:, :, None], 0, top)
    return codes.astype(np.uint8).reshape(n, k), scale.astype(np.float32), zero.astype(np.uint8)


def emit_nbits(
    b: GraphBuilder,
    name: str,
    x: str,
    codes: Array,
    scale: Array,
    zero: Array,
    bits: int,
    block: int,
    bias: Array | None = None,
) -> str:
    """One MatMulNBits node; codes [N, K] and zero [N, K / block] come unpacked.

    Zero points go along even where all are the middle of the codes, as in Q4_0: without them ONNX Runtime's kernels for
    ARM round activations by row and scales to bfloat16.
    """
    n, k = codes.shape
    packed = codes.reshape(n, k // block, block)
    if bits == 4:
        packed = packed[..., 0::2] | (packed[..., 1::2] << 4)
        if zero.shape[1] % 2:
            zero = np.concatenate([zero, np.zeros((n, 1), np.uint8)], axis=1)
        zero = zero[:, 0::2] | (zero[:, 1::2] << 4)
    inputs = [x, b.weight(name + ".codes", packed), b.weight(name + ".scale", scale), b.weight(name + ".zero", zero)]
    attributes = {"K": k, "N": n, "bits": bits, "block_size": block, "accuracy_level": 4}
    return add_bias(b, name, b.contrib("MatMulNBits", inputs, name, **attributes), bias)
