"""The random float16 model of a large model's shape, which measures what steps cost on a card."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer

from conftest import command
from medusa_export.__main__ import parse
from medusa_export.measure.split_runner import ancestors
from shared_runner import SharedRunner

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "cuda.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("random")
    command("random-model", *f"--output {path} --capacity 96 --layers 2 --hidden-size 256 --vocab-size 512".split())
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


def test_its_tokenizer_gives_a_token_for_each_byte_and_takes_it_back(folder: Path) -> None:
    tokenizer, text = Tokenizer.from_file(str(folder / "tokenizer.json")), "Grüße, 3 \n\t€"
    ids = tokenizer.encode(text).ids
    assert len(ids) == len(text.encode()) and tokenizer.decode(ids) == text
    facts = json.loads((folder / "manifest.json").read_text())
    assert max(ids) < facts["model"]["vocab_size"] == 512


def test_the_documented_command_makes_the_shape_of_llama_2_7b() -> None:
    words = re.search(r"python -m medusa_export (random-model [^`]*)`", DOCUMENT.read_text())[1].split()
    args = parse(words)[1]
    assert (args.layers, args.hidden_size, args.vocab_size) == (32, 4096, 32000)
    with pytest.raises(SystemExit):
        parse([*words, "--hidden-size", "200"])
