"""The learning rate of all trainings here."""

from __future__ import annotations

import math


def warmup_cosine(lr: float, step: int, warmup: int, progress: float) -> float:
    """Linear warm-up to `lr` over `warmup` steps, then a cosine down to 2% of it; `progress` of the run, 0 to 1."""
    if step < warmup:
        return lr * (step + 1) / warmup
    return lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
