"""Context lookup: what stands in the conversation already, beside what the heads propose.

Greedy text often repeats its context. For a node of the tree, the last tokens of context and path are looked up among
the tokens known for certain: the longest suffix that has occurred there, at its most recent place, names the copied
token c, and L is the suffix's length. The node's children are then weighed by

    q'(y) = (1 - w) q(y) + w [y = c]        w = weights[min(level, K)][L - 1]

with q the heads' own probabilities and level the node's depth (0: the root). From level K on there are no heads, and c,
with probability w, is the only child; so trees go deeper than the heads where copies do.

Such trees hold tokens outside the heads' lists, so they are sets of token paths here, not of ranks, and have a
simulation of their own, which counts as that of tree_simulation.py does.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..weights.conditional_file import ConditionalTables
from .conditional_tree import PathJoint
from .shards import Rollouts
from .tree_simulation import Proposals, Tally

LENGTHS = 8  # longest suffix that is looked up
MAX_DEPTH = 16  # of a tree
OUTSIDE = 1e-4  # what the fit takes for q of a token outside the heads' lists
LEAST_OBSERVATIONS = 20  # fewer do not make a weight
MOST_WEIGHT = 0.99  # the heads keep a say, and 1 is no weight

TokenPath = tuple[int, ...]  # token ids from depth 1 downwards
Children = Callable[[list[int]], tuple[np.ndarray, np.ndarray]]


class ContextIndex:
    """The tokens known so far, and for every run of up to `lengths` of them the token after its last occurrence.

    A trie read backwards: from the root one step for each earlier token, so that going down lengthens the suffix.
    """

    def __init__(self, tokens: Iterable[int] = (), lengths: int = LENGTHS) -> None:
        self.tokens: list[int] = []
        self.lengths = lengths
        self._nodes: dict[tuple[int, int], int] = {}  # (node, earlier token) -> node
        self._next = [-1]  # by node: the token after the most recent occurrence
        for token in tokens:
            self.append(token)

    def append(self, token: int) -> None:
        """What ended before `token` is from now on followed by it."""
        node = 0
        for earlier in reversed(self.tokens[-self.lengths :]):
            node = self._nodes.setdefault((node, earlier), len(self._next))
            if node == len(self._next):
                self._next.append(token)
            else:
                self._next[node] = token
        self.tokens.append(token)

    def longest(self, suffix: Sequence[int]) -> tuple[int, int] | None:
        """(token, length) of the longest end of `suffix` that has occurred and been followed; None without one.

        Wherever a run of tokens occurred, its own end did too: the first length that fails is the last to be tried.
        """
        node = length = 0
        for earlier in reversed(suffix[-self.lengths :]):
            below = self._nodes.get((node, earlier))
            if below is None:
                break
            node, length = below, length + 1
        return (self._next[node], length) if length else None


@dataclass
class HeadsJoint:
    """The heads' q along any path: under the conditional joint if `tables` are given, else their marginals.

    hidden [N, H]: the backbone's states at the rows of `proposals`; needed with tables.
    """

    proposals: Proposals
    tables: ConditionalTables | None = None
    hidden: np.ndarray | None = None
    _draft_index: np.ndarray = field(init=False, repr=False)
    _context: np.ndarray | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        if self.tables is not None:
            self._draft_index = np.full(self.tables.a.shape[1], -1, np.int64)
            self._draft_index[self.tables.token_map] = np.arange(len(self.tables.token_map))
            self._context = self.tables.context(self.hidden) if self.hidden is not None else None

    @property
    def heads(self) -> int:
        return self.proposals.ids.shape[1]

    def at(self, row: int) -> Children:
        """For the tokens `before` of a node, the root's first: ids [m] of head len(before) - 1 and their q [m]."""
        ids, marginals = self.proposals.ids[row], self.proposals.probabilities[row]
        t = self.tables
        if t is None:
            return lambda before: (ids[len(before) - 1], marginals[len(before) - 1])
        joint = PathJoint(t, None if self._context is None else self._context[row])
        rest = np.maximum(0, 1 - marginals.sum(1))
        rows_of_b: dict[int, np.ndarray] = {}

        def q(before: list[int]) -> tuple[np.ndarray, np.ndarray]:
            k = len(before) - 1
            if k not in rows_of_b:
                rows_of_b[k] = t.b[self._draft_index[ids[k]]]
            w = marginals[k] * np.exp(rows_of_b[k] @ joint.state(before, k))
            # float64 from here on, as conditional_best_first_tree multiplies.
            return ids[k], (w / (w.sum() + rest[k])).astype(np.float64)

        return q


def lookup_best_first_tree(
    q: Children, heads: int, weights: list[list[float]], index: ContextIndex, nodes: int, max_depth: int = MAX_DEPTH
) -> list[TokenPath]:
    """The nodes - 1 most probable token paths, most probable first. `index` ends in the root's token.

    Prefix-closed like `best_first_tree`: a node is only reached from its parent, a sibling only from the more probable
    one before it. Products have q's type, so that without copies the trees are those of `best_first_tree`
    (float32) and of `conditional_best_first_tree` (float64).
    """
    known = index.tokens[-index.lengths :]
    root = index.tokens[-1]

    def children(path: TokenPath) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of a node's children by falling q', and these q'."""
        level = len(path)
        ids, p = q([root, *path]) if level < heads else (np.zeros(0, np.int64), np.zeros(0))
        found = index.longest([*known, *path])
        w = weights[min(level, heads)][found[1] - 1] if found else 0.0
        if found and w > 0:
            own = ids == found[0]
            if own.any():
                p = p * p.dtype.type(1 - w)
                p[own] += w
            else:
                ids, p = np.append(ids, found[0]), np.append(p * p.dtype.type(1 - w), p.dtype.type(w))
        order = np.argsort(-p, kind="stable")
        return ids[order], p[order]

    chosen: list[TokenPath] = []
    tie = itertools.count()
    # Entries: (-probability, depth, tie break, parent's path, place among siblings, their ids and q', parent's).
    heap: list[tuple] = []

    def offer(above: np.floating, parent: TokenPath, place: int, ids: np.ndarray, p: np.ndarray) -> None:
        if place < len(ids):
            entry = (-(above * p[place]), len(parent) + 1, next(tie), parent, place, ids, p, above)
            heapq.heappush(heap, entry)

    ids, p = children(())
    offer(p.dtype.type(1), (), 0, ids, p)
    while heap and len(chosen) < nodes - 1:
        negative, depth, _, parent, place, ids, p, above = heapq.heappop(heap)
        path = (*parent, int(ids[place]))
        chosen.append(path)
        offer(above, parent, place + 1, ids, p)
        if depth < max_depth and len(chosen) < nodes - 1:
            offer(-negative, path, 0, *children(path))
    return chosen


def lookup_tree(
    joint: HeadsJoint, weights: list[list[float]], nodes: int, max_depth: int = MAX_DEPTH
) -> Callable[[int, ContextIndex], set[TokenPath]]:
    """A fresh tree at every row, for `simulate_lookup`."""

    def tree(row: int, index: ContextIndex) -> set[TokenPath]:
        return set(lookup_best_first_tree(joint.at(row), joint.heads, weights, index, nodes, max_depth))

    return tree


def simulate_lookup(
    rollouts: Rollouts,
    tree: Callable[[int, ContextIndex], set[TokenPath]],
    limit: int,
    lengths: int = LENGTHS,
    max_depth: int = MAX_DEPTH,
) -> Tally:
    """Decode every answer, as `simulate` counts. tree(row, index): token paths; `index` holds the answer's context and
    its tokens up to that of the row, the root."""
    tally = Tally(accepted_by_depth=np.zeros(max_depth, np.int64))
    for start, stop, context in _answers(rollouts):
        end = min(stop, start + limit)
        answer = rollouts.tokens[start:end].tolist()
        index = ContextIndex([*context, answer[0]], lengths) if answer else ContextIndex()
        at, steps = 0, 0  # of the root, in the answer
        while at < len(answer) - 1:
            paths, depth = tree(start + at, index), 0
            while at + 1 + depth < len(answer) and tuple(answer[at + 1 : at + 2 + depth]) in paths:
                depth += 1
            tally.accepted_by_depth[:depth] += 1
            ahead = min(at + depth + 1, len(answer) - 1)
            for token in answer[at + 1 : ahead + 1]:
                index.append(token)
            at = ahead
            steps += 1
        tally.steps += steps
        tally.added += end - 1 - start
        tally.per_answer.append((end - 1 - start, steps))
    return tally


def _answers(rollouts: Rollouts) -> Iterator[tuple[int, int, list[int]]]:
    """(first row, row after the last, the context's tokens) of every answer."""
    bounds = rollouts.offsets.tolist()
    for start, stop, context in zip(bounds[:-1], bounds[1:], rollouts.contexts, strict=True):
        yield start, stop, np.frombuffer(context, np.int32).tolist()


@dataclass
class Observations:
    """What a cell (level, length) of the weights was fitted on: q [O] of the text's token, and whether c was it [O]."""

    q: list[float] = field(default_factory=list)
    hit: list[bool] = field(default_factory=list)

    def weight(self) -> float:
        """The mixture's weight of greatest likelihood, by EM; drawn a little towards 0 where observations are few."""
        q, hit = np.array(self.q), np.array(self.hit, float)
        w = 0.2
        for _ in range(100):
            copied = w * hit / ((1 - w) * q + w * hit + 1e-12)
            w = float((copied.sum() + 0.5) / (len(q) + 5))
        return min(w, MOST_WEIGHT)


def observe(
    rollouts: Rollouts, joint: HeadsJoint, lengths: int = LENGTHS, max_depth: int = MAX_DEPTH
) -> dict[tuple[int, int], Observations]:
    """Every lookup along the true path from every row, by (level, length); levels below the heads count as one.

    Teacher-forced: at level j of row i the path is the text's next j tokens, while only what stands up to row i has
    been indexed, as in decoding.
    """
    heads = joint.heads
    cells: dict[tuple[int, int], Observations] = {}
    for start, stop, context in _answers(rollouts):
        answer = rollouts.tokens[start:stop].tolist()
        index = ContextIndex(context, lengths)
        for at, root in enumerate(answer[:-1]):
            index.append(root)
            q = joint.at(start + at)
            for level in range(min(max_depth, len(answer) - 1 - at)):
                found = index.longest([*index.tokens[-lengths:], *answer[at + 1 : at + 1 + level]])
                if not found:
                    continue
                token, length = found
                truth = answer[at + 1 + level]
                cell = cells.setdefault((min(level, heads), length), Observations())
                cell.q.append(_q_of(truth, *q(answer[at : at + 1 + level])) if level < heads else OUTSIDE)
                cell.hit.append(token == truth)
    return cells


def _q_of(token: int, ids: np.ndarray, q: np.ndarray) -> float:
    place = np.nonzero(ids == token)[0]
    return float(q[place[0]]) if len(place) else OUTSIDE


def fit_weights(cells: dict[tuple[int, int], Observations], heads: int, lengths: int = LENGTHS) -> list[list[float]]:
    """weights [heads + 1][lengths]; a cell of too few observations takes the next shorter length's, the first 0."""
    weights = []
    for level in range(heads + 1):
        row = [0.0]
        for length in range(1, lengths + 1):
            cell = cells.get((level, length), Observations())
            row.append(round(cell.weight(), 4) if len(cell.q) >= LEAST_OBSERVATIONS else row[-1])
        weights.append(row[1:])
    return weights
