"""The MEDUSA-1 training loop: backbone frozen (its states are on disk), AdamW, cosine, resumable, with a loss table."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .calibration import propose, rank_accuracies
from .loss_table import LossTable
from .model import MedusaHeads, fused_cross_entropy
from .recipes import Recipe
from .run_state import own_state, save_state
from .shards import Rollouts
from .training_data import Batches


class Trainer:
    """Trains `heads` in `folder`: state.pt (resume) and losses.csv, one row per logged step."""

    def __init__(
        self,
        heads: MedusaHeads,
        batches: Batches,
        recipe: Recipe,
        folder: Path,
        held_out: Rollouts,
    ) -> None:
        self.heads, self.batches, self.recipe, self.folder = heads, batches, recipe, folder
        self.held_out, self.table = held_out, LossTable(folder / "losses.csv")
        folder.mkdir(parents=True, exist_ok=True)
        trunk = [p for n, p in heads.named_parameters() if not n.startswith("output")]
        groups = [
            {"params": trunk, "scale": 1.0},
            {"params": list(heads.output_weight), "scale": recipe.output_lr_scale},
        ]
        self.optimiser = adamw(groups, recipe.lr, recipe.weight_decay)
        self.step, self.seconds = 0, 0.0
        self._resume()

    @property
    def _state(self) -> Path:
        return self.folder / "state.pt"

    def _resume(self) -> None:
        if not self._state.exists():
            self.table.begin()
            return
        state = own_state(self._state, "recipe", asdict(self.recipe))
        self.heads.load_state_dict(state["heads"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.table.resume(self.step)
        print(f"resumed at step {self.step}", flush=True)

    def save_state(self) -> None:
        state = {
            "recipe": asdict(self.recipe),
            "heads": self.heads.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        save_state(self._state, state)

    def run(self, log_every: int = 20, evaluate_every: int = 200, save_every: int = 200) -> None:
        started, before = time.time(), self.seconds
        # Sums stay on the device until they are shown: reading each step's losses would wait for each step.
        sums, count = torch.zeros(self.heads.config.heads, device=self.batches.device), 0
        while self.recipe.progress(self.step, self.seconds) < 1:
            sums += self._train_step()
            count += 1
            self.step += 1
            self.seconds = before + time.time() - started
            last = self.recipe.progress(self.step, self.seconds) >= 1
            if self.step % log_every == 0 or last:
                evaluate = self.step % evaluate_every == 0 or last
                self._log((sums / count).cpu().numpy(), self.top1() if evaluate else None)
                sums, count = torch.zeros_like(sums), 0
            if self.step % save_every == 0 or last:
                self.save_state()

    def _train_step(self) -> torch.Tensor:
        """One update; returns the K losses, on the device."""
        r, config = self.recipe, self.heads.config
        for group in self.optimiser.param_groups:
            group["lr"] = r.lr_at(self.step, self.seconds) * group["scale"]
        full = r.progress(self.step, self.seconds) >= 1 - r.full_last
        batch = self.batches.batch(self.step, r.batch, full)
        dtype = getattr(torch, r.dtype)
        losses = []
        for k, (ids, mass) in enumerate(batch.per_head):
            # One head at a time: its logits are freed before the next head's are made.
            weight = self.heads.output_of(k)
            weight = weight if batch.subset is None else weight[batch.subset]
            loss = fused_cross_entropy(
                self.heads.trunk(batch.hidden, k, batch.tokens), weight, ids, mass, batch.bias, dtype
            )
            (loss * r.head_decay ** (k + 1)).backward()
            losses.append(loss.detach())
        torch.nn.utils.clip_grad_norm_(self.heads.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        assert len(losses) == config.heads
        return torch.stack(losses)

    def top1(self, rows: int = 3000) -> np.ndarray:
        """Held-out top-1 accuracy of each head, [K], on at most `rows` positions."""
        part = first_rows(self.held_out, rows)
        if not len(part.tokens):
            return np.full(self.heads.config.heads, np.nan)
        return rank_accuracies(propose(self.heads, part, 1, device=self.batches.device), part)[:, 0]

    def _log(self, losses: np.ndarray, top1: np.ndarray | None) -> None:
        right = [""] * len(losses) if top1 is None else [f"{x:.4f}" for x in top1]
        self.table.add(
            {
                "step": self.step,
                "seconds": f"{self.seconds:.1f}",
                "positions": self.step * self.recipe.batch,
                "lr": f"{self.recipe.lr_at(self.step, self.seconds):.2e}",
                **{f"loss_{k + 1}": f"{x:.4f}" for k, x in enumerate(losses)},
                **{f"held_out_top1_{k + 1}": x for k, x in enumerate(right)},
            }
        )
        shown = "" if top1 is None else "  held-out top-1 " + " ".join(f"{x:.3f}" for x in top1)
        print(
            f"step {self.step}/{self.recipe.steps}  {self.seconds:.0f} s  losses "
            + " ".join(f"{x:.3f}" for x in losses)
            + shown,
            flush=True,
        )


def adamw(parameters: Any, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """The optimiser of all trainings; `parameters` may be groups."""
    return torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)


def first_rows(rollouts: Rollouts, rows: int) -> Rollouts:
    """Whole answers until `rows` positions are reached."""
    keep = rollouts.offsets[1:] <= max(rows, rollouts.offsets[1] if len(rollouts.offsets) > 1 else 0)
    return rollouts.select(keep)
