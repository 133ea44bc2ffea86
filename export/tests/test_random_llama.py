"""The random float16 model of a large model's shape, which measures what steps cost on a card."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from shared_runner import SharedRunner

from medusa_export.split_runner import ancestors
from medusa_export.weights import ModelConfig
from random_llama import write_random

SMALL = ModelConfig(
    family="llama", layers=2, hidden_size=256, query_heads=2, kv_heads=2, head_dim=128, intermediate_size=688,
    vocab_size=512, context_length=96, rope_theta=10000.0, rms_norm_eps=1e-5, tied_embeddings=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("random")
    write_random(SMALL, path, 96)
    return path


def test_a_tree_row_gives_what_its_path_gives(folder: Path) -> None:
    prompt, ids, parents = [5, 17, 300, 8], [9, 30, 31, 32], [-1, 0, 0, 2]
    runner = SharedRunner(folder, "fp16")
    runner.run(prompt)
    runner.length = len(prompt)
    tree = runner.run(ids, ancestors(parents)).logits
    path = runner.run([ids[row] for row in (0, 2, 3)]).logits
    assert np.abs(path).max() > 0.5
    np.testing.assert_allclose(tree[[0, 2, 3]], path, atol=0.02)


def test_each_matrix_has_its_own_place(folder: Path) -> None:
    """Matrices that shared memory would be read from the card's cache, and a step would cost too little."""
    for name in ("backbone.fp16.shared.onnx", "heads.random.fp16.onnx"):
        graph = onnx.load(folder / name, load_external_data=False).graph
        places = [
            tuple(int(e.value) for e in t.external_data if e.key in ("offset", "length"))
            for t in graph.initializer
            if t.external_data
        ]
        spans = sorted(places)
        assert len(spans) >= 3
        assert all(a[0] + a[1] <= b[0] for a, b in itertools.pairwise(spans))
