"""Dynamic trees under the conditional joint (conditional.py), for the simulation of tree_simulation.py."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..weights.conditional_file import ConditionalTables
from .tree_simulation import Path, Proposals, depth_within


@dataclass
class PathJoint:
    """The lookups of the conditional joint at one row: c of a path, and the rows of B.

    z float32 [K, r]: what the hidden state adds to c, None without context.
    """

    tables: ConditionalTables
    z: np.ndarray | None

    def state(self, before: list[int], head: int) -> np.ndarray:
        """c [r] for the candidates of `head`, whose ancestors are `before`, the root first."""
        t = self.tables
        c = t.a[0, before[-1]].copy() if self.z is None else t.a[0, before[-1]] + self.z[head]
        for d in range(2, min(len(t.a), len(before)) + 1):
            c = c + t.a[d - 1, before[-d]]
        if t.level_bias is not None:
            c = c + t.level_bias[head]
        if t.activation == "silu":
            c = c / (1 + np.exp(-c))
        return c if t.level_gain is None else c * t.level_gain[head]


def conditional_best_first_tree(
    marginals: np.ndarray, candidates: np.ndarray, root: int, tokens: np.ndarray, joint: PathJoint, nodes: int
) -> list[Path]:
    """The nodes - 1 most probable rank paths where a node's children are weighed by q(y | path).

    marginals, candidates, tokens [K, m]: probabilities, draft indices and token ids of the heads' best m. root is the
    backbone's own next token. Prefix-closed like `best_first_tree`: a node is only reached from its parent, a sibling
    only from the more probable one before it.
    """
    heads, width = marginals.shape
    rest = np.maximum(0, 1 - marginals.sum(1))
    weights = [(marginals[k], joint.tables.b[candidates[k]], rest[k]) for k in range(heads)]

    def children(path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Ranks of head len(path) by falling q, and these q."""
        k = len(path)
        p, b, outside = weights[k]
        before = [root, *(int(tokens[i, r]) for i, r in enumerate(path))]
        w = p * np.exp(b @ joint.state(before, k))
        q = w / (w.sum() + outside)
        order = np.argsort(-q, kind="stable")
        return order, q[order]

    chosen: list[Path] = []
    tie = itertools.count()
    order, q = children(())
    # Entries: (-probability, depth, tie break, parent's path, place among siblings, their order and q, parent's).
    heap = [(-float(q[0]), 1, next(tie), (), 0, order, q, 1.0)]
    while heap and len(chosen) < nodes - 1:
        negative, depth, _, parent, place, order, q, above = heapq.heappop(heap)
        path = (*parent, int(order[place]))
        chosen.append(path)
        if place + 1 < width:
            sibling = above * float(q[place + 1])
            heapq.heappush(heap, (-sibling, depth, next(tie), parent, place + 1, order, q, above))
        if depth < heads and len(chosen) < nodes - 1:
            order, q = children(path)
            heapq.heappush(heap, (negative * float(q[0]), depth + 1, next(tie), path, 0, order, q, -negative))
    return chosen


def conditional_tree(
    proposals: Proposals, roots: np.ndarray, hidden: np.ndarray, tables: ConditionalTables, nodes: int
) -> Callable[[int, list[int]], int]:
    """A fresh tree at every row. roots [N]: the backbone's next token at each row, hidden [N, H]: its state there."""
    draft_index = np.full(tables.a.shape[1], -1, np.int64)
    draft_index[tables.token_map] = np.arange(len(tables.token_map))
    context = tables.context(hidden)

    def depth(row: int, ranks: list[int]) -> int:
        if not ranks:
            return 0
        ids, z = proposals.ids[row], None if context is None else context[row]
        joint = PathJoint(tables, z)
        tree = conditional_best_first_tree(
            proposals.probabilities[row], draft_index[ids], int(roots[row]), ids, joint, nodes
        )
        return depth_within(set(tree), ranks)

    return depth
