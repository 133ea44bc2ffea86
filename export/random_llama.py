"""A model of Llama-2-7B's shape with random float16 weights and four full Medusa heads, made where it is needed.

`PYTHONPATH=export python export/random_llama.py --output onnx/llama-7b-shaped [--capacity 4608] [--layers 32]`

Its tokens mean nothing; its steps cost what those of the real model cost.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from medusa_export.export import export_backbone, export_heads, export_keep
from medusa_export.manifest import NAME, dump, model_section, new_manifest, put, set_defaults
from medusa_export.tiny import tiny_tokenizer
from medusa_export.tokenizer_files.write import write_tokenizer_files
from medusa_export.weights import ModelConfig, WeightTensor
from medusa_export.weights.heads_checkpoint import HeadsCheckpoint, OutputMatrix
from medusa_export.weights.source import Array

HEADS = 4
# A block of normal numbers that all matrices are tiled from: drawing seven thousand million would take minutes.
_BLOCK = np.random.default_rng(1).standard_normal(1 << 22).astype(np.float32)


class RandomSource:
    """Weights by name and shape only."""

    kind, quantization, path = "random", "F16", Path("random")

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self._shapes = config.tensor_shapes()

    def tensor(self, name: str) -> WeightTensor:
        shape = self._shapes[name]
        return WeightTensor(name, name, shape, "F16", lambda: random_matrix(shape, sum(map(ord, name))))


def random_matrix(shape: tuple[int, ...], seed: int) -> Array:
    """Norm gains near one, matrices that keep the size of what they multiply."""
    count = int(np.prod(shape))
    values = np.resize(np.roll(_BLOCK, 7919 * seed), count).reshape(shape)
    return 1 + 0.02 * values if len(shape) == 1 else values / np.float32(shape[1] ** 0.5)


def random_heads(config: ModelConfig) -> HeadsCheckpoint:
    size, vocab = config.hidden_size, config.vocab_size
    blocks = [[(random_matrix((size, size), k), np.zeros(size, np.float32))] for k in range(HEADS)]
    outputs = [OutputMatrix(random_matrix((vocab, size), 100 + k), None) for k in range(HEADS)]
    accuracies = [[0.6 * 0.8**k * 0.5**r for r in range(32)] for k in range(HEADS)]
    return HeadsCheckpoint("random", blocks, outputs, None, [1.0] * HEADS, accuracies, "0" * 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--capacity", type=int, default=4608)
    parser.add_argument("--layers", type=int, default=32)
    args = parser.parse_args()
    config = ModelConfig(
        family="llama", layers=args.layers, hidden_size=4096, query_heads=32, kv_heads=32, head_dim=128,
        intermediate_size=11008, vocab_size=32000, context_length=args.capacity, rope_theta=10000.0,
        rms_norm_eps=1e-5, tied_embeddings=False,
    )  # fmt: skip
    folder: Path = args.output
    folder.mkdir(parents=True, exist_ok=True)
    source, tokenizer = RandomSource(config), tiny_tokenizer()
    write_tokenizer_files(tokenizer, folder)
    origin = {"kind": "random", "name": "random", "sha256": "0" * 64, "quantization": "F16"}
    manifest = new_manifest(model_section(config, folder.name), tokenizer.facts, folder, origin)

    def progress(done: int, total: int) -> None:
        print(f"layer {done} of {total}", flush=True)

    put(manifest, "backbones", export_backbone(source, folder, "fp16", "shared", args.capacity, progress))
    put(manifest, "keep", export_keep(config, folder, "fp16", args.capacity))
    put(manifest, "heads", export_heads(random_heads(config), folder, "fp16"))
    set_defaults(manifest)
    (folder / NAME).write_text(dump(manifest), encoding="utf-8")


if __name__ == "__main__":
    main()
