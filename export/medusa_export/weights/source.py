"""What a reader of checkpoints offers to the graph builder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .config import ModelConfig

Array = np.ndarray[Any, Any]


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
        return np.ascontiguousarray(self.read(), dtype=np.float32)

    def blocks(self) -> BlockTensor | None:
        return self.read_blocks() if self.read_blocks else None


class WeightSource(Protocol):
    """A checkpoint: its facts, its tensors, and where it came from."""

    config: ModelConfig
    path: Path
    kind: str  # "gguf" or "huggingface"
    quantization: str  # the most frequent type of its matrices

    def tensor(self, name: str) -> WeightTensor: ...
