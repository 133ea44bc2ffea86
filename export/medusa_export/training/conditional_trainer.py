"""Training of the conditional joint: AdamW with a cosine, a loss table; minutes on one core, so not resumable."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from .conditional import ConditionalJoint, conditional_logits
from .conditional_data import ExampleBatches, Examples, Text, tensors_of
from .loss_table import LossTable
from .model import fused_cross_entropy
from .recipes import ConditionalRecipe
from .trainer import adamw


def losses_of(model: ConditionalJoint, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted mean cross entropy of q and, for comparison, of the plain marginals; both scalars."""
    scores = model.scores(batch)

    def loss(s: torch.Tensor) -> torch.Tensor:
        log_q = torch.log_softmax(conditional_logits(batch["log_marginals"], batch["rest"], s), -1)
        return -(log_q * batch["target"]).sum(-1).mul(batch["weight"]).sum() / batch["weight"].sum().clamp(min=1e-6)

    with torch.no_grad():
        product = loss(torch.zeros_like(scores))
    return loss(scores), product


@torch.inference_mode()
def evaluate(model: ConditionalJoint, examples: Examples, size: int = 1024) -> tuple[float, float]:
    """Cross entropy of q and of the marginals on all examples."""
    model.eval()
    sums, total = np.zeros(2), 0.0
    for start in range(0, len(examples), size):
        batch = tensors_of(examples, np.arange(start, min(start + size, len(examples))))
        weight = float(batch["weight"].sum())
        sums += weight * np.array([float(x) for x in losses_of(model, batch)])
        total += weight
    model.train()
    return float(sums[0] / max(total, 1e-6)), float(sums[1] / max(total, 1e-6))


def fit(
    model: ConditionalJoint,
    training: Examples,
    held_out: Examples,
    recipe: ConditionalRecipe,
    folder: Path,
    log_every: int = 20,
    evaluate_every: int = 200,
) -> None:
    """Train in place; losses.csv goes to `folder`."""
    model.dropout = recipe.dropout
    batches = ExampleBatches(training, recipe.seed)
    optimiser = adamw(model.parameters(), recipe.lr, recipe.weight_decay)
    folder.mkdir(parents=True, exist_ok=True)
    table = LossTable(folder / "losses.csv")
    table.begin()
    started, sums, count = time.time(), np.zeros(2), 0
    for step in range(recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.lr_at(step)
        losses = losses_of(model, batches.batch(step, recipe.batch))
        losses[0].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        sums += [loss.item() for loss in losses]
        count += 1
        done = step + 1
        if done % log_every == 0 or done == recipe.steps:
            is_measured = done % evaluate_every == 0 or done == recipe.steps
            held = [f"{loss:.5f}" for loss in evaluate(model, held_out)] if is_measured else ["", ""]
            row = {
                "step": done,
                "seconds": f"{time.time() - started:.1f}",
                "positions": done * recipe.batch,
                "lr": f"{recipe.lr_at(step):.2e}",
                "loss": f"{sums[0] / count:.5f}",
                "loss_product": f"{sums[1] / count:.5f}",
                "held_out_loss": held[0],
                "held_out_loss_product": held[1],
            }
            table.add(row)
            if is_measured:
                print("  ".join(f"{k} {v}" for k, v in row.items()), flush=True)
            sums, count = np.zeros(2), 0


def pretrain(model: ConditionalJoint, text: Text, token_map: np.ndarray, recipe: ConditionalRecipe) -> list[float]:
    """Begin with the language itself: the tables as an n-gram model of `text`, beside the unigrams, without any heads.

    p(y | path) ~ u(y) e^{c . B[y]} over the whole draft vocabulary. Needs neither states nor heads, so all text may be
    used, also what the heads were trained on. Afterwards B counts for recipe.pretrained_share: the marginals of heads
    know part of what an n-gram does. Returns the loss every 50 steps.
    """
    draft = np.full(model.config.vocab_size, -1, np.int64)
    draft[token_map] = np.arange(len(token_map))
    counts = np.bincount(draft[text.tokens][draft[text.tokens] >= 0], minlength=len(token_map)) + 0.5
    bias = torch.from_numpy(np.log(counts / counts.sum()).astype(np.float32))
    optimiser = adamw(model.parameters(), recipe.lr, 0.0)
    places, losses, total = text.places(), [], 0.0
    for step in range(recipe.pretrain_steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.lr_at(step, recipe.pretrain_steps)
        random = np.random.default_rng([recipe.seed, 11, step])
        rows = random.choice(places, min(recipe.pretrain_batch, len(places)), replace=False)
        tokens = text.before(rows, model.config.distances)
        # Depth 1 of a tree knows one ancestor only, depth 2 two, and so on.
        known = random.integers(1, model.config.heads + 1, len(rows))
        tokens[np.arange(tokens.shape[1]) >= known[:, None]] = -1
        ids, mass = text.targets(rows, draft, recipe.soft)
        c = model.ancestors(torch.from_numpy(tokens).long())
        if model.config.activation == "silu":
            c = F.silu(c)
        c = F.dropout(c, recipe.dropout, model.training)
        arguments = torch.from_numpy(ids), torch.from_numpy(mass), bias, torch.bfloat16
        loss = fused_cross_entropy(c, model.b_rows(), *arguments)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        total += loss.item()
        if (step + 1) % 50 == 0:
            losses.append(round(total / 50, 4))
            print(f"n-gram step {step + 1}/{recipe.pretrain_steps}  loss {losses[-1]:.4f}", flush=True)
            total = 0.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("b_"):
                parameter *= recipe.pretrained_share
    return losses
