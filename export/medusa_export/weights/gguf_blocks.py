"""The block formats whose codes the exporter can carry over unchanged: Q4_0, Q4_1, Q8_0 (blocks of 32).

Layouts (ggml): Q4_0 = f16 d, 16 bytes; Q4_1 = f16 d, f16 m, 16 bytes; Q8_0 = f16 d, 32 int8. A byte of the 4-bit
formats holds element j in its low half and element j + 16 in its high half.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .source import Array, BlockTensor

BLOCK = 32
BlockReader = Callable[[Array, tuple[int, ...]], BlockTensor]


def _rows(data: Array, shape: tuple[int, ...], block_bytes: int) -> Array:
    """[N, K / 32, block_bytes] uint8."""
    return data.reshape(shape[0], shape[1] // BLOCK, block_bytes)


def _f16(raw: Array) -> Array:
    """[..., 2] uint8 -> [...] float32."""
    return np.ascontiguousarray(raw).view(np.float16)[..., 0].astype(np.float32)


def _nibbles(raw: Array, shape: tuple[int, ...]) -> Array:
    return np.concatenate([raw & 15, raw >> 4], axis=-1).reshape(shape)


def _q4_0(data: Array, shape: tuple[int, ...]) -> BlockTensor:
    rows = _rows(data, shape, 18)
    scale = _f16(rows[..., :2])
    return BlockTensor(_nibbles(rows[..., 2:], shape), scale, -8 * scale, BLOCK, 4)


def _q4_1(data: Array, shape: tuple[int, ...]) -> BlockTensor:
    rows = _rows(data, shape, 20)
    return BlockTensor(_nibbles(rows[..., 4:], shape), _f16(rows[..., :2]), _f16(rows[..., 2:4]), BLOCK, 4)


def _q8_0(data: Array, shape: tuple[int, ...]) -> BlockTensor:
    rows = _rows(data, shape, 34)
    codes = np.ascontiguousarray(rows[..., 2:]).view(np.int8).reshape(shape)
    return BlockTensor(codes, _f16(rows[..., :2]), None, BLOCK, 8)


BLOCK_READERS: dict[str, BlockReader] = {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q8_0": _q8_0}
