"""What repetition.py counts, against counting by hand and by brute force."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from medusa_export.heads.calibration import rank_accuracies  # noqa: E402
from medusa_export.heads.shards import Rollouts  # noqa: E402
from medusa_export.heads.tree_simulation import Proposals  # noqa: E402
from repetition import COPIED_AFTER, GRAM, LOOP, copied, ends_in_loop, repeated_shares  # noqa: E402


def answers(*pairs: tuple[list[int], list[int]]) -> Rollouts:
    """(context, answer) pairs."""
    tokens = np.array([t for _, answer in pairs for t in answer], np.int32)
    offsets = np.cumsum([0, *(len(answer) for _, answer in pairs)])
    none, contexts = np.zeros((len(tokens), 8)), [np.array(c, np.int32).tobytes() for c, _ in pairs]
    return Rollouts(none, tokens, none, none, offsets, np.zeros(len(pairs)), [""] * len(pairs), contexts)


def test_copied_tokens_are_those_after_an_earlier_run_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(0, 2, 20).tolist(), rng.integers(0, 2, 150).tolist()) for _ in range(6)]
    marks, at, some = copied(answers(*pairs)), 0, 0
    for context, answer in pairs:
        text = context + answer
        for i in range(len(context), len(text)):
            run = text[i - COPIED_AFTER : i]
            earlier = [j for j in range(COPIED_AFTER, i) if text[j - COPIED_AFTER : j] == run]
            assert marks[at] == (bool(earlier) and text[earlier[-1]] == text[i])
            some += bool(earlier)
            at += 1
    assert at == len(marks) and 0.2 < marks.mean() < 0.8 and some > 500


def test_accuracies_count_only_marked_rows_with_a_target() -> None:
    data = answers(([9], [1, 2, 3, 4]), ([9], [5, 6]))
    ids = np.zeros((6, 2, 2), np.int32)
    ids[0] = [[2, 0], [0, 3]]  # head 1 right at once, head 2 by its second choice
    ids[1] = [[0, 0], [4, 0]]
    ids[4] = [[6, 0], [8, 8]]  # head 2 has no target there
    proposals, mask = Proposals(ids, np.zeros((6, 2, 2), np.float32)), np.array([1, 1, 0, 1, 1, 1], bool)
    ranks = rank_accuracies(proposals, data, mask)
    np.testing.assert_allclose(np.stack((ranks[:, 0], ranks.sum(1)), 1), [[2 / 3, 2 / 3], [1 / 2, 1]])


def test_shares_and_loops() -> None:
    stretch = list(range(GRAM + 2))
    shares = repeated_shares(answers((stretch, [99]), (stretch, [98, *stretch]), ([], [*stretch, *stretch])))
    # 98 0 .. 9 has four 8-grams, of which those without 98 stood in the context; the third answer 13, the last 3 again.
    assert shares.tolist() == pytest.approx([0, 3 / 4, 3 / 13])
    period = np.arange(2 * LOOP + 5) % 17
    assert (
        ends_in_loop(period) and not ends_in_loop(np.arange(2 * LOOP + 5)) and not ends_in_loop(period[: 2 * LOOP - 1])
    )
    broken = period.copy()
    broken[-1] = 40
    assert not ends_in_loop(broken)
