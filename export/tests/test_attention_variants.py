"""GroupQueryAttention and the Attention of opset 24 give the same rows; the generator of the large model."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from medusa_export.split_runner import ancestors
from random_llama import write_random

from attention_variants import write_variants
from conftest import TorchTwin
from medusa_export.errors import ExportError
from medusa_export.export import export_backbone
from medusa_export.graph.attention_24 import with_attention_24
from medusa_export.weights import ModelConfig, open_source
from shared_runner import SharedRunner

PROMPT = [5, 17, 300, 8, 8, 41, 199, 77, 3, 260, 12]
TREE = [-1, 0, 0, 1, 1, 2, 3, 6]
TREE_IDS = [9, 30, 31, 32, 33, 34, 35, 36]
SMALL = ModelConfig(
    family="llama", layers=2, hidden_size=256, query_heads=2, kv_heads=2, head_dim=128, intermediate_size=688,
    vocab_size=512, context_length=96, rope_theta=10000.0, rms_norm_eps=1e-5, tied_embeddings=False,
)  # fmt: skip


def walk(folder: Path, precision: str) -> list[np.ndarray]:
    """Logits of a prompt in two chunks, a tree, one accepted path's next token, and a plain step."""
    runner = SharedRunner(folder, precision)
    rows = []
    for chunk in (PROMPT[:4], PROMPT[4:]):
        rows.append(runner.run(chunk).logits)
        runner.length += len(chunk)
    rows.append(runner.run(TREE_IDS, ancestors(TREE)).logits)
    runner.length += 2  # rows 0 and 1 are a path in place
    rows.append(runner.run([50]).logits)
    runner.length += 1
    rows.append(runner.run([51, 52], np.tri(2, dtype=bool)).logits)
    return rows


def test_both_attentions_agree(twin: TorchTwin, tmp_path: Path) -> None:
    """For every family of the fixture: grouped and ungrouped heads, biases, a head size of its own."""
    source = open_source(twin.folder)
    entry = export_backbone(source, tmp_path, "fp32", "shared", 64, lambda done, total: None)
    expected = walk(tmp_path, "fp32")
    graph = tmp_path / entry["file"]
    changed = with_attention_24(onnx.load(graph, load_external_data=False), source.config)
    assert "GroupQueryAttention" not in {node.op_type for node in changed.graph.node}
    graph.write_bytes(changed.SerializeToString())
    for found, each in zip(walk(tmp_path, "fp32"), expected, strict=True):
        np.testing.assert_allclose(found, each, atol=2e-4, rtol=2e-4)


def test_a_random_model_in_both_attentions(tmp_path: Path) -> None:
    model = tmp_path / "model"
    write_random(SMALL, model, 96)
    folders = write_variants(model, tmp_path / "pairs", [64, 96], "fp16")
    assert [f.name for f in folders] == ["group-query-64", "attention-24-64", "group-query-96", "attention-24-96"]
    original = walk(model, "fp16")
    for folder in folders:
        for found, expected in zip(walk(folder, "fp16"), original, strict=True):
            np.testing.assert_allclose(found, expected, atol=0.02)
            assert np.abs(expected).max() > 0.5
    manifest = json.loads((folders[1] / "manifest.json").read_text())
    assert manifest["backbones"][0]["attention"] == "attention-24"
    assert manifest["backbones"][0]["capacity"] == 64
    data = "backbone.fp16.shared.onnx.data"
    assert (folders[1] / data).stat().st_ino == (model / data).stat().st_ino


def test_only_the_attention_differs(tmp_path: Path) -> None:
    write_random(SMALL, tmp_path / "model", 96)
    folders = write_variants(tmp_path / "model", tmp_path, [96], "fp16")
    plain, other = (onnx.load(f / "backbone.fp16.shared.onnx", load_external_data=False) for f in folders)
    assert [i.name for i in plain.graph.input] == [i.name for i in other.graph.input]
    assert [o.name for o in plain.graph.output] == [o.name for o in other.graph.output]
    kinds = [[n.op_type for n in m.graph.node] for m in (plain, other)]
    assert kinds[1].count("Attention") == kinds[0].count("GroupQueryAttention") == 2
    for op in ("MatMul", "SkipSimplifiedLayerNormalization", "QuickGelu", "TopK"):
        assert kinds[0].count(op) == kinds[1].count(op)


def test_each_matrix_of_the_random_model_has_its_own_place(tmp_path: Path) -> None:
    write_random(SMALL, tmp_path, 96)
    for name in ("backbone.fp16.shared.onnx", "heads.random.fp16.onnx"):
        graph = onnx.load(tmp_path / name, load_external_data=False).graph
        places = [
            tuple(int(e.value) for e in t.external_data if e.key in ("offset", "length"))
            for t in graph.initializer
            if t.external_data
        ]
        spans = sorted(places)
        assert len(spans) >= 3
        assert all(a[0] + a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_capacities_beyond_the_tables_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    write_random(SMALL, tmp_path / "model", 96)
    with pytest.raises(ExportError, match="end at 96"):
        write_variants(tmp_path / "model", tmp_path, [97], "fp16")
    with pytest.raises(ExportError, match="no fp32 backbone"):
        write_variants(tmp_path / "model", tmp_path, [64], "fp32")
    with pytest.raises(ExportError, match=r"manifest\.json"):
        write_variants(tmp_path, tmp_path, [64], "fp16")
