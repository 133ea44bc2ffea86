"""The heads graph against the formula written in numpy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medusa_export.graph.heads import build_heads
from medusa_export.measure.session import open_session
from medusa_export.weights.heads_checkpoint import HeadsCheckpoint
from medusa_export.weights.source import Array
from tiny import TinySource, tiny_heads

HIDDEN = np.random.default_rng(3).standard_normal((5, 64)).astype(np.float32)


def expected(heads: HeadsCheckpoint, h: Array, m: int, token: int | None = None) -> tuple[Array, Array]:
    ids, probabilities = [], []
    for k in range(heads.count):
        x = h.astype(np.float64)
        for j, (weight, bias) in enumerate(heads.blocks[k]):
            y = weight @ x + bias
            if j == 0 and token is not None:
                y = y + heads.token_weights[k] @ heads.embedding.float32()[token]
            x = x + y / (1 + np.exp(-y))
        logits = heads.outputs[k].float32() @ x / heads.temperatures[k]
        p = np.exp(logits - logits.max())
        p /= p.sum()
        best = np.argsort(-p, kind="stable")[:m]
        ids.append(best if heads.token_map is None else heads.token_map[best])
        probabilities.append(p[best])
    return np.array(ids), np.array(probabilities)


def run(
    heads: HeadsCheckpoint, precision: str, folder: Path, row: int, m: int, token: int | None = None
) -> list[Array]:
    path = build_heads(heads, precision, folder / "heads.onnx").finish()[0]
    hidden = HIDDEN.astype(np.float16) if precision == "fp16" else HIDDEN
    feed = {"hidden": hidden, "row": np.array([row]), "top_m": np.array([m])}
    if token is not None:
        feed["token"] = np.array([token])
    return open_session(path).run(["top_ids", "top_probs"], feed)


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("int8", 0.02), ("fp16", 0.01)])
def test_heads_equal_the_formula(tmp_path: Path, precision: str, tolerance: float, layers: int) -> None:
    heads = tiny_heads(TinySource())
    heads = replace(heads, blocks=[(head * 2)[:layers] for head in heads.blocks])
    ids, probabilities = run(heads, precision, tmp_path, row=3, m=8)
    true_ids, true_probabilities = expected(heads, HIDDEN[3], 8)
    np.testing.assert_allclose(probabilities, true_probabilities, atol=tolerance)
    assert (ids[:, 0] == true_ids[:, 0]).all()
    assert (np.diff(probabilities, axis=1) <= 0).all()


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("int8", 0.03), ("fp16", 0.01)])
def test_heads_read_the_chosen_token(tmp_path: Path, precision: str, tolerance: float, layers: int) -> None:
    heads = tiny_heads(TinySource(), reads_token=True)
    heads = replace(heads, blocks=[(head * 2)[:layers] for head in heads.blocks])
    found = [run(heads, precision, tmp_path, row=3, m=8, token=token)[1] for token in (5, 400)]
    for token, probabilities in zip((5, 400), found, strict=True):
        np.testing.assert_allclose(probabilities, expected(heads, HIDDEN[3], 8, token)[1], atol=tolerance)
    assert np.abs(found[0] - found[1]).max() > 3 * tolerance  # the token matters far more than rounding does


@pytest.mark.parametrize("precision", ["fp32", "int8", "fp16"])
def test_one_output_matrix_for_all_heads(tmp_path: Path, precision: str) -> None:
    heads = tiny_heads(TinySource())
    heads = replace(heads, outputs=heads.outputs[:1] * heads.count)
    _, probabilities = run(heads, precision, tmp_path, row=2, m=8)
    np.testing.assert_allclose(probabilities, expected(heads, HIDDEN[2], 8)[1], atol=0.02)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size < 64 * 256 * {"fp32": 4, "fp16": 2, "int8": 1}[precision] + 100_000


def test_without_a_token_map_ids_are_the_backbones(tmp_path: Path) -> None:
    heads = replace(tiny_heads(TinySource()), token_map=None)
    ids, _ = run(heads, "fp32", tmp_path, row=0, m=4)
    assert (ids == expected(heads, HIDDEN[0], 4)[0]).all()


@pytest.mark.parametrize("m", [1, 64, 256])
def test_any_m_up_to_the_draft_vocabulary(tmp_path: Path, m: int) -> None:
    heads = tiny_heads(TinySource())
    ids, probabilities = run(heads, "int8", tmp_path, row=1, m=m)
    assert ids.shape == probabilities.shape == (heads.count, m)
    assert ids.dtype == np.int64
    assert set(ids.ravel()) <= set(heads.token_map.tolist() if heads.token_map is not None else [])
    if m == 256:
        np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-4)
