"""Phi-3 keeps q, k and v in one matrix, one under the other, and gate and up in another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ExportError
from .config import ModelConfig
from .finite import Array
from .rope import head_order, rows_of_heads

JOINED = dict.fromkeys("qkv", "qkv") | dict.fromkeys(("gate", "up"), "gate_up")


@dataclass(frozen=True)
class Part:
    """One matrix of several that stand in one tensor."""

    rows: Array  # of the tensor, in our order
    whole: int  # rows of the tensor

    def shape(self, there: tuple[int, ...], label: str) -> tuple[int, ...]:
        """Of the part, of a tensor whose shape is `there`."""
        if not there or there[0] != self.whole:
            raise ExportError(f"{label} has shape {list(there)}; expected {self.whole} rows")
        return (len(self.rows), *there[1:])


def part_of(c: ModelConfig, stem: str) -> Part | None:
    """Where the matrix `stem` (q, k, v, gate or up) stands in the one it is joined to; None: it is not joined."""
    if c.family != "phi3" or stem not in JOINED:
        return None
    q, kv, inner = c.query_width, c.kv_width, c.intermediate_size
    if JOINED[stem] == "gate_up":
        start = 0 if stem == "gate" else inner
        return Part(np.arange(start, start + inner), 2 * inner)
    start, heads = {"q": (0, c.query_heads), "k": (q, c.kv_heads), "v": (q + kv, c.kv_heads)}[stem]
    order = np.arange(c.head_dim) if stem == "v" else head_order(c)
    return Part(rows_of_heads(order, heads, start), q + 2 * kv)
