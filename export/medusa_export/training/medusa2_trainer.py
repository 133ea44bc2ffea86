"""The second stage of MEDUSA-2: heads and the backbone's adapter together (arXiv 2401.10774, section 2.2).

Loss of a step, over the answer positions of its sequences:

    kl_weight * KL(original || adapted) + c(t) * sum_k head_decay^(k+1) * CE_k

    c(t) = head_weight * sin(pi/2 * min(1, t / (head_ramp * T)));   head_ramp 1 is the paper's

The data are the original's own answers, so the language-model term is the KL to the original's distributions, whose
states the shards already hold: no second forward pass. The heads read the adapted backbone's states, and their
gradient reaches the adapter through them.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ExportError
from .backbone import Backbone
from .calibration import propose, rank_accuracies
from .fidelity import fused_kl, measure_fidelity
from .lora import Lora
from .loss_table import LossTable
from .model import MedusaHeads, fused_cross_entropy
from .recipes import Medusa2Recipe
from .run_state import own_state, save_state
from .sequences import MicroBatch, Sequences, states_of, with_states
from .shards import Rollouts
from .trainer import adamw, first_rows
from .training_data import DraftTargets, target_rows


@dataclass
class _Losses:
    """Sums over logged steps."""

    heads: np.ndarray  # [K]
    kl: float = 0.0
    steps: int = 0

    def add(self, heads: np.ndarray, kl: float) -> None:
        self.heads, self.kl, self.steps = self.heads + heads, self.kl + kl, self.steps + 1


class Medusa2Trainer:
    """Trains `lora` and `heads` in `folder`: state.pt (resume) and losses.csv."""

    def __init__(
        self,
        backbone: Backbone,
        lora: Lora,
        heads: MedusaHeads,
        training: Rollouts,
        recipe: Medusa2Recipe,
        folder: Path,
        held_out: Rollouts,
    ) -> None:
        self.backbone, self.lora, self.heads, self.recipe, self.folder = backbone, lora, heads, recipe, folder
        self.training, self.held_out = training, held_out
        self.sequences = Sequences(training, recipe.micro_tokens, backbone.device)
        self.targets = torch.from_numpy(target_rows(training, heads.config.heads)).to(backbone.device)  # [N, K]
        self.draft = DraftTargets(
            training,
            heads.token_map.cpu().numpy(),
            backbone.config.vocab_size,
            recipe.soft,
            backbone.device,
            recipe.common,
            recipe.sampled,
        )
        self.table = LossTable(folder / "losses.csv")
        folder.mkdir(parents=True, exist_ok=True)
        heads.output_weight.requires_grad_(not recipe.freeze_output)
        groups = [
            {"params": list(lora.parameters()), "scale": 1.0},
            {"params": [p for p in heads.parameters() if p.requires_grad], "scale": recipe.heads_lr_scale},
        ]
        self.optimiser = adamw(groups, recipe.lr, recipe.weight_decay)
        self.step, self.seconds = 0, 0.0
        self.tokens, self.positions = 0, 0  # seen: sequence tokens without padding, answer positions
        self.epoch, self._cursor = 0, 0
        self._plan: list[np.ndarray] | None = None
        self._resume()

    @property
    def _state(self) -> Path:
        return self.folder / "state.pt"

    @property
    def _made_by(self) -> dict[str, Any]:
        return {"recipe": asdict(self.recipe), "adapter": asdict(self.lora.config)}

    def _resume(self) -> None:
        if not self._state.exists():
            self.table.begin()
            return
        state = own_state(self._state, "made_by", self._made_by, self.backbone.device)
        self.lora.load_state_dict(state["lora"])
        self.heads.load_state_dict(state["heads"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds, self.tokens, self.positions = state["counts"]
        self.epoch, self._cursor = state["place"]
        self.table.resume(self.step)
        print(f"resumed at step {self.step}", flush=True)

    def save_state(self) -> None:
        state = {
            "made_by": self._made_by,
            "lora": self.lora.state_dict(),
            "heads": self.heads.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "counts": (self.step, self.seconds, self.tokens, self.positions),
            "place": (self.epoch, self._cursor),
        }
        save_state(self._state, state)

    def run(
        self, log_every: int = 10, evaluate_every: int = 50, save_every: int = 50, evaluate_rows: int = 2000
    ) -> None:
        """Train until the steps or the minutes are over; the held-out measures' time is not counted as training."""
        sums = self._no_losses()
        if self.step == 0:
            self._log(None, evaluate_rows)
        while self.recipe.progress(self.step, self.seconds) < 1:
            started = time.time()
            sums.add(*self._train_step())
            self.step += 1
            self.seconds += time.time() - started
            last = self.recipe.progress(self.step, self.seconds) >= 1
            evaluate = self.step % evaluate_every == 0 or last
            if self.step % log_every == 0 or evaluate:
                self._log(sums, evaluate_rows if evaluate else 0)
                sums = self._no_losses()
            if self.step % save_every == 0 or last:
                self.save_state()

    def _no_losses(self) -> _Losses:
        return _Losses(np.zeros(self.heads.config.heads))

    def _next_micro_batches(self) -> list[MicroBatch]:
        """Every epoch has its own order, a function of (seed, epoch); its last, short step is left out."""
        count = self.recipe.micro_batches
        while self._plan is None or self._cursor + count > len(self._plan):
            if self._plan is not None:
                self.epoch, self._cursor = self.epoch + 1, 0
            self._plan = self.sequences.plan(np.random.default_rng([self.recipe.seed, self.epoch]))
            if len(self._plan) < count:
                raise ExportError(
                    f"the data make {len(self._plan)} micro-batches, a step needs {count}: lower --batch or distil more"
                )
        chosen = self._plan[self._cursor : self._cursor + count]
        self._cursor += count
        return [self.sequences.micro_batch(answers) for answers in chosen]

    def _train_step(self) -> tuple[np.ndarray, float]:
        """One update; returns the K head losses and the KL."""
        r = self.recipe
        for group in self.optimiser.param_groups:
            group["lr"] = r.lr_at(self.step, self.seconds) * group["scale"]
        head_weight = r.head_weight_at(self.step + 1, self.seconds)
        micro_batches = self._next_micro_batches()
        rows = sum(len(m.rows) for m in micro_batches)
        sums, kl_sum = torch.zeros(self.heads.config.heads), 0.0
        for index, micro in enumerate(micro_batches):
            share = len(micro.rows) / rows
            rng = np.random.default_rng([r.seed, 7, self.step, index])
            head_losses, kl = self._losses(micro, rng)
            weights = head_weight * r.head_decay ** torch.arange(1, len(head_losses) + 1, device=head_losses.device)
            (share * (r.kl_weight * kl + (weights * head_losses).sum())).backward()
            sums += share * head_losses.detach().cpu()
            kl_sum += share * float(kl.detach())
        # Apart, so that a large gradient of one does not shrink the other's.
        torch.nn.utils.clip_grad_norm_(self.lora.parameters(), 1.0)
        torch.nn.utils.clip_grad_norm_(self.heads.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.positions += rows
        self.tokens += sum(int(self.sequences.lengths[m.answers].sum()) for m in micro_batches)
        return sums.numpy(), kl_sum

    def _losses(self, micro: MicroBatch, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """The K heads' cross entropies, [K], and the KL of one micro-batch."""
        r, device = self.recipe, self.backbone.device
        states = states_of(self.backbone, micro, self.lora)
        full = r.progress(self.step, self.seconds) >= 1 - r.full_last
        rows = torch.from_numpy(micro.rows).to(device)
        batch = self.draft.batch(states, rows, self.targets[rows], None if full else rng)
        dtype, losses = getattr(torch, r.dtype), []
        for k, (ids, mass) in enumerate(batch.per_head):
            weight = self.heads.output_of(k)
            weight = weight if batch.subset is None else weight[batch.subset]
            states_of_head = self.heads.trunk(states, k, batch.tokens)
            losses.append(fused_cross_entropy(states_of_head, weight, ids, mass, batch.bias, dtype))
        count = max(1, round(r.kl_share * len(micro.rows)))
        chosen = np.sort(rng.choice(len(micro.rows), count, replace=False))
        original = torch.from_numpy(self.training.hidden[micro.rows[chosen]]).to(device)
        kept = states if count == len(states) else states[torch.from_numpy(chosen).to(device)]
        return torch.stack(losses), fused_kl(kept, original, self.backbone.output_weight)

    def held_out_measures(self, rows: int) -> tuple[np.ndarray, float, float]:
        """Top-1 of each head [K], KL and greedy agreement with the original, on whole held-out answers."""
        part = first_rows(self.held_out, rows)
        if not len(part.tokens):
            return np.full(self.heads.config.heads, np.nan), math.nan, math.nan
        part, adapted = with_states(part, self.backbone, self.lora, max(self.recipe.micro_tokens, 4096))
        fidelity = measure_fidelity(adapted.hidden, part.hidden, part.tokens, self.backbone.lm_head).summary()
        proposals = propose(self.heads, adapted, 1, device=self.backbone.device)
        return rank_accuracies(proposals, part)[:, 0], fidelity["kl"], fidelity["greedy_agreement"]

    def _log(self, sums: _Losses | None, evaluate_rows: int) -> None:
        """One row of losses.csv; `sums` None before the first step, `evaluate_rows` 0 without held-out measures."""
        count = self.heads.config.heads
        losses = [f"{x:.4f}" for x in sums.heads / sums.steps] if sums else [""] * count
        kl = f"{sums.kl / sums.steps:.5f}" if sums else ""
        top1, held_out_kl, agreement = [""] * count, "", ""
        if evaluate_rows:
            found = self.held_out_measures(evaluate_rows)
            top1, held_out_kl, agreement = [f"{x:.4f}" for x in found[0]], f"{found[1]:.5f}", f"{found[2]:.4f}"
        rate = self.tokens / self.seconds if self.seconds else 0.0
        self.table.add(
            {
                "step": self.step,
                "seconds": f"{self.seconds:.1f}",
                "positions": self.positions,
                "tokens": self.tokens,
                "lr": f"{self.recipe.lr_at(self.step, self.seconds):.2e}",
                "head_weight": f"{self.recipe.head_weight_at(self.step, self.seconds):.4f}",
                **{f"loss_{k + 1}": x for k, x in enumerate(losses)},
                "kl": kl,
                **{f"held_out_top1_{k + 1}": x for k, x in enumerate(top1)},
                "held_out_kl": held_out_kl,
                "held_out_agreement": agreement,
            }
        )
        print(
            f"step {self.step}/{self.recipe.steps}  {self.seconds:.0f} s  {rate:.0f} tokens/s  losses "
            + (" ".join(losses) + f"  KL {kl}" if sums else "none yet")
            + (f"  held-out top-1 {' '.join(top1)}  KL {held_out_kl}  agreement {agreement}" if evaluate_rows else ""),
            flush=True,
        )
