"""From pooled rollouts to training batches: draft vocabulary, targets of every head, soft targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .shards import Rollouts


def frequent_tokens(tokens: np.ndarray, vocab: int, count: int, always: tuple[int, ...] = ()) -> np.ndarray:
    """The `count` most frequent token ids, ascending, int64; `always` (the end token) is among them."""
    frequency = np.bincount(tokens, minlength=vocab).astype(np.int64)
    frequency[list(always)] = np.iinfo(np.int64).max
    # Stable: ties go to the lower id, which in a BPE is the earlier, commoner merge.
    return np.sort(np.argsort(-frequency, kind="stable")[:count])


def coverage(tokens: np.ndarray, token_map: np.ndarray) -> float:
    """Share of `tokens` that the draft vocabulary holds."""
    return float(np.isin(tokens, token_map).mean())


@dataclass
class HeadTargets:
    """Positions that have at least one target, and the row of each head's target (-1: beyond the answer's end)."""

    rows: np.ndarray  # int64 [P], rows of hidden
    target_rows: np.ndarray  # int64 [P, K], rows whose token the head must predict


def head_targets(rollouts: Rollouts, heads: int) -> HeadTargets:
    """Head k at row i (its state predicts tokens[i]) has target tokens[i + 1 + k] of the same answer."""
    lengths = np.diff(rollouts.offsets)
    ends = np.repeat(rollouts.offsets[1:], lengths)  # [N]
    rows = np.arange(len(rollouts.tokens))
    target_rows = rows[:, None] + 1 + np.arange(heads)
    target_rows[target_rows >= ends[:, None]] = -1
    keep = target_rows[:, 0] >= 0
    return HeadTargets(rows[keep], target_rows[keep])


class Batches:
    """Shuffled batches, a pure function of (seed, step), so that a resumed run sees what an unbroken one would."""

    def __init__(
        self,
        rollouts: Rollouts,
        heads: int,
        token_map: np.ndarray,
        vocab: int,
        soft: float,
        seed: int,
        device: str,
    ) -> None:
        self.rollouts, self.soft, self.seed, self.device = rollouts, soft, seed, device
        self.targets = head_targets(rollouts, heads)
        self.draft_index = np.full(vocab, -1, np.int64)
        self.draft_index[token_map] = np.arange(len(token_map))
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.targets.rows)

    def batch(self, step: int, size: int) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        """hidden fp32 [B, H] and per head (ids int64 [B, C], mass fp32 [B, C]); a row without target has mass 0."""
        per_epoch = max(1, len(self) // size)
        epoch = step // per_epoch
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self))
        chosen = np.sort(self._order[(step % per_epoch) * size :][:size])
        hidden = torch.from_numpy(self.rollouts.hidden[self.targets.rows[chosen]]).to(self.device).float()
        per_head = [self._masses(self.targets.target_rows[chosen, k]) for k in range(self.targets.target_rows.shape[1])]
        return hidden, per_head

    def _masses(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        present = rows >= 0
        hard = self.draft_index[self.rollouts.tokens[rows]]
        usable = present & (hard >= 0)
        ids, mass = hard[:, None], usable[:, None].astype(np.float32)
        if self.soft > 0:
            # The backbone's own distribution at the target's position, cut to its 8 best and to the draft vocabulary.
            soft_ids = self.draft_index[self.rollouts.top_ids[rows]]
            p = np.exp(self.rollouts.top_logprobs[rows].astype(np.float32)) * (soft_ids >= 0)
            p /= np.maximum(p.sum(1, keepdims=True), 1e-9)
            ids = np.concatenate((ids, soft_ids), axis=1)
            mass = np.concatenate((mass * (1 - self.soft), p * self.soft), axis=1) * usable[:, None]
            mass /= np.maximum(mass.sum(1, keepdims=True), 1e-9)
        ids = np.maximum(ids, 0)
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mass.astype(np.float32)).to(self.device)
