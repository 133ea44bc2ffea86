"""Tokens per step of tree decoding, computed offline from stored greedy answers.

Greedy decoding's text does not depend on the tree, so a tree's accepted length at a position follows from the
stored tokens: the deepest tree node whose path equals the text. Counting: the first token comes from the prefill;
every later token is added by a verification step; tokens per step = tokens added by steps / steps (the bonus token
included; plain decoding is exactly 1).
"""

from __future__ import annotations

import heapq
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
        return depth_within(set(best_first_tree(proposals.probabilities[row], nodes)), ranks) if ranks else 0

    return depth


def static_tree(accuracies: np.ndarray, nodes: int) -> Callable[[int, list[int]], int]:
    """One tree for all rows, from the share of positions [K, m] at which each rank of each head was right."""
    return fixed_tree(nested_tree(accuracies, nodes))


def fixed_tree(paths: list[Path]) -> Callable[[int, list[int]], int]:
    """The same tree for all rows."""
    tree = set(paths)
    return lambda row, ranks: depth_within(tree, ranks)


def oracle(row: int, ranks: list[int]) -> int:
    """Hindsight: the longest path inside the top-m lists."""
    return len(ranks)


def depth_within(tree: set[Path], ranks: list[int]) -> int:
    """How many leading ranks of a path the tree holds."""
    depth = 0
    while depth < len(ranks) and tuple(ranks[: depth + 1]) in tree:
        depth += 1
    return depth
