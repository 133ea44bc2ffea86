"""Training positions of the conditional joint: the heads' candidates, the true path before each, and what came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from .shards import Rollouts, open_shard, shard_paths, split_of
from .training_data import head_targets
from .trees import Proposals


@dataclass(frozen=True)
class Examples:
    """P positions of K heads with m candidates each; a head that does not count at a position has weight 0."""

    hidden: np.ndarray  # float16 [P, H]
    tokens: np.ndarray  # int32 [P, K, D], the true token at distance d in column d - 1, -1 where there is none
    candidates: np.ndarray  # int16 or int32 [P, K, m], draft indices, best first
    log_marginals: np.ndarray  # float32 [P, K, m]
    rest: np.ndarray  # float32 [P, K], marginal mass outside the candidates
    target: np.ndarray  # float16 [P, K, m + 1], distribution over the candidates and, last, anything else
    weight: np.ndarray  # float32 [P, K]

    def __len__(self) -> int:
        return len(self.hidden)


def make_examples(
    rollouts: Rollouts,
    proposals: Proposals,
    token_map: np.ndarray,
    vocab: int,
    distances: int,
    soft: float = 0.5,
    head_decay: float = 0.8,
) -> Examples:
    """Teacher-forced examples of all answers.

    The target mixes the backbone's most probable token (what greedy decoding accepts) with, by the share `soft`, its
    distribution over its stored best tokens. A head counts, with weight head_decay^k, where the true path before it
    lies inside the earlier heads' candidates: no tree reaches the others.
    """
    heads, width = proposals.ids.shape[1:]
    targets = head_targets(rollouts, heads)
    rows, target_rows = targets.rows, targets.target_rows
    present = target_rows >= 0
    draft = np.full(vocab, -1, np.int32)
    draft[token_map] = np.arange(len(token_map))
    # Proposals of other heads (train-conditional --also) may hold tokens outside this draft vocabulary: rest.
    known = draft[proposals.ids[rows]] >= 0
    ids = np.where(known, proposals.ids[rows], -1)  # [P, K, m]
    probabilities = np.where(known, proposals.probabilities[rows], 0)
    truth = rollouts.tokens[np.maximum(target_rows, 0)]
    hit = (ids == truth[..., None]).any(-1) & present
    reached = np.concatenate((np.ones_like(hit[:, :1]), np.logical_and.accumulate(hit[:, :-1], axis=1)), axis=1)
    weight = (present & reached) * head_decay ** np.arange(heads, dtype=np.float32)
    target = np.zeros((len(rows), heads, width + 1), np.float16)
    for k in range(heads):
        target[:, k] = _target(ids[:, k], rollouts, np.maximum(target_rows[:, k], 0), soft)
    return Examples(
        rollouts.hidden[rows],
        path_tokens(rollouts.tokens, rows, heads, distances),
        np.maximum(0, draft[ids]).astype(np.int16 if len(token_map) < 2**15 else np.int32),
        np.log(np.maximum(probabilities, 1e-12)).astype(np.float32),
        np.maximum(0, 1 - probabilities.sum(-1)).astype(np.float32),
        target,
        weight.astype(np.float32),
    )


def pooled(parts: list[Examples]) -> Examples:
    """All positions of several sets."""
    if len(parts) == 1:
        return parts[0]
    return Examples(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Examples)))


def path_tokens(tokens: np.ndarray, rows: np.ndarray, heads: int, distances: int) -> np.ndarray:
    """int32 [P, K, D]: before head k's target (depth j = k + 1) stand x_{j-1}, ..., x_0; x_0 = tokens[row]."""
    path = np.full((len(rows), heads, distances), -1, np.int32)
    for k in range(heads):
        for d in range(1, min(distances, k + 1) + 1):
            path[:, k, d - 1] = tokens[np.minimum(rows + k + 1 - d, len(tokens) - 1)]
    return path


def _target(ids: np.ndarray, rollouts: Rollouts, rows: np.ndarray, soft: float) -> np.ndarray:
    """[P, m + 1]: the backbone's answer at `rows` in terms of the candidates ids [P, m]."""
    best = rollouts.top_ids[rows]  # [P, 8], best first
    p = np.exp(rollouts.top_logprobs[rows].astype(np.float32)) * soft
    p[:, 0] += 1 - soft
    # What is beyond the stored tokens counts as none of the candidates.
    equal = ids[:, :, None] == best[:, None, :]  # [P, m, 8]
    inside = np.einsum("pmb,pb->pm", equal.astype(np.float32), p)
    return np.concatenate((inside, np.maximum(0, 1 - inside.sum(1, keepdims=True))), axis=1)


@dataclass(frozen=True)
class Text:
    """Answers without their states: tokens int32 [N], top_ids int32 [N, 8], top_logprobs float16 [N, 8] (as in a shard)
    and offsets int64 [A + 1].
    """

    tokens: np.ndarray
    top_ids: np.ndarray
    top_logprobs: np.ndarray
    offsets: np.ndarray

    def places(self) -> np.ndarray:
        """Rows with a token before them in the same answer."""
        inside = np.ones(len(self.tokens), bool)
        inside[self.offsets[:-1][np.diff(self.offsets) > 0]] = False
        return np.flatnonzero(inside)

    def before(self, rows: np.ndarray, distances: int) -> np.ndarray:
        """int32 [P, D]: the tokens at distance 1..D before each row, -1 beyond the answer's start."""
        starts = self.offsets[np.searchsorted(self.offsets, rows, side="right") - 1]
        at = rows[:, None] - np.arange(1, distances + 1)
        return np.where(at >= starts[:, None], self.tokens[np.maximum(at, 0)], -1)

    def targets(self, rows: np.ndarray, draft: np.ndarray, soft: float) -> tuple[np.ndarray, np.ndarray]:
        """Draft indices int64 [P, 8] and masses float32 [P, 8] of the backbone's answer, as in `make_examples`, over
        what the draft vocabulary (draft [V]: token id -> draft index or -1) holds of it; 0 where it holds nothing.
        """
        p = np.exp(self.top_logprobs[rows].astype(np.float32)) * soft
        p[:, 0] += 1 - soft
        ids = draft[self.top_ids[rows]]
        p = p * (ids >= 0)
        return np.maximum(ids, 0), p / np.maximum(p.sum(1, keepdims=True), 1e-9)


def load_text(folders: Sequence[str | Path], splits: tuple[str, ...]) -> Text:
    """The answers of some splits in all the folders, without reading their states."""
    parts: list[list[np.ndarray]] = []
    for path in [path for folder in folders for path in shard_paths(folder, option="--text")]:
        with open_shard(path) as f:
            wanted = np.array([split_of(int(c)) in splits for c in f.get_tensor("conversation")], bool)
            lengths = np.diff(f.get_tensor("offsets"))
            rows = np.repeat(wanted, lengths)
            names = ("tokens", "top_ids", "top_logprobs")
            parts.append([*(f.get_tensor(name)[rows] for name in names), lengths[wanted]])
    tokens, top_ids, top_logprobs, lengths = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Text(tokens, top_ids, top_logprobs, np.concatenate(([0], np.cumsum(lengths))))


class ExampleBatches:
    """Shuffled batches as tensors, a pure function of (seed, step)."""

    def __init__(self, examples: Examples, seed: int) -> None:
        self.examples, self.seed = examples, seed
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def batch(self, step: int, size: int) -> dict[str, torch.Tensor]:
        per_epoch = max(1, len(self.examples) // size)
        epoch = step // per_epoch
        if epoch != self._epoch:
            random = np.random.default_rng([self.seed, epoch])
            self._epoch, self._order = epoch, random.permutation(len(self.examples))
        return tensors_of(self.examples, np.sort(self._order[(step % per_epoch) * size :][:size]))


def tensors_of(e: Examples, rows: np.ndarray) -> dict[str, torch.Tensor]:
    """Some positions in the types that the model takes, with the heads that count there (ConditionalJoint.scores)."""
    weight = e.weight[rows]
    position, head = np.nonzero(weight)
    at = rows[position]
    return {
        "hidden": torch.from_numpy(e.hidden[rows]).float(),
        "position": torch.from_numpy(position),
        "head": torch.from_numpy(head),
        "tokens": torch.from_numpy(e.tokens[at, head]).long(),
        "candidates": torch.from_numpy(e.candidates[at, head]).long(),
        "log_marginals": torch.from_numpy(e.log_marginals[at, head]),
        "rest": torch.from_numpy(e.rest[at, head]),
        "target": torch.from_numpy(e.target[at, head]).float(),
        "weight": torch.from_numpy(weight[position, head]),
    }
