"""The conditional joint: formula, tables through file, bin and graph, its tree against brute force, refusals."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import TorchTwin
from medusa_export.errors import ExportError
from medusa_export.graph.heads import build_heads
from medusa_export.measure.session import open_session
from medusa_export.tokenizer_files.write import write_tokenizer_files
from medusa_export.training.conditional import (
    ConditionalConfig,
    ConditionalJoint,
    averaged,
    conditional_logits,
    round_to_stored,
    save_conditional,
)
from medusa_export.training.trees import HeadsJoint, Proposals, best_first_tree, heads_tree
from medusa_export.weights import open_source
from medusa_export.weights.conditional_file import ConditionalTables, embedding_rows, output_rows, read_conditional
from medusa_export.weights.heads_file import read_own_heads
from medusa_export.weights.source import WeightSource
from test_prepare import assert_whole, manifest_of, run
from test_weights import write_heads
from tiny import TinySource, tiny_heads, tiny_tokenizer

Kind = tuple[str, bool, bool]  # activation, context, levels
KINDS: list[Kind] = [
    ("none", False, False), ("silu", True, False), ("none", True, False), ("silu", False, True), ("none", True, True)
]  # fmt: skip


def random_joint(source: WeightSource, token_map: np.ndarray, kind: Kind, seed: int = 3) -> ConditionalJoint:
    """A correction of rank 6 and distance 2 with every parameter drawn at random, rounded as its file will be."""
    torch.manual_seed(seed)
    c = source.config
    sizes = {"heads": 4, "hidden_size": c.hidden_size, "vocab_size": c.vocab_size, "draft_vocab_size": len(token_map)}
    config = ConditionalConfig(rank=6, distances=2, activation=kind[0], context=kind[1], levels=kind[2], **sizes)
    embeddings, outputs = embedding_rows(source), output_rows(source, token_map)
    model = ConditionalJoint(config, torch.tensor(embeddings), torch.tensor(outputs))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.15)
    round_to_stored(model)
    return model


def torch_q(model: ConditionalJoint, hidden: np.ndarray, rows: dict[str, np.ndarray]) -> np.ndarray:
    """Q [R, m] by the trained module; rows: position, head [R], tokens [R, D], candidates, probabilities [R, m]."""
    given = {name: torch.from_numpy(rows[name]).long() for name in ("position", "head", "tokens", "candidates")}
    p = torch.from_numpy(rows["probabilities"])
    with torch.no_grad():
        scores = model.scores({"hidden": torch.from_numpy(hidden), **given})
        return torch.softmax(conditional_logits(p.log(), 1 - p.sum(-1), scores), -1)[:, :-1].numpy()


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: "-".join(map(str, k)))
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_bin_and_graph_give_the_modules_q(tmp_path: Path, kind: Kind, precision: str) -> None:
    """As decoding does it: token ids looked up in the .bin, z from the graph's `context`."""
    source, heads = TinySource(), tiny_heads(TinySource())
    model = random_joint(source, heads.token_map, kind)
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(b"heads")
    written = save_conditional(model, path, {})
    sha = json.loads(written.with_suffix(".json").read_text())["heads_sha256"]
    tables = read_conditional(written, source, "tiny", sha, heads.count, heads.token_map)
    tables.write(tmp_path / "tables.bin")
    v, draft, rank = source.config.vocab_size, len(heads.token_map), 6
    raw = (tmp_path / "tables.bin").read_bytes()
    assert len(raw) == 4 * (draft + 2 * v * rank + draft * rank + kind[2] * 2 * 4 * rank)
    assert tables.facts().get("levels") == (4 if kind[2] else None)
    token_map = np.frombuffer(raw, "<i4", draft)
    assert (token_map == heads.token_map).all()
    values = np.frombuffer(raw, "<f4", offset=4 * draft)
    a, b = values[: 2 * v * rank].reshape(2, v, rank), values[2 * v * rank :][: draft * rank].reshape(draft, rank)
    level_bias, level_gain = np.zeros((4, rank)), np.ones((4, rank))
    if kind[2]:
        level_bias, level_gain = values[-2 * 4 * rank :].reshape(2, 4, rank)

    hidden = np.random.default_rng(3).standard_normal((3, 64)).astype(np.float32)
    graph = build_heads(replace(heads, conditional=tables), precision, tmp_path / "h.onnx").finish()[0]
    session = open_session(graph)
    assert ("context" in [o.name for o in session.get_outputs()]) == kind[1]
    out = dict(
        zip(
            [o.name for o in session.get_outputs()],
            session.run(None, {"hidden": hidden, "row": np.array([2]), "top_m": np.array([8])}),
            strict=True,
        )
    )
    paths = {0: [7], 1: [7, 300], 2: [7, 300, 11], 3: [7, 300, 11, 500]}  # the root first
    index = {int(t): i for i, t in enumerate(token_map)}
    candidates = np.array([[index[int(t)] for t in ids] for ids in out["top_ids"]])
    rows = {
        "position": np.full(4, 2),
        "head": np.arange(4),
        "tokens": np.array([[path[-1], path[-2] if len(path) > 1 else -1] for path in paths.values()]),
        "candidates": candidates,
        "probabilities": out["top_probs"],
    }
    expected = torch_q(model, hidden, rows)
    for k, path in paths.items():
        c = sum(a[d - 1, path[-d]] for d in range(1, min(2, len(path)) + 1))
        c = level_bias[k] + (c + out["context"][k] if kind[1] else c)
        c = level_gain[k] * (c / (1 + np.exp(-c)) if kind[0] == "silu" else c)
        weights = out["top_probs"][k] * np.exp(b[candidates[k]] @ c)
        q = weights / (weights.sum() + 1 - out["top_probs"][k].sum())
        np.testing.assert_allclose(q, expected[k], atol=1e-5)
        assert np.abs(q - out["top_probs"][k]).max() > 1e-3  # the correction does something


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: "-".join(map(str, k)))
def test_averaged_members_score_as_their_mean(kind: Kind) -> None:
    source = TinySource()
    token_map = np.arange(0, source.config.vocab_size, 2)
    members = [random_joint(source, token_map, kind, seed) for seed in (3, 4, 5)]
    random = torch.Generator().manual_seed(0)

    def drawn(high: int, *shape: int, low: int = 0) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=random)

    rows = {
        "hidden": torch.randn(5, source.config.hidden_size, generator=random),
        "position": drawn(5, 40),
        "head": drawn(4, 40),
        "tokens": drawn(source.config.vocab_size, 40, 2, low=-1),
        "candidates": drawn(len(token_map), 40, 7),
    }
    joined = averaged(members)
    assert joined.config.rank == 18
    with torch.no_grad():
        scores = [member.scores(rows) for member in members]
        torch.testing.assert_close(joined.scores(rows), torch.stack(scores).mean(0), atol=1e-5, rtol=1e-5)
    assert (scores[0] - scores[1]).abs().max() > 0.01
    assert averaged(members[:1]) is members[0]


def test_tree_is_the_best_set_of_conditional_products() -> None:
    rng = np.random.default_rng(1)
    for _ in range(25):
        heads, width, nodes, v = int(rng.integers(1, 4)), int(rng.integers(1, 5)), int(rng.integers(2, 25)), 9
        p = -np.sort(-rng.dirichlet(np.ones(width + 1), heads)[:, :width], axis=1)
        tokens = np.stack([rng.permutation(v)[:width] for _ in range(heads)])
        a, b, z = rng.normal(size=(2, v, 3)), rng.normal(size=(v, 3)), rng.normal(size=(heads, 3))
        bias, gain = rng.normal(size=(2, heads, 3))
        tables = ConditionalTables(np.arange(v), a, b, "silu", np.zeros((heads, 3, 1)), z, bias, gain)
        joint = HeadsJoint(Proposals(tokens[None], p[None]), tables, np.zeros((1, 1)))

        def q(path: tuple[int, ...], p=p, tokens=tokens, t=tables, z=z) -> float:
            """Written out by the definition."""
            total, before = 1.0, [4]
            for k, rank in enumerate(path):
                c = z[k] + t.level_bias[k] + t.a[0, before[-1]] + (t.a[1, before[-2]] if k else 0)
                c = t.level_gain[k] * c / (1 + np.exp(-c))
                w = [p[k, r] * np.exp(c @ t.b[tokens[k, r]]) for r in range(len(p[k]))]
                total *= w[rank] / (sum(w) + 1 - p[k].sum())
                before.append(int(tokens[k, rank]))
            return total

        every = [path for d in range(1, heads + 1) for path in itertools.product(range(width), repeat=d)]
        every.sort(key=lambda path: -q(path))
        tree = heads_tree(joint, 0, 4, nodes)
        assert set(tree) == {tuple(int(tokens[k, r]) for k, r in enumerate(path)) for path in every[: nodes - 1]}
        assert all(path[:-1] in tree for path in tree if len(path) > 1)


def test_without_a_correction_the_tree_is_that_of_the_marginals() -> None:
    rng = np.random.default_rng(2)
    p = -np.sort(-rng.dirichlet(np.ones(9), 4)[:, :8], axis=1)
    tokens = np.stack([rng.permutation(20)[:8] for _ in range(4)])
    tables = ConditionalTables(np.arange(20), np.zeros((1, 20, 2)), np.zeros((20, 2)), "none", None, None)
    joint = HeadsJoint(Proposals(tokens[None], p[None]), tables)
    expected = [tuple(int(tokens[k, r]) for k, r in enumerate(path)) for path in best_first_tree(p, 30)]
    assert set(heads_tree(joint, 0, 0, 30)) == set(expected)


def heads_with_conditional(folder: Path, llama: TorchTwin) -> tuple[Path, Path]:
    """(model folder, heads file) of a tiny Llama, a conditional joint beside the heads."""
    from safetensors.numpy import load_file, save_file

    llama.model.save_pretrained(folder / "hf")
    write_tokenizer_files(tiny_tokenizer(), folder / "hf")
    write_heads(folder / "h", backbone={"id": "out"})
    path = folder / "h.safetensors"
    tensors = load_file(path)
    tensors["token_map"] = tensors["token_map"] % 320
    save_file(tensors, path)
    heads, source = read_own_heads(path), open_source(folder / "hf")
    save_conditional(random_joint(source, heads.token_map, ("silu", True, False)), path, {})
    return folder / "hf", path


def test_prepare_finds_the_file_beside_the_heads(tmp_path: Path, llama: TorchTwin) -> None:
    model, heads = heads_with_conditional(tmp_path, llama)
    out = tmp_path / "out"
    assert run("--output", out, "--from", model, "--precision", "fp32,fp16", "--layout", "both", "--heads", heads) == 0
    entries = manifest_of(out)["heads"]
    assert [e["precision"] for e in entries] == ["int8", "fp16"]
    for entry in entries:
        facts = entry["conditional"]
        assert facts["file"] == "heads.h.conditional.bin" and facts["bytes"] == 4 * (256 + 2 * 320 * 6 + 256 * 6)
        assert (facts["rank"], facts["distances"], facts["activation"], facts["context"]) == (6, 2, "silu", True)
        assert (facts["vocab_size"], facts["draft_vocab_size"]) == (320, 256)
        weights = heads.with_name("h.conditional.safetensors")
        assert facts["source_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
        assert {"name": "context", "dtype": "float32", "shape": [4, 6]} in entry["outputs"]
    assert_whole(out)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("heads_sha256", "0" * 64, r"sha256 000000000000\.\.\., but heads 'h' have"),
        ("draft_vocab_size", 255, r"draft_vocab_size 255, but heads 'h' have 256"),
        ("vocab_size", 77, r"vocab_size 77, but hf has 320"),
        ("hidden_size", 32, r"hidden_size 32, but hf has 64"),
        ("heads", 3, r"heads 3, but heads 'h' are 4"),
        (
            "rank",
            5,
            r"a\.1\.projection has shape \[6, 64\], expected \[5, 64\]|a\.bias has shape \[6\], expected \[5\]",
        ),
        ("activation", "relu", r"activation 'relu'"),
        ("format", 9, r"format 9"),
    ],
)
def test_a_conditional_that_does_not_fit_is_refused(
    tmp_path: Path, llama: TorchTwin, key: str, value: object, message: str
) -> None:
    model, path = heads_with_conditional(tmp_path, llama)
    side = path.with_name("h.conditional.json")
    side.write_text(json.dumps(json.loads(side.read_text()) | {key: value}))
    heads = read_own_heads(path)
    with pytest.raises(ExportError, match=message):
        read_conditional(
            path.with_name("h.conditional.safetensors"),
            open_source(model),
            heads.name,
            heads.source_sha256,
            heads.count,
            heads.token_map,
        )


def test_prepare_says_when_the_heads_were_calibrated_again(
    tmp_path: Path, llama: TorchTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    model, heads = heads_with_conditional(tmp_path, llama)
    side = heads.with_name("h.conditional.json")
    facts = json.loads(side.read_text())
    for temperatures, noted in (([1.0, 1.1, 1.2, 1.3], False), ([1.0, 1.1, 1.2, 1.4], True)):
        side.write_text(json.dumps(facts | {"temperatures": temperatures}))
        assert run("--output", tmp_path / "out", "--from", model, "--heads", heads) == 0
        assert ("h.conditional.safetensors was trained on" in capsys.readouterr().out) == noted
