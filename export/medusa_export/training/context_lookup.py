"""Lookup: what stands in the conversation already, beside what the heads propose.

Greedy text often repeats its context. For a node of the tree, the last tokens of context and path are looked up among
the tokens known for certain: the longest suffix that has occurred there, at its most recent place, names the copied
token c, and L is the suffix's length. How far c is trusted is the weight of the node's level and L
(docs/heads-format.md has the formula); trees.py builds the trees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LENGTHS = 8  # longest suffix that is looked up


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
