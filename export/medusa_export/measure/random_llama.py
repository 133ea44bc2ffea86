"""The model of `random-model`: random float16 weights, a tokenizer of bytes, four full Medusa heads.

Every matrix has memory of its own, in the file and on the device; those of one shape hold the same numbers, which no
kernel can tell.
"""

from __future__ import annotations

import json
import time
from functools import cache
from pathlib import Path

import numpy as np

from ..export import backbone_file, export_heads, export_keep, graph_entry
from ..graph.backbone import build_shared
from ..graph.builder import GraphBuilder
from ..graph.linear import Linear
from ..manifest import NAME, dump, model_section, new_manifest, put, set_defaults
from ..tokenizer_files.byte_level import CONTROL, byte_alphabet, byte_level_tokenizer
from ..tokenizer_files.facts import TokenizerFacts, TokenizerFiles
from ..tokenizer_files.write import write_tokenizer_files
from ..weights import ModelConfig, WeightTensor
from ..weights.heads_checkpoint import HeadMatrix, HeadsCheckpoint
from ..weights.source import Array

HEADS = 4
_BLOCK = np.random.default_rng(1).standard_normal(1 << 22).astype(np.float32)


class RandomSource:
    """Weights by name and shape only; matrices are never read, see `RandomLinear`."""

    kind, quantization, path = "random", "F16", Path("random")

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self._shapes = config.tensor_shapes()

    def tensor(self, name: str) -> WeightTensor:
        shape = self._shapes[name]
        return WeightTensor(name, name, shape, "F16", lambda: random_tensor(shape, sum(map(ord, name))))


class RandomLinear(Linear):
    """float16 products like `FloatLinear`'s, weights written as they are multiplied."""

    dtype = "float16"

    def apply(self, b: GraphBuilder, name: str, x: str, parts: list[WeightTensor], bias: Array | None = None) -> str:
        rows, columns = sum(part.shape[0] for part in parts), parts[0].shape[1]
        weight = b.weight(name + ".weight", random_half((columns, rows), columns))
        return b.node("MatMul", [x, weight], name)


class HalfMatrix(HeadMatrix):
    """An output matrix of float16 that stays what it is on its way to a float16 graph."""

    def float32(self) -> Array:
        return self.codes


@cache
def random_half(shape: tuple[int, ...], width: int) -> Array:
    """float16 of `shape` that keeps the size of what it multiplies; `width` numbers are summed in a product."""
    return np.resize((_BLOCK / np.float32(width**0.5)).astype(np.float16), shape)


def random_tensor(shape: tuple[int, ...], seed: int) -> Array:
    """float32: norm gains near one, embeddings of size one."""
    values = np.resize(np.roll(_BLOCK, 7919 * seed), shape)
    return 1 + np.float32(0.02) * values if len(shape) == 1 else values


def random_heads(config: ModelConfig) -> HeadsCheckpoint:
    size, vocab = config.hidden_size, config.vocab_size
    blocks = [[(random_half((size, size), size), np.zeros(size, np.float32))] for _ in range(HEADS)]
    outputs = [HalfMatrix(random_half((size, vocab), size).T, None) for _ in range(HEADS)]
    accuracies = [[0.6 * 0.8**k * 0.5**r for r in range(32)] for k in range(HEADS)]
    return HeadsCheckpoint("random", blocks, outputs, None, [1.0] * HEADS, accuracies, "0" * 64)


def byte_tokenizer() -> TokenizerFiles:
    """A token for each byte behind one that ends texts; the model's other tokens have no text."""
    tokens = ["</s>", *byte_alphabet()]
    document = byte_level_tokenizer(tokens, [CONTROL] + [1] * 256, [], "gpt-2")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "clean_up_tokenization_spaces": False}
    return TokenizerFiles(document, config, TokenizerFacts(None, [0], False))


def write_random(config: ModelConfig, folder: Path, capacity: int) -> None:
    """A model folder with a float16 backbone of layout "shared", its keep graph and heads."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = byte_tokenizer()
    write_tokenizer_files(tokenizer, folder)
    origin = {"kind": "random", "name": "random", "sha256": "0" * 64, "quantization": "F16"}
    manifest = new_manifest(model_section(config, folder.name), tokenizer.facts, folder, origin)
    begin = time.monotonic()

    def progress(done: int, total: int) -> None:
        print(f"layer {done} of {total}, {time.monotonic() - begin:.1f} s", flush=True)

    path = folder / backbone_file("fp16", "shared")
    b = build_shared(RandomSource(config), RandomLinear(), path, capacity, progress)
    entry = {"precision": "fp16", "layout": "shared", "capacity": capacity, **graph_entry(b, flush=False)}
    put(manifest, "backbones", entry)
    put(manifest, "keep", export_keep(config, folder, "fp16", capacity))
    put(manifest, "heads", export_heads(random_heads(config), folder, "fp16", flush=False))
    set_defaults(manifest)
    (folder / NAME).write_text(dump(manifest), encoding="utf-8")
    size = sum(p.stat().st_size for p in folder.iterdir())
    print(json.dumps({"bytes": size, "seconds": round(time.monotonic() - begin, 1)}), flush=True)
