"""Context lookup: the index and the trees against brute force, the fit, the simulation, the way into the manifest."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import TorchTwin, command
from heads_tiny import write_tiny_model
from medusa_export.errors import ExportError
from medusa_export.training.checkpoint import load_heads, save_heads
from medusa_export.training.context_lookup import ContextIndex
from medusa_export.training.conversations import Answer
from medusa_export.training.lookup_weights import Observations, fit_weights, observe
from medusa_export.training.model import HeadsConfig, MedusaHeads
from medusa_export.training.shards import Rollouts, write_shard
from medusa_export.training.simulation import dynamic_trees, lookup_trees, simulate
from medusa_export.training.trees import HeadsJoint, Proposals, best_first_tree, heads_tree, lookup_tree
from medusa_export.weights.conditional_file import ConditionalTables
from medusa_export.weights.heads_file import read_own_heads
from test_conditional import heads_with_conditional
from test_prepare import manifest_of, run
from test_weights import write_heads

V = 12  # tokens of the synthetic answers


def brute_longest(known: list[int], path: list[int], lengths: int) -> tuple[int, int] | None:
    """By the definition: every length from the longest, every place in s = known from the last."""
    tail = [*known, *path]
    for length in range(min(lengths, len(tail)), 0, -1):
        for end in range(len(known) - 2, length - 2, -1):  # the continuation is known too
            if known[end - length + 1 : end + 1] == tail[-length:]:
                return known[end + 1], length
    return None


def test_index_finds_the_longest_and_most_recent() -> None:
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(60):
        alphabet, lengths = int(rng.integers(1, 5)), int(rng.integers(1, 9))
        index, known = ContextIndex(lengths=lengths), []
        for token in rng.integers(0, alphabet, int(rng.integers(1, 40))).tolist():
            index.append(token)
            known.append(token)
            path = rng.integers(0, alphabet + 1, int(rng.integers(0, 6))).tolist()
            expected = brute_longest(known, path, lengths)
            # Earlier tokens than the last `lengths` change nothing.
            assert index.longest([*known, *path]) == index.longest([*known[-lengths:], *path]) == expected
            found += expected is not None
    assert found > 500 and ContextIndex().longest([]) is None


def random_lists(rng: np.random.Generator, heads: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids [heads, width] and descending probabilities of sum below 1."""
    p = -np.sort(-rng.dirichlet(np.ones(width + 1), heads)[:, :width], axis=1)
    return np.stack([rng.permutation(V)[:width] for _ in range(heads)]), p.astype(np.float32)


def random_tables(rng: np.random.Generator, heads: int, hidden: int = 5) -> ConditionalTables:
    a, b = rng.normal(size=(2, V, 3)).astype(np.float32), rng.normal(size=(V, 3)).astype(np.float32)
    w, bias = rng.normal(size=(heads, 3, hidden)), rng.normal(size=(heads, 3))
    return ConditionalTables(np.arange(V, dtype=np.int32), a, b, "silu", w.astype(np.float32), bias.astype(np.float32))


@pytest.mark.parametrize("conditional", [False, True])
def test_tree_is_the_best_set_of_mixed_products(conditional: bool) -> None:
    rng = np.random.default_rng(1)
    deeper = 0
    for _ in range(40):
        heads, width, lengths = int(rng.integers(1, 3)), int(rng.integers(1, 4)), int(rng.integers(1, 4))
        max_depth, nodes = heads + 2, int(rng.integers(2, 20))
        ids, p = random_lists(rng, heads, width)
        tables = random_tables(rng, heads) if conditional else None
        hidden = rng.normal(size=(1, 5)).astype(np.float32)
        joint = HeadsJoint(Proposals(ids[None], p[None].astype(np.float64)), tables, hidden)
        weights = rng.uniform(0, 0.95, (heads + 1, lengths)).tolist()
        known = rng.integers(0, 4, 12).tolist()

        def q(path, heads=heads, p=p, ids=ids, tables=tables, hidden=hidden, known=known, weights=weights) -> float:
            """Written out by the definition, over every token."""
            total = 1.0
            for level, token in enumerate(path):
                own = np.zeros(V)
                if level < heads:
                    own[ids[level]] = p[level]
                    if tables is not None:
                        before = [known[-1], *path[:level]]
                        c = tables.a[0, before[-1]] + tables.context(hidden)[0, level]
                        c = c + (tables.a[1, before[-2]] if level else 0)
                        own[ids[level]] *= np.exp(tables.b[ids[level]] @ (c / (1 + np.exp(-c))))
                        own /= own.sum() + 1 - p[level].sum()
                found = brute_longest(known, list(path[:level]), len(weights[0]))
                if found:
                    w = weights[min(level, heads)][found[1] - 1]
                    own *= 1 - w
                    own[found[0]] += w
                total *= own[token]
            return total

        every, level = [], [()]
        for _ in range(max_depth):
            level = [(*path, t) for path, t in itertools.product(level, range(V)) if q((*path, t)) > 0]
            every += level
        every.sort(key=lambda path: -q(path))
        index = ContextIndex(known, lengths)
        tree = lookup_tree(joint, 0, index, weights, nodes, max_depth)
        assert set(tree) == set(every[: nodes - 1])
        assert all(path[:-1] in tree for path in tree if len(path) > 1)
        deeper += any(len(path) > heads for path in tree)
    assert deeper > 10


def test_copies_alone_go_as_deep_as_allowed() -> None:
    index = ContextIndex([1, 2, 3] * 8)
    nothing = HeadsJoint(Proposals(np.zeros((1, 0, 0), np.int32), np.zeros((1, 0, 0), np.float32)))
    tree = lookup_tree(nothing, 0, index, [[0.9] * 8], 64)
    assert tree == [tuple(([1, 2, 3] * 6)[:depth]) for depth in range(1, 17)]


def test_weights_of_zero_give_the_trees_without_lookup() -> None:
    rng = np.random.default_rng(2)
    for _ in range(10):
        ids, p = random_lists(rng, 4, 8)
        tables, hidden = random_tables(rng, 4), rng.normal(size=(1, 5)).astype(np.float32)
        index, zero = ContextIndex(rng.integers(0, 3, 30).tolist()), [[0.0] * 8] * 5
        proposals = Proposals(ids[None], p[None])

        def tokens(paths: list[tuple[int, ...]], ids=ids) -> list[tuple[int, ...]]:
            return [tuple(int(ids[k, r]) for k, r in enumerate(path)) for path in paths]

        tree = lookup_tree(HeadsJoint(proposals), 0, index, zero, 40)
        assert tree == tokens(best_first_tree(p, 40))
        joint = HeadsJoint(proposals, tables, hidden)
        assert lookup_tree(joint, 0, index, zero, 40) == heads_tree(joint, 0, index.tokens[-1], 40)


def synthetic(rng: np.random.Generator, lengths: list[int], alphabet: int = 4) -> tuple[Rollouts, Proposals]:
    """Answers that repeat themselves, with four heads' random lists."""
    tokens = rng.integers(0, alphabet, sum(lengths)).astype(np.int32)
    n, offsets = len(tokens), np.concatenate(([0], np.cumsum(lengths)))
    contexts = [rng.integers(0, alphabet, 10).astype(np.int32).tobytes() for _ in lengths]
    rollouts = Rollouts(
        rng.normal(size=(n, 5)).astype(np.float16), tokens, np.zeros((n, 8), np.int32), np.zeros((n, 8), np.float16),
        offsets, np.zeros(len(lengths), np.float32), ["s"] * len(lengths), contexts,
    )  # fmt: skip
    lists = [random_lists(rng, 4, 6) for _ in range(n)]
    return rollouts, Proposals(np.stack([i for i, _ in lists]), np.stack([p for _, p in lists]))


@pytest.mark.parametrize("limit", [7, 1000])
def test_simulation_without_weights_is_that_of_the_ordinary_tree(limit: int) -> None:
    rng = np.random.default_rng(3)
    rollouts, proposals = synthetic(rng, [30, 1, 12, 2, 50])
    tables, zero = random_tables(rng, 4), [[0.0] * 8] * 5
    r = rollouts
    for joint in (HeadsJoint(proposals), HeadsJoint(proposals, tables, r.hidden)):
        expected = simulate(r, dynamic_trees(joint, 30), limit)
        tally = simulate(r, lookup_trees(joint, zero, 30), limit)
        assert expected.tokens_per_step > 1.1
        assert (tally.steps, tally.added, tally.per_answer) == (expected.steps, expected.added, expected.per_answer)
        assert tally.accepted_by_depth.tolist() == expected.accepted_by_depth.tolist()


def test_simulation_counts_what_is_copied() -> None:
    """A loop of three tokens, useless heads: 12 tokens after the first, 5 a step where copies go four deep."""
    r, proposals = synthetic(np.random.default_rng(0), [13])
    r.tokens[:] = ([1, 2, 3] * 5)[:13]
    r.contexts[0] = np.array([1, 2, 3, 1, 2, 3], np.int32).tobytes()
    proposals.ids[:] = 9
    proposals.ids[:, :, 1:] = [8, 7, 6, 5, 4]
    tally = simulate(r, lookup_trees(HeadsJoint(proposals), [[0.99] * 8] * 5, 5), 1000)
    assert tally.per_answer == [(12, 3)] and tally.accepted_by_depth[:5].tolist() == [3, 3, 2, 2, 0]


def test_observations_follow_the_definition() -> None:
    rng = np.random.default_rng(4)
    rollouts, proposals = synthetic(rng, [25, 9])
    tables = random_tables(rng, 4)
    joint = HeadsJoint(proposals, tables, rollouts.hidden)
    cells = observe(rollouts, joint, 3, 7)
    expected: dict[tuple[int, int], list[tuple[float, bool]]] = {}
    for a, (start, stop) in enumerate(itertools.pairwise(rollouts.offsets.tolist())):
        s = np.frombuffer(rollouts.contexts[a], np.int32).tolist() + rollouts.tokens[start:stop].tolist()
        for row in range(start, stop):
            p = 10 + row - start
            for level in range(min(7, len(s) - 1 - p)):
                found = brute_longest(s[: p + 1], s[p + 1 : p + 1 + level], 3)
                if found:
                    truth, q = s[p + 1 + level], 1e-4
                    if level < 4:
                        ids, mass = joint.at(row)(s[p : p + 1 + level])
                        q = dict(zip(ids.tolist(), mass.tolist(), strict=True)).get(truth, 1e-4)
                    expected.setdefault((min(level, 4), found[1]), []).append((q, found[0] == truth))
    assert {c: list(zip(o.q, o.hit, strict=True)) for c, o in cells.items()} == expected
    assert {level for level, _ in cells} == {0, 1, 2, 3, 4}


def test_the_fit_recovers_a_mixture() -> None:
    rng = np.random.default_rng(5)
    cells = {}
    for (level, length), w in {(0, 1): 0.1, (0, 2): 0.6, (1, 1): 0.35, (1, 3): 0.9}.items():
        cell = cells[level, length] = Observations()
        for _ in range(6000):
            q = rng.dirichlet(np.ones(5))
            copied = int(rng.integers(5))
            truth = copied if rng.random() < w else int(rng.choice(5, p=q))
            cell.q.append(float(q[truth]))
            cell.hit.append(truth == copied)
    cells[0, 3] = Observations([0.1] * 19, [True] * 19)  # too few
    cells[2, 2] = Observations([1e-4] * 5000, [True] * 5000)
    weights = fit_weights(cells, 2, 4)
    np.testing.assert_allclose(weights[0][:2], [0.1, 0.6], atol=0.03)
    assert weights[0][2] == weights[0][3] == weights[0][1]
    np.testing.assert_allclose([weights[1][0], weights[1][2]], [0.35, 0.9], atol=0.03)
    assert weights[1][1] == weights[1][0]
    assert weights[2] == [0.0, 0.99, 0.99, 0.99]
    assert all(w == round(w, 4) for row in weights for w in row)


def write_answers(folder: Path, count: int, vocab: int, hidden: int) -> None:
    """A shard of greedy answers of 30 tokens that repeat what stands in their contexts."""
    rng, answers = np.random.default_rng(6), []
    for i in range(count):
        phrase = rng.integers(0, vocab, 20).tolist()
        answer = Answer(i, "ab"[i % 2], 0.0, 0, phrase, (phrase * 2)[5:35], rng.normal(size=(30, hidden)))
        answer.top_ids = answer.top_logprobs = np.zeros((30, 8))
        answers.append(answer)
    folder.mkdir()
    write_shard(folder / "shard-0.safetensors", answers, list(range(count)), hidden)


@pytest.fixture
def answered(tmp_path: Path) -> tuple[Path, Path, Path]:
    """(model folder, random heads, shards whose answers repeat what stands in their contexts)."""
    model = write_tiny_model(tmp_path / "model")
    config = HeadsConfig(2, 32, 1, 258)
    torch.manual_seed(0)
    heads = MedusaHeads(config, torch.arange(258))
    with torch.no_grad():
        for weight in heads.output_weight:
            weight.normal_()
    facts = {"temperatures": [1.0, 1.0], "accuracies": [[1 / (r + 2) for r in range(64)]] * 2}
    path = tmp_path / "h.safetensors"
    save_heads(heads, path, {**facts, "backbone": {"id": "out"}})
    write_answers(tmp_path / "data", 60, vocab=258, hidden=32)
    return model, path, tmp_path / "data"


def test_weights_are_fitted_stored_measured_and_prepared(
    answered: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, heads, data = answered
    measure = f"--heads {heads} --data {data} --nodes 1 16 --max-overlap 1 --lookup"
    with pytest.raises(ExportError, match=r"h\.json has no weights for it: run fit-lookup --write"):
        command("evaluate", *measure.split())
    seen = tmp_path / "seen.txt"
    seen.write_text("none\n")
    before, tensors = load_heads(heads)[1], heads.read_bytes()
    text = f"--heads {heads} --data {data} --backbone {model} --trained-shards {seen} --max-overlap 1 --answers 20"
    dry = command("fit-lookup", *text.split())
    assert load_heads(heads)[1] == before
    weights = command("fit-lookup", *text.split(), "--write")
    assert weights == dry and len(weights) == 3 and min(weights[0][3:]) > 0.85
    assert capsys.readouterr().out.count("| 2 | 8 | ") == 2
    after = load_heads(heads)[1]
    assert heads.read_bytes() == tensors
    assert {k: v for k, v in after.items() if k != "lookup"} == before
    assert (after["lookup"]["lengths"], after["lookup"]["weights"]) == (8, weights)
    record = after["lookup"]["fitted_on"]
    assert (record["answers"], record["tokens"], record["joint"]) == (20, 600, "product")
    report = command("evaluate", *measure.split())
    trees = {n: report["trees"][n]["dynamic_lookup"]["tokens_per_step"] for n in ("1", "16")}
    assert trees["1"] == 1 and trees["16"] > 8
    assert set(report["gains"]["16"]) == {"dynamic_lookup_over_static", "dynamic_lookup_over_dynamic_temperature"}
    assert "dynamic_lookup_over_static: +" in capsys.readouterr().out
    assert run("--output", tmp_path / "out", "--from", model, "--heads", heads) == 0
    assert manifest_of(tmp_path / "out")["heads"][0]["lookup"] == {"weights": weights}


def test_the_fit_is_beside_the_conditional_joint_where_there_is_one(tmp_path: Path, llama: TorchTwin) -> None:
    """And evaluation takes both."""
    model, path = heads_with_conditional(tmp_path, llama)
    write_answers(tmp_path / "data", 40, vocab=320, hidden=64)
    text = f"--heads {path} --data {tmp_path / 'data'} --backbone {model} --max-overlap 1"
    (tmp_path / "seen.txt").write_text("")
    command("fit-lookup", *text.split(), "--trained-shards", str(tmp_path / "seen.txt"), "--write")
    side = path.with_suffix(".json")
    record = json.loads(side.read_text())["lookup"]["fitted_on"]
    conditional = path.with_name("h.conditional.safetensors")
    assert record["joint"] == "conditional"
    assert record["conditional_sha256"] == hashlib.sha256(conditional.read_bytes()).hexdigest()
    arguments = [*text.split(), "--conditional", "--lookup", "--nodes", "16"]
    report = command("evaluate", *arguments)
    names = {name for name in report["gains"]["16"] if name.startswith("dynamic_lookup_over_")}
    assert len(names) == 3
    assert report["gains"]["16"]["dynamic_lookup_over_dynamic_conditional"]["percent"] > 100


ROW = [0.5] * 8


@pytest.mark.parametrize(
    ("lookup", "message"),
    [
        ([], r"h\.json: lookup\.lengths is None"),
        ({"lengths": 0, "weights": []}, r"lookup\.lengths is 0"),
        ({"lengths": 8}, r"must have 5 rows.*not None"),
        ({"lengths": 8, "weights": [ROW] * 4}, r"must have 5 rows.*not 4 rows"),
        ({"lengths": 8, "weights": [*[ROW] * 4, ROW[1:]]}, r"weights\[4\] must be a list of 8 numbers"),
        ({"lengths": 8, "weights": [[*ROW[1:], 1.0], *[ROW] * 4]}, r"weights\[0\] holds 1\.0"),
        ({"lengths": 8, "weights": [[*ROW[1:], -0.1], *[ROW] * 4]}, r"holds -0\.1"),
        ({"lengths": 8, "weights": [[*ROW[1:], float("nan")], *[ROW] * 4]}, r"holds nan"),
        ({"lengths": 8, "weights": [[*ROW[1:], True], *[ROW] * 4]}, r"holds True"),
        ({"lengths": 8, "weights": [[*ROW[1:], "0"], *[ROW] * 4]}, r"holds '0'"),
    ],
)
def test_malformed_weights_are_refused(tmp_path: Path, lookup: object, message: str) -> None:
    write_heads(tmp_path / "h", lookup=lookup)
    with pytest.raises(ExportError, match=message):
        read_own_heads(tmp_path / "h.safetensors")


def test_weights_are_read_and_may_be_absent(tmp_path: Path) -> None:
    write_heads(tmp_path / "h")
    assert read_own_heads(tmp_path / "h").lookup is None
    write_heads(tmp_path / "h", lookup={"lengths": 2, "weights": [[0, 0.25]] * 5})
    assert read_own_heads(tmp_path / "h").lookup == [[0.0, 0.25]] * 5


def test_prepare_says_when_lookups_were_fitted_beside_something_else(
    tmp_path: Path, llama: TorchTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    model, path = heads_with_conditional(tmp_path, llama)
    side, conditional = path.with_suffix(".json"), path.with_name("h.conditional.safetensors")
    facts = json.loads(side.read_text())
    own = {"conditional_sha256": hashlib.sha256(conditional.read_bytes()).hexdigest()}
    own |= {"temperatures": facts["temperatures"]}
    other = {"temperatures": [t * 1.2 for t in facts["temperatures"]]}
    for fit, noted in (({}, False), (own, False), (own | other, True), (own | {"conditional_sha256": None}, True)):
        lookup = {"lengths": 8, "weights": [ROW] * 5, "fitted_on": fit}
        side.write_text(json.dumps(facts | {"lookup": lookup}))
        assert run("--output", tmp_path / "out", "--from", model, "--heads", path) == 0
        assert ("weights of context lookup of heads" in capsys.readouterr().out) == noted
