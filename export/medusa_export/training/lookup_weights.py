"""The weights of lookup, fitted by maximum likelihood on greedy answers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .context_lookup import LENGTHS, ContextIndex
from .shards import Rollouts
from .trees import MAX_DEPTH, HeadsJoint

OUTSIDE = 1e-4  # what the fit takes for q of a token outside the heads' lists
LEAST_OBSERVATIONS = 20  # fewer do not make a weight
MOST_WEIGHT = 0.99  # the heads keep a say, and 1 is no weight


@dataclass
class Observations:
    """What a cell (level, length) of the weights was fitted on: q [O] of the text's token, and whether c was it [O]."""

    q: list[float] = field(default_factory=list)
    hit: list[bool] = field(default_factory=list)

    def weight(self) -> float:
        """The mixture's weight of greatest likelihood, by EM; drawn a little towards 0 where observations are few."""
        q, hit = np.array(self.q), np.array(self.hit, float)
        w = 0.2
        for _ in range(100):
            copied = w * hit / ((1 - w) * q + w * hit + 1e-12)
            w = float((copied.sum() + 0.5) / (len(q) + 5))
        return min(w, MOST_WEIGHT)


def observe(
    rollouts: Rollouts, joint: HeadsJoint, lengths: int = LENGTHS, max_depth: int = MAX_DEPTH
) -> dict[tuple[int, int], Observations]:
    """Every lookup along the true path from every row, by (level, length); levels below the heads count as one.

    Teacher-forced: at level j of row i the path is the text's next j tokens, while only what stands up to row i has
    been indexed, as in decoding.
    """
    heads = joint.heads
    cells: dict[tuple[int, int], Observations] = {}
    for start, stop, context in rollouts.answers():
        answer = rollouts.tokens[start:stop].tolist()
        index = ContextIndex(context, lengths)
        for at, root in enumerate(answer[:-1]):
            index.append(root)
            following = joint.at(start + at)
            for level in range(min(max_depth, len(answer) - 1 - at)):
                found = index.longest([*index.tokens[-lengths:], *answer[at + 1 : at + 1 + level]])
                if not found:
                    continue
                token, length = found
                truth = answer[at + 1 + level]
                cell = cells.setdefault((min(level, heads), length), Observations())
                cell.q.append(_q_of(truth, *following(answer[at : at + 1 + level])) if level < heads else OUTSIDE)
                cell.hit.append(token == truth)
    return cells


def _q_of(token: int, ids: np.ndarray, q: np.ndarray) -> float:
    place = np.nonzero(ids == token)[0]
    return float(q[place[0]]) if len(place) else OUTSIDE


def fit_weights(cells: dict[tuple[int, int], Observations], heads: int, lengths: int = LENGTHS) -> list[list[float]]:
    """Weights [heads + 1][lengths]; a cell of too few observations takes the next shorter length's, the first 0."""
    weights = []
    for level in range(heads + 1):
        row = [0.0]
        for length in range(1, lengths + 1):
            cell = cells.get((level, length), Observations())
            row.append(round(cell.weight(), 4) if len(cell.q) >= LEAST_OBSERVATIONS else row[-1])
        weights.append(row[1:])
    return weights
