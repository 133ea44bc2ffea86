"""Runs a "split" backbone from Python: for tests and measurements only (the program's runtime is in src/runtime)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..weights.source import Array
from .session import open_session

PADDING = np.float32(-1e9)


@dataclass(frozen=True)
class Step:
    """What one run gives for the wanted rows [r]."""

    next_tokens: Array  # int64 [r]
    logits: Array  # float32 [r, V], or [0, V]
    hidden: Array  # float32 [r, H]
    new_kv: Array  # float32 [L, 2, G, n, D]


class SplitRunner:
    """A session and the past of one sequence."""

    def __init__(self, path: Path, threads: int = 1, capacity: int = 256, unsigned_weights: bool | None = None) -> None:
        self.session = open_session(path, threads, unsigned_weights)
        # A single row of 4-bit products takes another kernel on some processors; src/runtime/cpu/kernels.ts asks which.
        self._least_rows = 2 if ".int4" in path.name else 1
        shapes = {i.name: i.shape for i in self.session.get_inputs()}
        self.layers = sum(name.startswith("past_key.") for name in shapes)
        _, self._groups, _, self._size = shapes["past_key.0"]
        self.past = self._empty(capacity)
        self.length = 0

    def _empty(self, capacity: int) -> Array:
        return np.zeros((self.layers, 2, self._groups, capacity, self._size), np.float32)

    def reset(self, capacity: int | None = None) -> None:
        self.length = 0
        if capacity is not None and capacity != self.past.shape[3]:
            self.past = self._empty(capacity)

    def run(
        self,
        ids: Array,
        parents: list[int] | None = None,
        rows: Array | None = None,
        want_logits: bool = False,
        start: int | None = None,
    ) -> Step:
        """Run `ids` after the first `start` rows of the past: a chain, or a tree by each node's parent (-1: root)."""
        n = len(ids)
        length = self.length if start is None else start
        wanted = np.arange(n) if rows is None else np.asarray(rows, np.int64)
        # Padded with a second root and a second result, which nobody looks at.
        padding = max(0, self._least_rows - n)
        above = [*(range(-1, n - 1) if parents is None else parents), *[-1] * padding]
        feed = self.feed(np.pad(np.asarray(ids, np.int64), (0, padding), "edge"), above, length)
        feed["output_rows"] = np.pad(wanted, (0, max(0, self._least_rows - len(wanted))), "edge")
        feed["want_logits"] = np.array(want_logits)
        tokens, logits, hidden, new_kv = self.session.run(["next_tokens", "logits", "hidden", "new_kv"], feed)
        r = len(wanted)
        return Step(tokens[:r], logits[:r], hidden[:r], new_kv[:, :, :, :n])

    def feed(self, ids: Array, parents: list[int] | None, length: int) -> dict[str, Array]:
        """All inputs but output_rows and want_logits."""
        n, capacity = len(ids), self.past.shape[3]
        visible = ancestors(list(range(-1, n - 1)) if parents is None else parents)
        bias = np.full((n, capacity + n), PADDING, np.float32)
        bias[:, :length] = 0
        bias[:, capacity:][visible] = 0
        feed = {"input_ids": ids, "position_ids": length + visible.sum(1) - 1, "attention_bias": bias}
        for layer in range(self.layers):
            feed[f"past_key.{layer}"] = self.past[layer, 0][None]
            feed[f"past_value.{layer}"] = self.past[layer, 1][None]
        return feed

    def append(self, step: Step, rows: Array | None = None) -> None:
        """Add the keys and values of `rows` (default: all) to the past; grows the buffers as needed."""
        fresh = step.new_kv if rows is None else step.new_kv[:, :, :, rows]
        end = self.length + fresh.shape[3]
        if end > self.past.shape[3]:
            bigger = self._empty(-(-end // 256) * 256)
            bigger[:, :, :, : self.length] = self.past[:, :, :, : self.length]
            self.past = bigger
        self.past[:, :, :, self.length : end] = fresh
        self.length = end


def ancestors(parents: list[int]) -> Array:
    """Bool [n, n]: row i marks node i and its ancestors. Parents come before their children."""
    visible = np.eye(len(parents), dtype=bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            visible[node] |= visible[parent]
    return visible
