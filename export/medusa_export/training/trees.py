"""Candidate trees as decoding builds them: one best-first search, and what gives it a node's children.

A path is a node's tokens (or ranks) from depth 1 downwards. K heads, m candidates each, r the rank of the conditional
joint.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..weights.conditional_file import ConditionalTables

Path = tuple[int, ...]
# A node's children, most probable first, and their probabilities, which are of one float type.
Children = Callable[[Path], tuple[Sequence[int], Sequence[np.floating]]]
# The tokens [m] that follow the tokens before them, the root's first, and their probabilities [m].
Following = Callable[[Sequence[int]], tuple[np.ndarray, np.ndarray]]


def best_first(children: Children, nodes: int, max_depth: int) -> list[Path]:
    """The nodes - 1 most probable paths, most probable first; a path's probability is the product along it.

    Prefix-closed by construction: a child is only reached from its parent, a sibling only from the one before it.
    Equal products: shallower first, then lower places among siblings. Products have the probabilities' own type.
    """
    chosen: list[Path] = []
    # (-product, depth, places among siblings, the parent's path, its children and their probabilities, its product)
    heap: list[tuple] = []

    def offer(above: np.floating, parent: Path, places: Path, labels: Sequence[int], p: Sequence[np.floating]) -> None:
        if places[-1] < len(labels):
            heapq.heappush(heap, (-(above * p[places[-1]]), len(places), places, parent, labels, p, above))

    labels, p = children(())
    if len(labels):
        offer(type(p[0])(1), (), (0,), labels, p)
    while heap and len(chosen) < nodes - 1:
        negative, depth, places, parent, labels, p, above = heapq.heappop(heap)
        path = (*parent, int(labels[places[-1]]))
        chosen.append(path)
        offer(above, parent, (*places[:-1], places[-1] + 1), labels, p)
        if depth < max_depth and len(chosen) < nodes - 1:
            offer(-negative, path, (*places, 0), *children(path))
    return chosen


def best_first_tree(marginals: np.ndarray, nodes: int) -> list[Path]:
    """Paths of ranks under independent marginals [K, m], each row descending; in float32, as in the runtime."""
    rows = [list(row) for row in marginals.astype(np.float32)]
    ranks = range(marginals.shape[1])
    return best_first(lambda path: (ranks, rows[len(path)]), nodes, len(rows))


def nested_tree(accuracies: np.ndarray | list[list[float]], nodes: int = 64) -> list[Path]:
    """Medusa's static trees of every size up to `nodes`: the tree of n nodes is the root and the first n - 1 paths.

    The best-first search takes one path after the other, so a larger tree only continues a smaller one. accuracies
    [K, m]: share of positions at which each rank of each head was right. Measured shares are not quite monotonic in the
    far ranks, so ranks are searched by share.
    """
    shares = np.asarray(accuracies, np.float32)
    ranks = np.argsort(-shares, axis=1, kind="stable")
    places = best_first_tree(np.take_along_axis(shares, ranks, axis=1), nodes)
    return [tuple(int(ranks[level, place]) for level, place in enumerate(path)) for path in places]


@dataclass
class Proposals:
    """The heads' best m tokens at every row: ids and probabilities [N, K, m], best first."""

    ids: np.ndarray
    probabilities: np.ndarray

    @property
    def heads(self) -> int:
        return self.ids.shape[1]

    def renormalised(self) -> Proposals:
        """The paper's rule: softmax over the m best only."""
        return Proposals(self.ids, self.probabilities / self.probabilities.sum(-1, keepdims=True))


class HeadsJoint:
    """What the heads say of the tokens along any path: their marginals, or under the conditional joint of `tables`."""

    def __init__(
        self, proposals: Proposals, tables: ConditionalTables | None = None, hidden: np.ndarray | None = None
    ) -> None:
        """Hidden [N, H]: the backbone's states at the rows of `proposals`, for tables with context."""
        self.proposals, self.tables, self.heads = proposals, tables, proposals.heads
        self._context = None if tables is None or hidden is None else tables.context(hidden)
        if tables is not None:
            self._draft_index = np.full(tables.a.shape[1], -1, np.int64)
            self._draft_index[tables.token_map] = np.arange(len(tables.token_map))

    def at(self, row: int) -> Following:
        """The candidates of head len(before) - 1 and their probabilities."""
        ids, marginals = self.proposals.ids[row], self.proposals.probabilities[row]
        if self.tables is None:
            return lambda before: (ids[len(before) - 1], marginals[len(before) - 1])
        rest = np.maximum(0, 1 - marginals.sum(1))
        rows_of_b: dict[int, np.ndarray] = {}

        def following(before: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
            k = len(before) - 1
            if k not in rows_of_b:
                rows_of_b[k] = self.tables.b[self._draft_index[ids[k]]]
            w = marginals[k] * np.exp(rows_of_b[k] @ self._vector(before, k, row))
            return ids[k], (w / (w.sum() + rest[k])).astype(np.float64)

        return following

    def _vector(self, before: Sequence[int], k: int, row: int) -> np.ndarray:
        """C [r] of the conditional joint for the candidates of head k after the tokens `before`."""
        t = self.tables
        c = t.a[0, before[-1]] if self._context is None else t.a[0, before[-1]] + self._context[row, k]
        for d in range(2, min(len(t.a), len(before)) + 1):
            c = c + t.a[d - 1, before[-d]]
        if t.level_bias is not None:
            c = c + t.level_bias[k]
        if t.activation == "silu":
            c = c / (1 + np.exp(-c))
        return c if t.level_gain is None else c * t.level_gain[k]


def heads_tree(joint: HeadsJoint, row: int, root: int, nodes: int) -> list[Path]:
    """Paths of tokens, from what the heads say after `root`, the backbone's own next token at the row."""
    following = joint.at(row)
    return best_first(lambda path: _descending(*following((root, *path))), nodes, joint.heads)


def _descending(ids: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-p, kind="stable")
    return ids[order], p[order]
