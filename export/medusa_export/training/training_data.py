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
    """Targets in the draft vocabulary, and which of its tokens a training step scores. Everything lies on `device`."""

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
        self.soft, self.device, self.size = soft, device, len(token_map)
        draft_index = np.full(vocab, -1, np.int64)
        draft_index[token_map] = np.arange(self.size)
        frequency = np.bincount(rollouts.tokens, minlength=vocab)[token_map]
        self.common = self._put(np.argsort(-frequency, kind="stable")[:common])
        self.sampled = sampled
        self.draft_index, self.tokens = self._put(draft_index), self._put(rollouts.tokens)
        self.top_ids, self.top_logprobs = self._put(rollouts.top_ids), self._put(rollouts.top_logprobs)

    def batch(
        self, hidden: torch.Tensor, rows: torch.Tensor, target_rows: torch.Tensor, rng: np.random.Generator | None
    ) -> Batch:
        """Hidden fp32 [B, H] of the rollouts' rows [B], their heads' target rows [B, K] (-1: none); `rng` draws the
        sample, None scores all.
        """
        tokens, masses = self.tokens[rows].long(), [self._masses(each) for each in target_rows.unbind(1)]
        if rng is None or not len(self.common):
            return Batch(hidden, tokens, None, torch.zeros(self.size, device=self.device), masses)
        return self._sampled(hidden, tokens, masses, rng)

    def _sampled(self, hidden: torch.Tensor, tokens: torch.Tensor, masses: list, rng: np.random.Generator) -> Batch:
        always = torch.zeros(self.size, dtype=torch.bool, device=self.device)
        always[self.common] = True
        for ids, _ in masses:
            always[ids.flatten()] = True
        rest = (~always).nonzero()[:, 0].cpu().numpy()
        drawn = np.sort(rng.choice(rest, min(self.sampled, len(rest)), replace=False))
        subset = torch.cat((always.nonzero()[:, 0], self._put(drawn)))
        bias = torch.zeros(len(subset), device=self.device)
        if len(drawn):
            bias[-len(drawn) :] = float(np.log(len(rest) / len(drawn)))
        position = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        position[subset] = torch.arange(len(subset), device=self.device)
        return Batch(hidden, tokens, subset, bias, [(position[ids], mass) for ids, mass in masses])

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def _masses(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Draft indices int64 [B, C] and their target mass fp32 [B, C]; a row without target has mass 0."""
        hard = self.draft_index[self.tokens[rows].long()]
        usable = ((rows >= 0) & (hard >= 0)).float()[:, None]
        ids, mass = hard[:, None], usable
        if self.soft > 0:
            # The backbone's own distribution at the target's position: its 8 best, those in the draft vocabulary.
            soft_ids = self.draft_index[self.top_ids[rows].long()]
            p = self.top_logprobs[rows].float().exp() * (soft_ids >= 0)
            p = torch.where(p < 0.01, 0, p)
            p = p / p.sum(1, keepdim=True).clamp(min=1e-9)
            ids = torch.cat((ids, torch.where(p > 0, soft_ids, hard[:, None])), dim=1)
            mass = torch.cat((mass * (1 - self.soft), p * self.soft), dim=1) * usable
            mass = mass / mass.sum(1, keepdim=True).clamp(min=1e-9)
        return ids.clamp(min=0), mass


class Batches:
    """Shuffled batches, a pure function of (seed, step), so that a resumed run sees what an unbroken one would.

    The data lies on `device`: a training step there waits for no work and no transfer of the host.
    """

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
        self.seed, self.device = seed, device
        targets = head_targets(rollouts, heads)
        self.rows = torch.from_numpy(targets.rows).to(device)  # [P]
        self.target_rows = torch.from_numpy(targets.target_rows).to(device)  # [P, K]
        self.hidden = torch.from_numpy(rollouts.hidden).to(place_of(rollouts.hidden.nbytes, device))
        self.draft = DraftTargets(rollouts, token_map, vocab, soft, device, common, sampled)
        self._epoch, self._order = -1, torch.zeros(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, step: int, size: int, full: bool = False) -> Batch:
        """The batch of a step; `full` scores the whole draft vocabulary."""
        per_epoch = max(1, len(self) // size)
        epoch = step // per_epoch
        if epoch != self._epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self))
            self._epoch, self._order = epoch, torch.from_numpy(order).to(self.device)
        chosen = self._order[(step % per_epoch) * size :][:size].sort().values
        rows = self.rows[chosen]
        hidden = self.hidden[rows.to(self.hidden.device)].to(self.device).float()
        rng = None if full else np.random.default_rng([self.seed, 7, step])
        return self.draft.batch(hidden, rows, self.target_rows[chosen], rng)


def place_of(states: int, device: str) -> str:
    """Where that many bytes of states go: to the device if they fill at most half of what is free there, else to main
    memory.
    """
    if device == "cpu" or 2 * states > torch.cuda.mem_get_info()[0]:
        return "cpu"
    return device
