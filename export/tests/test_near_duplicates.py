"""Held-out answers that repeat training answers are found and left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medusa_export.errors import ExportError
from medusa_export.training.conversations import Answer
from medusa_export.training.near_duplicates import (
    drop_near_duplicates,
    gram_hashes,
    largest_shares,
    load_held_out,
    shared_shares,
)
from medusa_export.training.shards import Rollouts, TokenRows, load_tokens, write_shard


def rows_of(*answers: list[int]) -> TokenRows:
    offsets = np.cumsum([0, *map(len, answers)])
    return TokenRows(np.array([t for a in answers for t in a], np.int32), offsets)


def rollouts_of(*answers: list[int]) -> Rollouts:
    rows = rows_of(*answers)
    n, a = len(rows.tokens), len(answers)
    top = np.zeros((n, 8), np.int32)
    contexts = [bytes([i]) for i in range(a)]
    return Rollouts(
        np.zeros((n, 2), np.float16), rows.tokens, top, top.astype(np.float16), rows.offsets, np.zeros(a),
        ["s"] * a, contexts,
    )  # fmt: skip


def naive_grams(tokens: list[int], size: int) -> set[tuple[int, ...]]:
    return {tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)}


def test_shares_equal_those_of_sets_of_tuples() -> None:
    rng = np.random.default_rng(0)

    def draw(count: int) -> list[list[int]]:  # few tokens, so that grams repeat within and between answers
        return [rng.integers(0, 3, rng.integers(1, 40)).tolist() for _ in range(count)]

    held_out, training = draw(30), draw(50)
    largest = largest_shares(rows_of(*held_out), rows_of(*training), 4)
    anywhere = shared_shares(rows_of(*held_out), rows_of(*training), 4)
    known = set().union(*(naive_grams(t, 4) for t in training))
    for a, tokens in enumerate(held_out):
        own = naive_grams(tokens, 4)
        expected = max(len(own & naive_grams(t, 4)) for t in training) / max(1, len(own))
        assert largest[a] == pytest.approx(expected)
        runs = [tuple(tokens[i : i + 4]) for i in range(len(tokens) - 3)]
        assert anywhere[a] == pytest.approx(sum(r in known for r in runs) / max(1, len(runs)))


def test_grams_do_not_cross_answers() -> None:
    hashes, owners = gram_hashes(rows_of([1, 2, 3], [4], [5, 6, 7, 8]), 3)
    assert owners.tolist() == [0, 2, 2] and len(set(hashes.tolist())) == 3
    # The same run elsewhere has the same hash; another order of the same tokens has not.
    assert gram_hashes(rows_of([9, 1, 2, 3]), 3)[0][1] == hashes[0]
    assert gram_hashes(rows_of([3, 2, 1]), 3)[0][0] != hashes[0]


def test_near_copies_are_left_out_and_short_answers_stay() -> None:
    text = list(range(100, 130))
    near_copy = [*text[:25], 1, 2, 3]
    training = rows_of(text, list(range(200, 230)))
    kept, report = drop_near_duplicates(rollouts_of(near_copy, list(range(300, 330)), [100, 101]), training, 0.1)
    assert kept.tokens.tolist() == [*range(300, 330), 100, 101]
    assert (report.dropped, report.answers, report.dropped_tokens, report.tokens) == (1, 3, 28, 60)
    assert report.mean_shared_before == pytest.approx(18 / 21 / 3) and report.mean_shared_after == 0
    assert "dropped 1 of 3" in str(report)
    assert drop_near_duplicates(rollouts_of(near_copy), training, 1)[1].dropped == 0


def test_nothing_left_and_a_wrong_share_are_refused() -> None:
    text = list(range(20))
    with pytest.raises(ExportError, match=r"every one of the 1 held-out answers .* --max-overlap"):
        drop_near_duplicates(rollouts_of(text), rows_of(text), 0.5)
    with pytest.raises(ExportError, match=r"max_overlap is 5; it must lie in 0\.\.1"):
        drop_near_duplicates(rollouts_of(text), rows_of(text), 5)


def test_a_folder_gives_greedy_answers_unlike_its_training(tmp_path: Path) -> None:
    def answer(conversation: int, tokens: list[int], temperature: float = 0.0) -> Answer:
        rows = len(tokens)
        top = [np.zeros(8, np.int32)] * rows
        return Answer(
            conversation, "s", temperature, 0, [conversation], tokens, [np.zeros(2, np.float16)] * rows, top,
            [np.zeros(8, np.float16)] * rows,
        )  # fmt: skip

    copy, fresh = list(range(30)), list(range(50, 80))
    answers = [answer(0, copy), answer(20, fresh), answer(40, list(range(90, 120)), 0.7), answer(5, copy)]
    write_shard(tmp_path / "shard-w0-0000000.safetensors", answers, [0, 5, 20, 40], 2)
    assert load_tokens(tmp_path, ("train",)).tokens.tolist() == copy
    held_out, report = load_held_out(tmp_path, "validation")
    assert held_out.tokens.tolist() == fresh and (report.dropped, report.answers) == (1, 2)
