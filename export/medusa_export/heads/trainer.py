"""The MEDUSA-1 training loop: backbone frozen (its states are on disk), AdamW, cosine, resumable, with a loss table."""

from __future__ import annotations

import csv
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from .calibration import propose, rank_accuracies
from .device_batches import DeviceBatches
from .model import MedusaHeads, fused_cross_entropy
from .shards import Rollouts
from .training_data import Batches


@dataclass(frozen=True)
class Recipe:
    """What decides the trained weights besides the data; lr is AdamW's peak, betas and decay are fixed below."""

    steps: int = 2000
    batch: int = 1024
    lr: float = 1e-3
    output_lr_scale: float = 1.0
    warmup: int = 40
    head_decay: float = 0.8  # head k's loss counts head_decay^(k+1)
    soft: float = 0.0  # share of the soft targets
    weight_decay: float = 0.0
    common: int = 0  # draft tokens scored in every batch, 0: all (see training_data.Batch)
    sampled: int = 512  # of the others, how many are scored
    full_last: float = 0.1  # the last share of the steps scores all in any case
    seed: int = 0
    dtype: str = "bfloat16"

    minutes: float = 0.0  # when set, the schedule follows the clock and `steps` is only a cap

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is behind, 0..1."""
        by_clock = seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(step / self.steps, by_clock))

    def lr_at(self, step: int, seconds: float) -> float:
        """Linear warm-up, then a cosine down to 2%."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        return self.lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.progress(step, seconds))))


class Trainer:
    """Trains `heads` in `folder`: state.pt (resume), losses.csv (one row per logged step), losses.png at the end."""

    def __init__(
        self,
        heads: MedusaHeads,
        batches: Batches | DeviceBatches,
        recipe: Recipe,
        folder: Path,
        held_out: Rollouts,
    ) -> None:
        self.heads, self.batches, self.recipe, self.folder = heads, batches, recipe, folder
        self.held_out = held_out
        folder.mkdir(parents=True, exist_ok=True)
        trunk = [p for n, p in heads.named_parameters() if not n.startswith("output")]
        groups = [
            {"params": trunk, "scale": 1.0},
            {"params": list(heads.output_weight), "scale": recipe.output_lr_scale},
        ]
        self.optimiser = torch.optim.AdamW(
            groups, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
        )
        self.step, self.seconds = 0, 0.0
        self._resume()

    @property
    def _state(self) -> Path:
        return self.folder / "state.pt"

    def _resume(self) -> None:
        if not self._state.exists():
            (self.folder / "losses.csv").unlink(missing_ok=True)
            return
        state = torch.load(self._state, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            raise ValueError(f"{self._state} was made by another recipe ({state['recipe']}); use another --run folder")
        self.heads.load_state_dict(state["heads"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        self._forget_rows_after(self.step)
        print(f"resumed at step {self.step}", flush=True)

    def _forget_rows_after(self, step: int) -> None:
        """Drop the loss rows of steps that were done after the saved state and are about to be done again."""
        path = self.folder / "losses.csv"
        if path.exists():
            header, *rows = path.read_text().splitlines()
            kept = [row for row in rows if int(row.split(",", 1)[0]) <= step]
            path.write_text("\n".join([header, *kept]) + "\n")

    def save_state(self) -> None:
        state = {
            "recipe": asdict(self.recipe),
            "heads": self.heads.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        temporary = self._state.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self._state)

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
        plot_losses(self.folder / "losses.csv", self.folder / "losses.png")

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
            loss = fused_cross_entropy(self.heads.trunk(batch.hidden, k), weight, ids, mass, batch.bias, dtype)
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
        return rank_accuracies(propose(self.heads, part.hidden, 1, device=self.batches.device), part)[:, 0]

    def _log(self, losses: np.ndarray, top1: np.ndarray | None) -> None:
        path = self.folder / "losses.csv"
        fresh = not path.exists()
        k = len(losses)
        with path.open("a", newline="") as f:
            writer = csv.writer(f)
            if fresh:
                names = [f"loss_{i + 1}" for i in range(k)] + [f"held_out_top1_{i + 1}" for i in range(k)]
                writer.writerow(["step", "seconds", "positions", "lr", *names])
            right = [""] * k if top1 is None else [f"{x:.4f}" for x in top1]
            row = [
                self.step,
                f"{self.seconds:.1f}",
                self.step * self.recipe.batch,
                f"{self.recipe.lr_at(self.step, self.seconds):.2e}",
            ]
            writer.writerow([*row, *[f"{x:.4f}" for x in losses], *right])
        shown = "" if top1 is None else "  held-out top-1 " + " ".join(f"{x:.3f}" for x in top1)
        print(
            f"step {self.step}/{self.recipe.steps}  {self.seconds:.0f} s  losses "
            + " ".join(f"{x:.3f}" for x in losses)
            + shown,
            flush=True,
        )


def first_rows(rollouts: Rollouts, rows: int) -> Rollouts:
    """Whole answers until `rows` positions are reached."""
    keep = rollouts.offsets[1:] <= max(rows, rollouts.offsets[1] if len(rollouts.offsets) > 1 else 0)
    return rollouts.select(keep)


def plot_losses(table: Path, image: Path) -> None:
    """losses.csv -> PNG: training loss and held-out top-1 per head over positions."""
    try:
        import matplotlib
    except ImportError:
        print(f"matplotlib is not installed: {image} was not drawn, {table} holds the numbers", flush=True)
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with table.open() as f:
        rows = list(csv.DictReader(f))
    heads = sum(name.startswith("loss_") for name in rows[0])
    x = [int(r["positions"]) for r in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for k in range(1, heads + 1):
        left.plot(x, [float(r[f"loss_{k}"]) for r in rows], label=f"head {k}", linewidth=1)
        measured = [(int(r["positions"]), float(r[f"held_out_top1_{k}"])) for r in rows if r[f"held_out_top1_{k}"]]
        right.plot([p for p, _ in measured], [v for _, v in measured], marker=".", label=f"head {k}")
    left.set(xlabel="positions", ylabel="training cross entropy")
    right.set(xlabel="positions", ylabel="held-out top-1")
    left.legend()
    right.legend()
    figure.tight_layout()
    figure.savefig(image, dpi=110)
    plt.close(figure)
