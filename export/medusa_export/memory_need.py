"""About how much memory a conversion takes, so that one that was ended for lack of it can say so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import ExportError
from .weights.config import ModelConfig

_BASE = 384 << 20  # Python, its packages, the tokenizer's tables
# Matrices are converted one at a time; the largest needs this many copies of itself in float32 (measured: 3 for Hugging
# Face folders, 4 for GGUF files).
_COPIES = 4
_HEADS = 4  # int8 files become float32


def memory_need(config: ModelConfig, heads: int) -> int:
    """Bytes at the peak, rather too many than too few. `heads`: bytes of the heads' tensors in their files."""
    rows = (
        config.vocab_size,
        config.query_width + 2 * config.kv_width,  # q, k and v are one matrix
        2 * config.intermediate_size,  # gate and up too
    )
    largest = 4 * config.hidden_size * max(rows)
    rotary = 24 * config.context_length * config.head_dim // 2  # angles in float64, their cosines and sines
    return _BASE + _COPIES * largest + rotary + _HEADS * heads


@contextmanager
def enough_memory(name: str, need: int) -> Iterator[None]:
    """Says what was needed where memory runs out."""
    try:
        yield
    except MemoryError as error:
        raise ExportError(f"not enough memory to convert {name}: it takes about {need / 1e9:.1f} GB") from error
