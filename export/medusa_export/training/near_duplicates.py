"""Held-out answers that repeat training answers: found by shared 8-grams, and left out of what is held out.

The model gives alike prompts alike answers, so a split by conversation leaves near-copies on both sides, and heads
that memorised one get the other for free. An answer's *share* here is the largest share of its 8-grams that any one
training answer holds. One answer, not all of them together: what all share grows with the amount of data until every
answer is made of known pieces, near-copies or not.

The held-out side is the one that gives way. Measured on 2278 training and 253 held-out answers, of whose 8-grams 7.9%
(mean over answers) occur in training: leaving out the held-out answers above a share of 0.05 loses 63 of them, 2.2% of
all tokens, and leaves 2.5%; leaving out the training answers above 0.03, measured against the held-out ones, loses
539, 20% of the training tokens, and leaves 3.4%. What stays is less formulaic than what the model says on average:
read figures on it as those of prompts unlike the training's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
from .recipes import MAX_OVERLAP
from .shards import Rollouts, TokenRows, load_rollouts, load_tokens

GRAM = 8  # tokens


@dataclass(frozen=True)
class OverlapReport:
    """What the filter did. Means are over answers: share of 8-grams found in any training answer."""

    max_overlap: float
    gram: int
    answers: int
    dropped: int
    tokens: int
    dropped_tokens: int
    mean_shared_before: float
    mean_shared_after: float

    def __str__(self) -> str:
        return (
            f"dropped {self.dropped} of {self.answers} held-out answers that share over {self.max_overlap:g} of their "
            f"{self.gram}-grams with one training answer; in any training answer: {self.mean_shared_before:.4f} of "
            f"{self.gram}-grams before, {self.mean_shared_after:.4f} after"
        )

    def facts(self) -> dict[str, Any]:
        """For the sidecar."""
        return {k: round(v, 5) if isinstance(v, float) else v for k, v in asdict(self).items()}


def gram_hashes(rows: TokenRows, size: int = GRAM) -> tuple[np.ndarray, np.ndarray]:
    """A 64-bit hash, uint64 [G], of every run of `size` tokens inside one answer, and the answer it is from, int64 [G].

    Equal runs have equal hashes; 10^8 different ones collide with a probability of 3 x 10^-4 in all.
    """
    count = max(0, len(rows.tokens) - size + 1)
    hashes = np.zeros(count, np.uint64)
    for j in range(size):
        hashes ^= rows.tokens[j : j + count].astype(np.uint64) + np.uint64(1)
        hashes *= np.uint64(0x9E3779B97F4A7C15)  # odd, so the map is one to one; wraps at 2^64
        hashes ^= hashes >> np.uint64(29)
    owners = np.repeat(np.arange(len(rows.offsets) - 1), np.diff(rows.offsets))[:count]
    inside = np.arange(count) + size <= rows.offsets[1:][owners]
    return hashes[inside], owners[inside]


def shared_shares(rows: TokenRows, others: TokenRows, size: int = GRAM) -> np.ndarray:
    """[A]: share of each answer's `size`-grams found anywhere in `others`; 0 for answers too short to have one."""
    hashes, owners = gram_hashes(rows, size)
    answers = len(rows.offsets) - 1
    found = np.isin(hashes, gram_hashes(others, size)[0])
    return np.bincount(owners[found], minlength=answers) / np.maximum(1, np.bincount(owners, minlength=answers))


def largest_shares(rows: TokenRows, others: TokenRows, size: int = GRAM) -> np.ndarray:
    """[A]: the largest share of each answer's distinct `size`-grams that one answer of `others` holds."""
    index, index_owners = _distinct(*gram_hashes(others, size))
    hashes, owners = _distinct(*gram_hashes(rows, size))
    order = np.argsort(owners, kind="stable")
    hashes, bounds = hashes[order], np.searchsorted(owners[order], np.arange(len(rows.offsets)))
    shares = np.zeros(len(rows.offsets) - 1)
    for answer, (start, stop) in enumerate(pairwise(bounds)):
        low = np.searchsorted(index, hashes[start:stop], "left")
        counts = np.searchsorted(index, hashes[start:stop], "right") - low
        if not counts.sum():
            continue
        # Places low..low + count of every gram, one after another.
        places = np.repeat(low - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        shares[answer] = np.bincount(index_owners[places]).max() / (stop - start)
    return shares


def _distinct(hashes: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each (hash, owner) once, ordered by hash."""
    order = np.lexsort((owners, hashes))
    hashes, owners = hashes[order], owners[order]
    first = np.ones(len(hashes), bool)
    first[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    return hashes[first], owners[first]


def drop_near_duplicates(
    held_out: Rollouts, training: TokenRows, max_overlap: float = MAX_OVERLAP
) -> tuple[Rollouts, OverlapReport]:
    """Held-out answers of which no training answer holds more than `max_overlap`, 0 to 1, of the 8-grams."""
    if not 0 <= max_overlap <= 1:
        raise ExportError(f"max_overlap is {max_overlap}; it must lie in 0..1 (1 keeps every answer)")
    if not held_out.sources:
        raise ExportError("no held-out greedy answers in the data: distil more conversations")
    rows = held_out.token_rows
    keep, anywhere = largest_shares(rows, training) <= max_overlap, shared_shares(rows, training)
    if not keep.any():
        raise ExportError(
            f"every one of the {len(keep)} held-out answers shares over {max_overlap:g} of its {GRAM}-grams with a "
            "training answer: distil more conversations or raise --max-overlap (up to 1, which keeps all)"
        )
    lengths = np.diff(held_out.offsets)
    report = OverlapReport(
        max_overlap,
        GRAM,
        len(keep),
        int((~keep).sum()),
        int(lengths.sum()),
        int(lengths[~keep].sum()),
        float(anywhere.mean()),
        float(anywhere[keep].mean()),
    )
    return held_out.select(keep), report


def load_held_out(
    folder: str | Path, split: str, max_overlap: float = MAX_OVERLAP, limit_shards: int | None = None
) -> tuple[Rollouts, OverlapReport]:
    """A split's greedy answers that are no near-copies of the folder's training answers, and what was left out."""
    held_out = load_rollouts(folder, (split,), limit_shards)
    greedy = held_out.select(held_out.temperature == 0)
    return drop_near_duplicates(greedy, load_tokens(folder, ("train",), limit_shards), max_overlap)
