"""Tokens per step of tree decoding, computed from stored greedy answers.

Greedy decoding's text does not depend on the tree, so a tree's accepted length at a position follows from the stored
tokens: the deepest tree node whose path equals the text. Counting: the first token comes from the prefill; every later
token is added by a verification step; tokens per step = tokens added by steps / steps (the bonus token included; plain
decoding is exactly 1).
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field

import numpy as np

from .shards import Rollouts
from .trees import HeadsJoint, Path, heads_tree, nested_tree

# The paths of tokens of the tree at a row, whose root is the token.
TreeAt = Callable[[int, int], Container[Path]]


@dataclass
class Tally:
    """Counts of one simulated decode."""

    steps: int = 0
    added: int = 0
    # Steps that accepted a node at each depth.
    accepted_by_depth: list[int] = field(default_factory=list)
    per_answer: list[tuple[int, int]] = field(default_factory=list)  # (added, steps)

    @property
    def tokens_per_step(self) -> float:
        return self.added / max(1, self.steps)


def simulate(rollouts: Rollouts, tree: TreeAt, limit: int) -> Tally:
    """Decode the first `limit` tokens of every answer."""
    tally = Tally()
    for start, stop, _ in rollouts.answers():
        answer = rollouts.tokens[start : min(stop, start + limit)].tolist()
        at, steps = 0, 0  # of the root, in the answer
        while at < len(answer) - 1:
            paths, depth = tree(start + at, answer[at]), 0
            while at + 1 + depth < len(answer) and tuple(answer[at + 1 : at + 2 + depth]) in paths:
                depth += 1
            tally.accepted_by_depth += [0] * (depth - len(tally.accepted_by_depth))
            for level in range(depth):
                tally.accepted_by_depth[level] += 1
            at = min(at + depth + 1, len(answer) - 1)
            steps += 1
        tally.steps += steps
        tally.added += len(answer) - 1
        tally.per_answer.append((len(answer) - 1, steps))
    return tally


def static_trees(ids: np.ndarray, accuracies: np.ndarray, nodes: int) -> TreeAt:
    """The same ranks at every row, of the heads' ids [N, K, m], searched by their accuracies [K, m]."""
    ranks = nested_tree(accuracies, nodes)

    def tree(row: int, root: int) -> set[Path]:
        return {tuple(int(ids[row, level, rank]) for level, rank in enumerate(path)) for path in ranks}

    return tree


def dynamic_trees(joint: HeadsJoint, nodes: int) -> TreeAt:
    """A fresh tree at every row, from that row's probabilities."""
    return lambda row, root: set(heads_tree(joint, row, root, nodes))


def oracle(ids: np.ndarray) -> TreeAt:
    """Hindsight: every path inside the heads' lists [N, K, m]."""

    class Lists:
        def __init__(self, row: int) -> None:
            self.ids = ids[row]

        def __contains__(self, path: object) -> bool:
            assert isinstance(path, tuple)
            return len(path) <= len(self.ids) and path[-1] in self.ids[len(path) - 1]

    return lambda row, root: Lists(row)


def bootstrap(tally: Tally, draws: int = 1000) -> tuple[float, float]:
    """95% percentile interval of tokens per step, answers resampled."""
    pairs = np.array(tally.per_answer)
    picks = np.random.default_rng(0).integers(len(pairs), size=(draws, len(pairs)))
    sums = pairs[picks].sum(1)
    low, high = np.percentile(sums[:, 0] / np.maximum(1, sums[:, 1]), [2.5, 97.5])
    return float(low), float(high)


def paired_gain(base: Tally, other: Tally, draws: int = 2000) -> dict:
    """Gain of `other` over `base` in tokens per step, percent, with a 95% interval of a bootstrap over answers in which
    both use the same draw.
    """
    before, after = np.array(base.per_answer), np.array(other.per_answer)  # [A, 2]: added, steps

    def gain(b: np.ndarray, o: np.ndarray) -> np.ndarray:
        return 100 * ((o[..., 0] / o[..., 1]) / (b[..., 0] / b[..., 1]) - 1)

    picks = np.random.default_rng(0).integers(len(before), size=(draws, len(before)))
    low, high = np.percentile(gain(before[picks].sum(1), after[picks].sum(1)), [2.5, 97.5])
    return {
        "percent": round(float(gain(before.sum(0), after.sum(0))), 2),
        "interval95": [round(float(low), 2), round(float(high), 2)],
    }
