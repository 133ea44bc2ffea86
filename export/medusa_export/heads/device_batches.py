"""Training batches whose data lies on the device: no host work and no transfer in a training step.

Ten million positions of 576 states are 11.5 GB as float16. The whole draft vocabulary is scored in every step: sampling
it (training_data.Batches) saves a CPU most of its time, and an accelerator nothing.
"""

from __future__ import annotations

import numpy as np
import torch

from .shards import Rollouts
from .training_data import Batch, head_targets

LEAST_PROBABILITY = 0.01  # soft targets below it are left out, as in training_data.Batches


class DeviceBatches:
    """Shuffled batches, a pure function of (seed, step) on one kind of device; in place of training_data.Batches."""

    def __init__(
        self,
        rollouts: Rollouts,
        heads: int,
        token_map: np.ndarray,
        vocab: int,
        soft: float = 0.0,
        seed: int = 0,
        device: str = "cuda",
    ) -> None:
        self.soft, self.seed, self.device = soft, seed, device
        targets = head_targets(rollouts, heads)
        draft_index = torch.full((vocab,), -1, dtype=torch.int32)
        draft_index[torch.from_numpy(token_map)] = torch.arange(len(token_map), dtype=torch.int32)
        self.draft_index = draft_index.to(device)

        def put(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(device)

        self.rows, self.target_rows = put(targets.rows), put(targets.target_rows.astype(np.int32))
        self.hidden, self.tokens = put(rollouts.hidden), put(rollouts.tokens)
        if soft > 0:
            self.top_ids, self.top_logprobs = put(rollouts.top_ids), put(rollouts.top_logprobs)
        self.bias = torch.zeros(len(token_map), device=device)
        self._epoch, self._order = -1, torch.zeros(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, step: int, size: int, full: bool = True) -> Batch:
        """The batch of a step; it scores the whole draft vocabulary whether `full` or not."""
        per_epoch = max(1, len(self) // size)
        epoch = step // per_epoch
        if epoch != self._epoch:
            generator = torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + epoch)
            self._epoch = epoch
            self._order = torch.randperm(len(self), generator=generator, device=self.device)
        chosen = self._order[(step % per_epoch) * size :][:size]
        own, rows = self.rows[chosen], self.target_rows[chosen].long()
        read = own[:, None] + torch.arange(rows.shape[1], device=self.device)
        tokens = self.tokens[read.clamp(max=len(self.tokens) - 1)].long()
        masses = [self._masses(rows[:, k]) for k in range(rows.shape[1])]
        return Batch(self.hidden[own].float(), tokens, None, self.bias, masses)

    def _masses(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Draft indices int64 [B, C] and their target mass fp32 [B, C]; a row without target has mass 0."""
        hard = self.draft_index[self.tokens[rows].long()].long()
        usable = ((rows >= 0) & (hard >= 0)).float()[:, None]
        ids, mass = hard[:, None], usable
        if self.soft > 0:
            soft_ids = self.draft_index[self.top_ids[rows].long()].long()
            p = self.top_logprobs[rows].float().exp() * (soft_ids >= 0)
            p = torch.where(p < LEAST_PROBABILITY, 0, p)
            p = p / p.sum(1, keepdim=True).clamp(min=1e-9)
            ids = torch.cat((ids, torch.where(p > 0, soft_ids, hard[:, None])), dim=1)
            mass = torch.cat((mass * (1 - self.soft), p * self.soft), dim=1) * usable
            mass = mass / mass.sum(1, keepdim=True).clamp(min=1e-9)
        return ids.clamp(min=0), mass
