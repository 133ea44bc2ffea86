"""What heads know on the answers they are given: proposals, accuracies by rank, temperatures, static trees.

Training calls `calibrate` on its own held-out answers; recalibration.py calls it later, on others.
"""

from __future__ import annotations

import numpy as np
import torch

from ..errors import ExportError
from .model import MedusaHeads
from .shards import Rollouts
from .training_data import head_targets
from .trees import Proposals, nested_tree

RANKS = 64  # accuracies kept per head, for the static tree
TREE_NODES = 64  # of the largest static tree that is stored


def propose(
    heads: MedusaHeads,
    rollouts: Rollouts,
    width: int,
    temperatures: list[float] | None = None,
    device: str = "cpu",
) -> Proposals:
    """Top-`width` token ids and probabilities (softmax over the whole draft vocabulary) at every row of `rollouts`."""
    return propose_each(heads, rollouts, width, [temperatures or [1.0] * heads.config.heads], device)[0]


@torch.inference_mode()
def propose_each(
    heads: MedusaHeads, rollouts: Rollouts, width: int, temperature_sets: list[list[float]], device: str = "cpu"
) -> list[Proposals]:
    """`propose` at several temperatures for the price of one: which tokens are best does not depend on them."""
    n, k = len(rollouts.tokens), heads.config.heads
    if rollouts.hidden.shape[1] != heads.config.hidden_size:
        raise ExportError(
            f"the heads read states of {heads.config.hidden_size} values, those of the data have "
            f"{rollouts.hidden.shape[1]}: they are another model's"
        )
    ids = np.zeros((n, k, width), np.int32)
    probabilities = [np.zeros((n, k, width), np.float32) for _ in temperature_sets]
    for start in range(0, n, 2048):
        rows = slice(start, start + 2048)
        h = torch.from_numpy(rollouts.hidden[rows]).to(device).float()
        read = torch.from_numpy(rollouts.tokens[rows].astype(np.int64)).to(device)
        for head in range(k):
            logits = torch.nn.functional.linear(heads.trunk(h, head, read), heads.output_of(head))
            top = logits.topk(width, dim=-1)
            ids[rows, head] = heads.token_map[top.indices].cpu().numpy()
            for temperatures, into in zip(temperature_sets, probabilities, strict=True):
                scaled = logits / temperatures[head]
                log_p = top.values / temperatures[head] - scaled.logsumexp(-1, keepdim=True)
                into[rows, head] = log_p.exp().cpu().numpy()
    return [Proposals(ids, each) for each in probabilities]


def rank_accuracies(proposals: Proposals, rollouts: Rollouts) -> np.ndarray:
    """[K, m]: share of positions whose true token was the head's choice of that rank (0 best). Positions beyond the
    answer's end are not counted; tokens outside the draft vocabulary count as misses.
    """
    k = proposals.ids.shape[1]
    targets = head_targets(rollouts, k)
    rows = []
    for head in range(k):
        present = targets.target_rows[:, head] >= 0
        truth = rollouts.tokens[targets.target_rows[present, head]]
        rows.append((proposals.ids[targets.rows[present], head] == truth[:, None]).mean(0))
    return np.stack(rows)


@torch.inference_mode()
def fit_temperatures(heads: MedusaHeads, rollouts: Rollouts, device: str = "cpu", limit: int = 12000) -> list[float]:
    """Per head, the temperature of least negative log likelihood on held-out rollouts (golden section, in
    log space).
    """
    targets = head_targets(rollouts, heads.config.heads)
    index = np.full(max(int(rollouts.tokens.max()), int(heads.token_map.max())) + 1, -1, np.int64)
    index[heads.token_map.cpu().numpy()] = np.arange(heads.config.draft_vocab_size)
    # A fixed stride keeps positions of all answers in the sample.
    stride = max(1, len(targets.rows) // limit)
    temperatures = []
    for head in range(heads.config.heads):
        truth = index[rollouts.tokens[targets.target_rows[::stride, head]]]
        usable = (targets.target_rows[::stride, head] >= 0) & (truth >= 0)
        rows = targets.rows[::stride][usable]
        h = torch.from_numpy(rollouts.hidden[rows]).to(device).float()
        read = torch.from_numpy(rollouts.tokens[rows].astype(np.int64)).to(device)
        logits = torch.nn.functional.linear(heads.trunk(h, head, read), heads.output_of(head))
        goal = torch.from_numpy(truth[usable]).to(device)
        temperatures.append(_golden_section(logits, goal))
    return temperatures


def _golden_section(logits: torch.Tensor, goal: torch.Tensor) -> float:
    def loss(log_t: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits / float(np.exp(log_t)), goal))

    low, high, ratio = np.log(0.4), np.log(2.5), (5**0.5 - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = loss(a), loss(b)
    for _ in range(12):
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - ratio * (high - low)
            at_a = loss(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + ratio * (high - low)
            at_b = loss(b)
    return float(np.exp((low + high) / 2))


def calibrate(heads: MedusaHeads, greedy: Rollouts, device: str) -> dict:
    """Accuracies by rank, temperatures and static trees, on held-out greedy answers."""
    width = min(RANKS, heads.config.draft_vocab_size)
    accuracies = rank_accuracies(propose(heads, greedy, width, device=device), greedy)
    rounded = [[round(float(x), 6) for x in row] for row in accuracies]
    return {
        "accuracies": rounded,
        "temperatures": [round(t, 4) for t in fit_temperatures(heads, greedy, device)],
        "static_tree": [list(path) for path in nested_tree(rounded, TREE_NODES)],
    }
