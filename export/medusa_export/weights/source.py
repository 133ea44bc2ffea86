"""What a reader of checkpoints offers to the graph builder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import ExportError
from .config import ModelConfig
from .finite import Array, finite

__all__ = ["Array", "BlockTensor", "HalfSource", "WeightSource", "WeightTensor"]


@dataclass(frozen=True)
class BlockTensor:
    """A block-quantised matrix kept as it is: w[n, k] = codes[n, k] * scale[n, k // block] + offset[n, k // block]."""

    codes: Array  # [N, K] uint8 (Q4_1, Q4_0: 0..15) or int8 (Q8_0)
    scale: Array  # [N, K / block] float32
    offset: Array | None  # [N, K / block] float32; None: no offset
    block: int
    bits: int

    def dequantised(self) -> Array:
        """[N, K] float32."""
        n, k = self.codes.shape
        blocks = self.codes.reshape(n, k // self.block, self.block).astype(np.float32) * self.scale[:, :, None]
        if self.offset is not None:
            blocks += self.offset[:, :, None]
        return blocks.reshape(n, k)


@dataclass(frozen=True)
class WeightTensor:
    """One tensor of a checkpoint, read when asked for."""

    name: str  # this project's name, e.g. layers.0.q.weight
    source_name: str  # the name in the file, for messages
    shape: tuple[int, ...]  # [out, in], or [size] for norms and biases
    type_name: str  # F32, BF16, Q4_1, ...
    read: Callable[[], Array]  # float32, `shape`
    read_blocks: Callable[[], BlockTensor] | None = None  # only for Q4_0, Q4_1 and Q8_0

    def float32(self) -> Array:
        """`shape`, every value finite. Readers check what they read and name its file; this finds what was computed."""
        return finite(np.ascontiguousarray(self.read(), dtype=np.float32), f"tensor {self.source_name}")

    def blocks(self) -> BlockTensor | None:
        return self.read_blocks() if self.read_blocks else None


class WeightSource(Protocol):
    """A checkpoint: its facts, its tensors, and where it came from."""

    config: ModelConfig
    path: Path
    kind: str  # "gguf" or "huggingface"
    quantization: str  # the most frequent type of its matrices

    def tensor(self, name: str) -> WeightTensor: ...


class HalfSource:
    """A `WeightSource` for float16 graphs: refuses what would become infinite there."""

    def __init__(self, source: WeightSource) -> None:
        self._source, self.config, self.path = source, source.config, source.path
        self.kind, self.quantization = source.kind, source.quantization

    def tensor(self, name: str) -> WeightTensor:
        found = self._source.tensor(name)
        return replace(found, read=lambda: self._checked(found))

    def _checked(self, found: WeightTensor) -> Array:
        values = found.float32()
        largest = max(values.max(), -values.min())
        if largest > np.finfo(np.float16).max:
            raise ExportError(
                f"{self.path.name}: tensor {found.source_name} holds {largest}, more than float16 can; prepare it with"
                " --precision fp32 or int8"
            )
        return values
