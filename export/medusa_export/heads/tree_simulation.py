"""Tokens per step of tree decoding, computed offline from stored greedy answers.

Greedy decoding's text does not depend on the tree, so a tree's accepted length at a position follows from the
stored tokens: the deepest tree node whose path equals the text. Counting: the first token comes from the prefill;
every later token is added by a verification step; tokens per step = tokens added by steps / steps (the bonus token
included; plain decoding is exactly 1).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Path = tuple[int, ...]  # ranks from depth 1 downwards


def best_first_tree(marginals: np.ndarray, nodes: int) -> list[Path]:
    """The nodes - 1 most probable rank paths under independent marginals [K, m], each row descending.

    Prefix-closed by construction: a child is only reached from its parent, a sibling only from the one before it.
    Equal products: shallower first, then lower ranks. Products are rounded to float32, as in the runtime.
    """
    heads, width = marginals.shape
    rows = [list(row) for row in marginals.astype(np.float32)]  # float32 scalars: their products are float32
    chosen: list[Path] = []
    heap: list[tuple[np.float32, int, Path, np.float32]] = [(-rows[0][0], 1, (0,), np.float32(1))]
    while heap and len(chosen) < nodes - 1:
        negative, depth, path, parent = heapq.heappop(heap)
        chosen.append(path)
        rank = path[-1]
        if rank + 1 < width:
            heapq.heappush(heap, (-parent * rows[depth - 1][rank + 1], depth, (*path[:-1], rank + 1), parent))
        if depth < heads:
            heapq.heappush(heap, (negative * rows[depth][0], depth + 1, (*path, 0), -negative))
    return chosen


def nested_tree(accuracies: np.ndarray | list[list[float]], nodes: int = 64) -> list[Path]:
    """Medusa's static trees of every size up to `nodes`: the tree of n nodes is the root and the first n - 1 paths.

    The best-first search takes one path after the other, so a larger tree only continues a smaller one. accuracies
    [K, m]: share of positions at which each rank of each head was right. Measured shares are not quite monotonic in the
    far ranks, so ranks are searched by share. Products are rounded to float32, as where the trees are used.
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

    def renormalised(self) -> Proposals:
        """The paper's rule: softmax over the m best only."""
        return Proposals(self.ids, self.probabilities / self.probabilities.sum(-1, keepdims=True))


@dataclass
class Tally:
    """Counts of one simulated decode."""

    steps: int = 0
    added: int = 0
    accepted_by_depth: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # [K], nodes accepted at depth
    per_answer: list[tuple[int, int]] = field(default_factory=list)  # (added, steps)

    @property
    def tokens_per_step(self) -> float:
        return self.added / max(1, self.steps)


def true_ranks(ids: np.ndarray, tokens: np.ndarray, row: int, end: int) -> list[int]:
    """Rank of the text's next tokens in each head's list, cut at the first miss: the oracle's path."""
    ranks: list[int] = []
    for k in range(ids.shape[1]):
        if row + 1 + k >= end:
            break
        hit = np.nonzero(ids[row, k] == tokens[row + 1 + k])[0]
        if not len(hit):
            break
        ranks.append(int(hit[0]))
    return ranks


def simulate(
    proposals: Proposals,
    tokens: np.ndarray,
    offsets: np.ndarray,
    in_tree: Callable[[int, list[int]], int],
    limit: int,
) -> Tally:
    """Decode every answer. `in_tree(row, ranks)` says how many leading ranks of the text's path the tree at
    row holds."""
    heads = proposals.ids.shape[1]
    tally = Tally(accepted_by_depth=np.zeros(heads, np.int64))
    for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        end = min(stop, start + limit)
        row, steps = start, 0
        while row < end - 1:
            depth = in_tree(row, true_ranks(proposals.ids, tokens, row, end))
            tally.accepted_by_depth[:depth] += 1
            row = min(row + depth + 1, end - 1)
            steps += 1
        tally.steps += steps
        tally.added += end - 1 - start
        tally.per_answer.append((end - 1 - start, steps))
    return tally


def dynamic_tree(proposals: Proposals, nodes: int) -> Callable[[int, list[int]], int]:
    """A fresh tree at every row, from that row's probabilities."""

    def depth(row: int, ranks: list[int]) -> int:
        return _depth_within(set(best_first_tree(proposals.probabilities[row], nodes)), ranks) if ranks else 0

    return depth


def static_tree(accuracies: np.ndarray, nodes: int) -> Callable[[int, list[int]], int]:
    """One tree for all rows, from the share of positions [K, m] at which each rank of each head was right."""
    tree = set(nested_tree(accuracies, nodes))
    return lambda row, ranks: _depth_within(tree, ranks)


def oracle(row: int, ranks: list[int]) -> int:
    """Hindsight: the longest path inside the top-m lists."""
    return len(ranks)


def _depth_within(tree: set[Path], ranks: list[int]) -> int:
    depth = 0
    while depth < len(ranks) and tuple(ranks[: depth + 1]) in tree:
        depth += 1
    return depth


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
    weights = [(marginals[k], joint.b[candidates[k]], rest[k]) for k in range(heads)]

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


@dataclass
class PathJoint:
    """The lookups of the conditional joint at one row: c of a path, and the rows of B.

    a float32 [D, V, r], b float32 [V', r], z float32 [K, r] or None, activation "none" or "silu".
    """

    a: np.ndarray
    b: np.ndarray
    z: np.ndarray | None
    activation: str

    def state(self, before: list[int], head: int) -> np.ndarray:
        """c [r] for the candidates of `head`, whose ancestors are `before`, the root first."""
        c = self.a[0, before[-1]].copy() if self.z is None else self.a[0, before[-1]] + self.z[head]
        for d in range(2, min(len(self.a), len(before)) + 1):
            c = c + self.a[d - 1, before[-d]]
        return c / (1 + np.exp(-c)) if self.activation == "silu" else c


def conditional_tree(
    proposals: Proposals,
    roots: np.ndarray,
    draft_index: np.ndarray,
    joint_at: Callable[[int], PathJoint],
    nodes: int,
) -> Callable[[int, list[int]], int]:
    """A fresh tree at every row under the conditional joint. roots [N]: the backbone's next token at each row;
    draft_index [V]: token id -> draft index."""

    def depth(row: int, ranks: list[int]) -> int:
        if not ranks:
            return 0
        ids = proposals.ids[row]
        tree = conditional_best_first_tree(
            proposals.probabilities[row], draft_index[ids], int(roots[row]), ids, joint_at(row), nodes
        )
        return _depth_within(set(tree), ranks)

    return depth
