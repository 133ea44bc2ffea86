"""The best-first search against brute force, and what the simulation counts. Joints: test_conditional."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from heads_tiny import made_rollouts
from medusa_export.training.simulation import dynamic_trees, oracle, simulate, static_trees
from medusa_export.training.trees import HeadsJoint, Proposals, best_first_tree, nested_tree


def test_tree_is_the_best_set_of_products() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        heads, width, nodes = rng.integers(1, 5), rng.integers(1, 5), int(rng.integers(1, 30))
        marginals = -np.sort(-rng.random((heads, width)), axis=1)
        every = [p for d in range(1, heads + 1) for p in itertools.product(range(width), repeat=d)]
        every.sort(key=lambda p: -np.prod([marginals[k, r] for k, r in enumerate(p)]))
        assert set(best_first_tree(marginals, nodes)) == set(every[: nodes - 1])


def test_tree_of_the_worked_vector() -> None:
    """ALGORITHMS: m = 3, n = 10 -> these rank paths."""
    logits = np.array([[2, 1, -0.5], [1.5, 1.1, -1], [0.9, 0.2, -0.3], [0.4, 0.3, 0]])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = {(0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1), (0, 0, 0), (0, 0, 1), (0, 1, 0)}
    assert set(best_first_tree(p, 10)) == expected


def test_saturated_probabilities_orphan_no_child() -> None:
    marginals = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    for nodes in range(1, 12):
        tree = set(best_first_tree(marginals, nodes))
        assert all(path[:-1] in tree for path in tree if len(path) > 1)


def test_equal_products_come_shallower_first_then_by_rank() -> None:
    tree = best_first_tree(np.array([[0.5, 0.5], [1.0, 0.5]]), 5)
    assert tree == [(0,), (1,), (0, 0), (1, 0)]


def test_nested_tree_holds_the_static_tree_of_every_size() -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        shares = np.sort(rng.random((4, 12)), axis=1)[:, ::-1].astype(np.float32)
        shares[:, [4, 5]] = shares[:, [5, 4]]  # ranks whose shares are out of order
        paths = nested_tree(shares, 64)
        assert len(set(paths)) == 63
        value = {path: np.prod([shares[k, r] for k, r in enumerate(path)]) for path in paths}
        every = [p for d in range(1, 5) for p in itertools.product(range(12), repeat=d)]
        best = sorted((np.prod([shares[k, r] for k, r in enumerate(p)]) for p in every), reverse=True)
        for n in range(2, 65):
            # No other tree of n nodes holds more: the sum of its paths' shares is that of the best n - 1 of all.
            assert sum(value[p] for p in paths[: n - 1]) == pytest.approx(sum(best[: n - 1]), rel=1e-5)
            assert all(p[:-1] in paths[: n - 1] for p in paths[: n - 1] if len(p) > 1)


def test_simulation_counts_bonus_tokens_and_steps() -> None:
    rollouts = made_rollouts([5, 2])
    rollouts.tokens[:] = [5, 6, 7, 8, 9, 5, 6]
    ids = np.full((7, 2, 1), 99)
    ids[0] = [[6], [7]]  # at the first row both heads are right
    joint = HeadsJoint(Proposals(ids, np.full((7, 2, 1), 0.9, np.float32)))
    for tree in (dynamic_trees(joint, 3), static_trees(ids, np.array([[0.9], [0.8]]), 3), oracle(ids)):
        tally = simulate(rollouts, tree, limit=100)
        # Step 1 adds 6, 7 and the bonus 8; step 2 adds 9; the second answer takes one step.
        assert (tally.added, tally.steps, tally.per_answer) == (5, 3, [(4, 2), (1, 1)])
        assert tally.accepted_by_depth == [1, 1]
    assert simulate(rollouts, dynamic_trees(joint, 1), 100).tokens_per_step == 1
    assert simulate(rollouts, oracle(ids), limit=3).per_answer == [(2, 1), (1, 1)]
