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


def target_rows(rollouts: Rollouts, heads: int) -> np.ndarray:
    """[N, K]: head k at row i (its state predicts tokens[i]) has target tokens[i + 1 + k] of the same answer, or -1."""
    ends = np.repeat(rollouts.offsets[1:], np.diff(rollouts.offsets))  # [N]
    found = np.arange(len(rollouts.tokens))[:, None] + 1 + np.arange(heads)
    found[found >= ends[:, None]] = -1
    return found


def head_targets(rollouts: Rollouts, heads: int) -> HeadTargets:
    """The rows at which at least the first head has a target."""
    found = target_rows(rollouts, heads)
    rows = np.flatnonzero(found[:, 0] >= 0)
    return HeadTargets(rows, found[rows])


@dataclass
class Batch:
    """One training batch; every head scores the same `subset` of the draft vocabulary.

    A full softmax over V' costs most of a training step. The common tokens and all targets of the batch are always
    scored; of the rare rest a random sample stands for all, with log(rest / sample) added to its logits, so the
    normaliser keeps its expected value.
    """

    hidden: torch.Tensor  # fp32 [B, H]
    tokens: torch.Tensor  # int64 [B]: x(t+1), for heads that read it
    subset: torch.Tensor | None  # int64 [S] draft indices, None: all
    bias: torch.Tensor  # fp32 [S or V']
    per_head: list[tuple[torch.Tensor, torch.Tensor]]  # (ids into the subset [B, C], mass fp32 [B, C]) per head


class DraftTargets:
    """Targets in the draft vocabulary, and which of its tokens a training step scores."""

    def __init__(
        self,
        rollouts: Rollouts,
        token_map: np.ndarray,
        vocab: int,
        soft: float = 0.0,
        device: str = "cpu",
        common: int = 0,
        sampled: int = 512,
    ) -> None:
        """`common` most frequent draft tokens are always scored, `sampled` of the rest; common 0: score all."""
        self.rollouts, self.soft, self.device = rollouts, soft, device
        self.size = len(token_map)
        self.draft_index = np.full(vocab, -1, np.int64)
        self.draft_index[token_map] = np.arange(self.size)
        frequency = np.bincount(rollouts.tokens, minlength=vocab)[token_map]
        self.common = np.argsort(-frequency, kind="stable")[:common]
        self.sampled = sampled

    def batch(
        self, hidden: torch.Tensor, rows: np.ndarray, target_rows: np.ndarray, rng: np.random.Generator | None
    ) -> Batch:
        """Hidden fp32 [B, H] of the rollouts' rows [B], their heads' target rows [B, K] (-1: none); `rng` draws the
        sample, None scores all.
        """
        tokens = self._put(self.rollouts.tokens[rows].astype(np.int64))
        masses = [self._masses(target_rows[:, k]) for k in range(target_rows.shape[1])]
        if rng is None or not len(self.common):
            bias = torch.zeros(self.size, device=self.device)
            return Batch(hidden, tokens, None, bias, [(self._put(i), self._put(m)) for i, m in masses])
        return self._sampled(hidden, tokens, masses, rng)

    def _sampled(self, hidden: torch.Tensor, tokens: torch.Tensor, masses: list, rng: np.random.Generator) -> Batch:
        always = np.zeros(self.size, bool)
        always[self.common] = True
        for ids, _ in masses:
            always[ids.ravel()] = True
        rest = np.flatnonzero(~always)
        drawn = np.sort(rng.choice(rest, min(self.sampled, len(rest)), replace=False))
        subset = np.concatenate((np.flatnonzero(always), drawn))
        bias = np.zeros(len(subset), np.float32)
        if len(drawn):
            bias[-len(drawn) :] = np.log(len(rest) / len(drawn))
        position = np.zeros(self.size, np.int64)
        position[subset] = np.arange(len(subset))
        per_head = [(self._put(position[i]), self._put(m)) for i, m in masses]
        return Batch(hidden, tokens, self._put(subset), self._put(bias), per_head)

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def _masses(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draft indices int64 [B, C] and their target mass fp32 [B, C]; a row without target has mass 0."""
        hard = self.draft_index[self.rollouts.tokens[rows]]
        usable = (rows >= 0) & (hard >= 0)
        ids, mass = hard[:, None], usable[:, None].astype(np.float32)
        if self.soft > 0:
            # The backbone's own distribution at the target's position: its 8 best, those in the draft vocabulary.
            soft_ids = self.draft_index[self.rollouts.top_ids[rows]]
            p = np.exp(self.rollouts.top_logprobs[rows].astype(np.float32)) * (soft_ids >= 0)
            p[p < 0.01] = 0
            p /= np.maximum(p.sum(1, keepdims=True), 1e-9)
            ids = np.concatenate((ids, np.where(p > 0, soft_ids, hard[:, None])), axis=1)
            mass = np.concatenate((mass * (1 - self.soft), p * self.soft), axis=1) * usable[:, None]
            mass /= np.maximum(mass.sum(1, keepdims=True), 1e-9)
        return np.maximum(ids, 0), mass.astype(np.float32)


class Batches:
    """Shuffled batches, a pure function of (seed, step), so that a resumed run sees what an unbroken one would."""

    def __init__(
        self,
        rollouts: Rollouts,
        heads: int,
        token_map: np.ndarray,
        vocab: int,
        soft: float = 0.0,
        seed: int = 0,
        device: str = "cpu",
        common: int = 0,
        sampled: int = 512,
    ) -> None:
        """`soft`, `common` and `sampled` as of `DraftTargets`."""
        self.rollouts, self.seed, self.device = rollouts, seed, device
        self.targets = head_targets(rollouts, heads)
        self.draft = DraftTargets(rollouts, token_map, vocab, soft, device, common, sampled)
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.targets.rows)

    def batch(self, step: int, size: int, full: bool = False) -> Batch:
        """The batch of a step; `full` scores the whole draft vocabulary."""
        per_epoch = max(1, len(self) // size)
        epoch = step // per_epoch
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self))
        chosen = np.sort(self._order[(step % per_epoch) * size :][:size])
        rows = self.targets.rows[chosen]
        hidden = torch.from_numpy(self.rollouts.hidden[rows]).to(self.device).float()
        rng = None if full else np.random.default_rng([self.seed, 7, step])
        return self.draft.batch(hidden, rows, self.targets.target_rows[chosen], rng)
