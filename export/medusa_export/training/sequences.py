"""Stored answers as whole token sequences, for passes that run the backbone again: training of MEDUSA-2, measuring.

An answer's sequence is its context and all its tokens but the last. Row i of an answer (its state predicts token i)
stands at position len(context) - 1 + i.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..errors import ExportError
from .backbone import Backbone
from .lora import Lora, run_sequences
from .shards import Rollouts


@dataclass
class MicroBatch:
    """B padded sequences of S tokens and the N rows of the rollouts that lie in them."""

    tokens: torch.Tensor  # int64 [B, S]
    positions: torch.Tensor  # int64 [N], into the flattened [B * S]
    rows: np.ndarray  # int64 [N], rows of the rollouts
    answers: np.ndarray  # int64 [B]


class Sequences:
    """The answers of `rollouts` as sequences, cut into micro-batches of about equal length."""

    def __init__(self, rollouts: Rollouts, most_tokens: int, device: str = "cpu") -> None:
        """`most_tokens`: positions of a micro-batch, padding included; longer answers are left out (`left_out`)."""
        self.rollouts, self.most_tokens, self.device = rollouts, most_tokens, device
        self.contexts = [np.frombuffer(c, np.int32) for c in rollouts.contexts]
        answers = np.diff(rollouts.offsets)
        self.lengths = np.array([len(c) for c in self.contexts], np.int64) + answers - 1
        self.usable = np.flatnonzero((self.lengths <= most_tokens) & (answers > 0))
        self.left_out = len(answers) - len(self.usable)
        if not len(self.usable):
            raise ExportError(f"no answer fits in {most_tokens} tokens; the shortest has {self.lengths.min(initial=0)}")

    def plan(self, rng: np.random.Generator | None = None, pool: int = 256) -> list[np.ndarray]:
        """Answers of each micro-batch. With `rng` in random order: sorted by length within pools of `pool` answers,
        so that little is padded, and the micro-batches shuffled. Without: all by length.
        """
        order = self.usable if rng is None else rng.permutation(self.usable)
        width = len(order) if rng is None else pool
        groups: list[np.ndarray] = []
        for start in range(0, len(order), width):
            part = order[start : start + width]
            groups += self._cut(part[np.argsort(self.lengths[part], kind="stable")])
        if rng is not None:
            groups = [groups[i] for i in rng.permutation(len(groups))]
        return groups

    def _cut(self, ascending: np.ndarray) -> list[np.ndarray]:
        groups, start = [], 0
        for end in range(1, len(ascending) + 1):
            if end == len(ascending) or (end + 1 - start) * self.lengths[ascending[end]] > self.most_tokens:
                groups.append(ascending[start:end])
                start = end
        return groups

    def micro_batch(self, answers: np.ndarray) -> MicroBatch:
        width = int(self.lengths[answers].max())
        tokens = np.zeros((len(answers), width), np.int64)
        positions, rows = [], []
        for b, a in enumerate(answers):
            begin, end = self.rollouts.offsets[a], self.rollouts.offsets[a + 1]
            context = self.contexts[a]
            tokens[b, : self.lengths[a]] = np.concatenate((context, self.rollouts.tokens[begin : end - 1]))
            positions.append(b * width + len(context) - 1 + np.arange(end - begin))
            rows.append(np.arange(begin, end))
        where = torch.from_numpy(np.concatenate(positions)).to(self.device)
        return MicroBatch(torch.from_numpy(tokens).to(self.device), where, np.concatenate(rows), answers)


def states_of(backbone: Backbone, batch: MicroBatch, lora: Lora | None = None) -> torch.Tensor:
    """The backbone's states at the batch's rows, fp32 [N, H]."""
    return run_sequences(backbone, batch.tokens, lora).flatten(0, 1)[batch.positions]


@torch.no_grad()
def with_states(
    rollouts: Rollouts, backbone: Backbone, lora: Lora | None = None, most_tokens: int = 4096
) -> tuple[Rollouts, Rollouts]:
    """The answers as they are, and with the states of another backbone (float32); those too long are in neither."""
    sequences = Sequences(rollouts, most_tokens, backbone.device)
    hidden = np.zeros((len(rollouts.tokens), backbone.config.hidden_size), np.float32)
    for answers in sequences.plan():
        batch = sequences.micro_batch(answers)
        hidden[batch.rows] = states_of(backbone, batch, lora).cpu().numpy()
    keep = np.zeros(len(rollouts.sources), bool)
    keep[sequences.usable] = True
    return rollouts.select(keep), replace(rollouts, hidden=hidden).select(keep)
