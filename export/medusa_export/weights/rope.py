"""Rotary frequencies: the one place that computes them, and what checkpoints say about their scaling.

Pair i of a head's channels, of D / 2 pairs, turns by theta^(-2i / D) / divisor_i radians a position. Every scaling that
is supported is a list of divisors:

| kind | divisor of a pair that turns once in w positions | source |
|---|---|---|
| default | 1 | |
| linear | factor | |
| llama3 | 1 for short w, factor for long w, in between a weighted harmonic mean | Llama 3.1, 3.2, 3.3 |
"""

from __future__ import annotations

import numpy as np

from ..errors import ExportError
from .config import ModelConfig
from .fields import Fields
from .finite import Array

SCALINGS = ("default", "linear", "llama3")


def inverse_frequencies(config: ModelConfig) -> Array:
    """Radians a position, float64 [D / 2]."""
    half = config.head_dim // 2
    unscaled = config.rope_theta ** (-np.arange(half, dtype=np.float64) / half)
    return np.asarray(unscaled / np.asarray(config.rope_divisors) if config.rope_divisors else unscaled)


def refuse_scaling(label: str, kind: str) -> ExportError:
    return ExportError(f"{label}: rope scaling '{kind}' is not supported (supported: {', '.join(SCALINGS)})")


def divisors_from_json(label: str, scaling: Fields, config: ModelConfig) -> tuple[float, ...]:
    """The divisors that `rope_scaling` or `rope_parameters` of a config.json means for an unscaled `config`."""
    kind = scaling.text("rope_type", scaling.text("type", "default"))
    if kind not in SCALINGS:
        raise refuse_scaling(label, kind)
    if kind == "default":
        return ()
    factor = scaling.number("factor", above=0)
    if kind == "linear":
        return (factor,) * (config.head_dim // 2)
    low = scaling.number("low_freq_factor", above=0)
    high = scaling.number("high_freq_factor", above=low)
    original = scaling.whole("original_max_position_embeddings")
    return llama3_divisors(inverse_frequencies(config), factor, low, high, original)


def llama3_divisors(inverse: Array, factor: float, low: float, high: float, original: int) -> tuple[float, ...]:
    """Of pairs with the unscaled frequencies `inverse`; `original` is the context length before it was extended.

    A pair that turns more than `high` times in that context keeps its frequency, one that turns less than `low` times
    has it divided by `factor`; in between, kept and divided frequency are mixed in proportion.
    """
    turns = original * inverse / (2 * np.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return tuple((1 / ((1 - kept) / factor + kept)).tolist())
