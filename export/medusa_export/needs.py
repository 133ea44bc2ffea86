"""About how much memory and disk a conversion takes: told beforehand, and by one that was ended for lack of it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ExportError
from .weights.config import ModelConfig
from .weights.source import WeightSource

_BASE = 384 << 20  # Python, its packages, the tokenizer's tables
# Matrices are converted one at a time; the largest needs this many copies of itself in float32 (measured: 3 for Hugging
# Face folders, 4 for GGUF files).
_COPIES = 4
_HEADS = 2  # their outputs are read one at a time
# Bits of a weight on disk, scales included.
_BITS = {"fp32": 32, "fp16": 16, "int8": 8.1, "int8-block": 9.3, "int4": 5.2}


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


def disk_need(source: WeightSource, precisions: list[str], heads: int) -> int:
    """Bytes of the files to be written, within a few percent. `precisions`: one for each graph."""
    config = source.config
    matrices = sum(math.prod(shape) for name, shape in config.each_tensor() if name != "embed.weight")
    if config.tied_embeddings:  # the table is the LM head too
        matrices += config.vocab_size * config.hidden_size
    table = {"F16": 2, "BF16": 2, "Q8_0": 1.125}.get(source.tensor("embed.weight").type_name, 4)
    tables = {"fp32": 4, "fp16": 2}
    total = sum(
        matrices * _BITS[name] / 8 + config.vocab_size * config.hidden_size * min(table, tables.get(name, 4))
        for name in precisions
    )
    return int(total) + heads


def check_disk(folder: Path, need: int) -> None:
    """Refuse before anything is written where the disk of `folder` cannot hold it."""
    there = next(each for each in (folder, *folder.parents) if each.is_dir())
    free = shutil.disk_usage(there).free
    if need > free:
        raise ExportError(
            f"the model needs about {need / 1e9:.1f} GB in {folder.parent}, where {free / 1e9:.1f} GB are free; make"
            " room, or name another folder with --models-dir"
        )


@contextmanager
def enough_memory(name: str, need: int) -> Iterator[None]:
    """Says what was needed where memory runs out."""
    try:
        yield
    except MemoryError as error:
        raise ExportError(f"not enough memory to convert {name}: it takes about {need / 1e9:.1f} GB") from error
