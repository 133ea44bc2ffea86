"""The committed fixture of the TypeScript tests is what the exporter writes today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from medusa_export.errors import ExportError
from medusa_export.manifest import dump, read_manifest
from medusa_export.session import open_session
from medusa_export.split_runner import SplitRunner
from medusa_export.tiny import write_tiny, write_tiny_half

FIXTURE = Path(__file__).resolve().parents[2] / "test" / "fixtures" / "tiny"
HALF_FIXTURE = FIXTURE.with_name("tiny16")
TOKEN_FIXTURE = FIXTURE.with_name("tinytoken")  # the files that differ from tiny's: manifest and heads


def without_hashes(value: Any) -> Any:
    """Other builds of NumPy round the last bit of a product otherwise, which changes hashes but no shape."""
    if isinstance(value, dict):
        return {k: without_hashes(v) for k, v in value.items() if k not in ("sha256", "manifest_sha256", "bytes")}
    return [without_hashes(v) for v in value] if isinstance(value, list) else value


def test_fixture_is_up_to_date(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    committed_names = {p.name for p in FIXTURE.iterdir()} - {"tuning.json", "verified.json"}
    assert {p.name for p in tmp_path.iterdir()} == committed_names
    written, committed = (json.loads((folder / "manifest.json").read_text()) for folder in (tmp_path, FIXTURE))
    assert without_hashes(written) == without_hashes(committed), (
        "run: python -m medusa_export.tiny --output test/fixtures/tiny"
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (FIXTURE / name).read_bytes()
    for path in tmp_path.glob("*.onnx"):
        new, old = (onnx.load(folder / path.name, load_external_data=False).graph for folder in (tmp_path, FIXTURE))
        assert [n.op_type for n in new.node] == [n.op_type for n in old.node], path.name


def test_fixture_of_heads_that_read_the_root_is_up_to_date(tmp_path: Path) -> None:
    write_tiny(tmp_path, reads_token=True)
    written, committed = (json.loads((folder / "manifest.json").read_text()) for folder in (tmp_path, TOKEN_FIXTURE))
    assert without_hashes(written) == without_hashes(committed), (
        "run: python -m medusa_export.tiny --reads-token --output DIR; keep its manifest.json and heads.* only"
    )
    for path in tmp_path.glob("heads.*.onnx"):
        new, old = (
            onnx.load(folder / path.name, load_external_data=False).graph for folder in (tmp_path, TOKEN_FIXTURE)
        )
        assert [n.op_type for n in new.node] == [n.op_type for n in old.node], path.name


def test_fixture_in_float16_is_up_to_date(tmp_path: Path) -> None:
    write_tiny_half(tmp_path)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {p.name for p in HALF_FIXTURE.iterdir()}, (
        "run: python -m medusa_export.tiny --half --output test/fixtures/tiny16"
    )
    for name in (name for name in names if name.endswith(".onnx")):
        new, old = (onnx.load(folder / name).graph for folder in (tmp_path, HALF_FIXTURE))
        assert [n.op_type for n in new.node] == [n.op_type for n in old.node], name
        for pair in zip(new.initializer, old.initializer, strict=True):
            a, b = map(onnx.numpy_helper.to_array, pair)
            # Other builds of NumPy may round the last bit otherwise.
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-6)


def test_heads_of_the_fixture_are_right_about_half_of_the_time() -> None:
    """What the TypeScript tests count on: greedy text that varies, and heads worth asking."""
    runner = SplitRunner(FIXTURE / "backbone.int8.onnx")
    heads = open_session(FIXTURE / "heads.tiny.int8.onnx")
    step = runner.run(np.arange(10, 30), rows=np.array([19]))
    tokens, guesses = [], []
    for _ in range(80):
        runner.append(step)
        feed = {"hidden": step.hidden, "row": np.array([0]), "top_m": np.array([1])}
        guesses.append(heads.run(["top_ids"], feed)[0][:, 0])
        tokens.append(int(step.next_tokens[0]))
        step = runner.run(np.array([tokens[-1]]))
    assert len(set(tokens)) > 40
    for k in range(4):
        right = np.mean([guesses[i][k] == tokens[i + k + 1] for i in range(len(tokens) - k - 1)])
        assert 0.2 < right < 0.9


def test_a_changed_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    text = (FIXTURE / "manifest.json").read_text()
    path.write_text(text)
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert dump(manifest) == text
    path.write_text(text.replace('"layers": 2', '"layers": 3'))
    with pytest.raises(ExportError, match="was changed"):
        read_manifest(tmp_path)
    # One without a seal was written before there were any.
    path.write_text(json.dumps(manifest))
    assert read_manifest(tmp_path) == manifest
