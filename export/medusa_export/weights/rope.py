"""Rotary frequencies: the one place that computes them, and what checkpoints say about their scaling.

Pair i of a head's channels, of D / 2 pairs, turns by theta^(-2i / D) / divisor_i radians a position. Every scaling that
is supported is a list of divisors:

| kind | divisor of a pair that turns once in w positions | source |
|---|---|---|
| default | 1 | |
| linear | factor | |
| llama3 | 1 for short w, factor for long w, in between a weighted harmonic mean | Llama 3.1, 3.2, 3.3 |
| yarn | 1 for short w, factor for long w, linear in between; cosines and sines scaled | YaRN, arXiv 2309.00071 |
| longrope | listed (short_factor); cosines and sines scaled | Phi-3.5, Phi-4-mini, within their original context |

Where only part of a head is rotated, the pairs of the rest have an infinite divisor, and the rows of q and k are put in
the order that pairs halves of the whole head (`head_order`).
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import ExportError
from .checked import shown
from .config import ModelConfig
from .fields import Fields, is_number
from .finite import Array

SCALINGS = ("default", "linear", "llama3", "yarn", "longrope")


def inverse_frequencies(config: ModelConfig, is_local: bool = False) -> Array:
    """Radians a position, float64 [D / 2]. `is_local`: of the layers with a window, where they have their own."""
    half = config.head_dim // 2
    if is_local and config.local_rope_theta:
        return config.local_rope_theta ** (-np.arange(half, dtype=np.float64) / half)
    unscaled = config.rope_theta ** (-np.arange(half, dtype=np.float64) / half)
    return np.asarray(unscaled / np.asarray(config.rope_divisors) if config.rope_divisors else unscaled)


def rotary_scales(config: ModelConfig) -> Array:
    """What cosines and sines are multiplied by, float64 [D / 2]."""
    half = config.head_dim // 2
    turns = np.isfinite(config.rope_divisors) if config.rope_divisors else np.ones(half, bool)
    return np.where(turns, config.rope_scale, 1.0)


def refuse_scaling(label: str, kind: str) -> ExportError:
    if kind == "dynamic":
        return ExportError(
            f"{label}: rope scaling 'dynamic' is not supported: beyond max_position_embeddings it changes every"
            " frequency as the text grows, and with it keys that are cached. Up to there it changes nothing: take it"
            ' out of config.json (rope_scaling null; rope_parameters with rope_type "default") and prepare it again'
        )
    return ExportError(f"{label}: rope scaling '{kind}' is not supported (supported: {', '.join(SCALINGS)})")


def longrope_context(context: int, original: int) -> tuple[int, tuple[str, ...]]:
    """The context length that longrope leaves, and what is to be told: beyond `original` every frequency would change
    with the length of the text, and with it keys that are cached.
    """
    if original >= context:
        return context, ()
    return original, (f"longrope: the context length is {original}, not {context}: beyond it other frequencies hold",)


def scaling_from_json(
    label: str, scaling: Fields, fields: Fields, config: ModelConfig, turning: int
) -> tuple[tuple[float, ...], float]:
    """The divisors that `rope_scaling` or `rope_parameters` of a config.json means for an unscaled `config`, and what
    cosines and sines are scaled by. `turning`: how many channels of a head are rotated.
    """
    kind = scaling.text("rope_type", scaling.text("type", "default"))
    if kind == "su":  # longrope's first name
        kind = "longrope"
    if kind not in SCALINGS:
        raise refuse_scaling(label, kind)
    if not 0 < turning <= config.head_dim or turning % 2:
        raise ExportError(
            f"{label}: {turning} of a head's {config.head_dim} channels are rotated; expected an even number"
        )
    pairs = turning // 2
    inverse = config.rope_theta ** (-np.arange(pairs, dtype=np.float64) / pairs)
    scaled, scale = _scaled(label, kind, scaling, fields, config, inverse)
    unscaled = inverse_frequencies(config)
    if pairs == config.head_dim // 2 and kind == "default":
        return (), 1.0
    # Divided twice, so that frequencies which nothing scales keep their last bit.
    divisors = np.full(len(unscaled), np.inf)
    divisors[:pairs] = scaled if pairs == len(unscaled) else unscaled[:pairs] / (inverse / scaled)
    return tuple(divisors.tolist()), scale


def _scaled(
    label: str, kind: str, scaling: Fields, fields: Fields, config: ModelConfig, inverse: Array
) -> tuple[Array, float]:
    """Divisors of the pairs that turn, whose unscaled frequencies are `inverse`, and the scale of cosines and sines."""
    if kind == "default":
        return np.ones(len(inverse)), 1.0
    most = fields.whole("max_position_embeddings", 2048)
    original = scaling.whole("original_max_position_embeddings", fields.whole("original_max_position_embeddings", most))
    if kind == "longrope":
        listed = scaling.items("short_factor")
        if len(listed) != len(inverse) or not all(is_number(each) and each > 0 for each in listed):
            raise ExportError(f"{label}: short_factor must be {len(inverse)} numbers above 0, not {shown(listed)}")
        factor = scaling.number("factor", most / original, above=0)
        usual = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(max(original, 2)))
        return np.asarray(listed, np.float64), scaling.number("attention_factor", usual, above=0)
    factor = scaling.number("factor", above=0)
    if kind == "linear":
        return np.full(len(inverse), factor), 1.0
    if kind == "yarn":
        return _yarn(scaling, factor, config.rope_theta, original, inverse)
    low = scaling.number("low_freq_factor", above=0)
    high = scaling.number("high_freq_factor", above=low)
    original = scaling.whole("original_max_position_embeddings")
    return np.asarray(llama3_divisors(inverse, factor, low, high, original)), 1.0


def _yarn(scaling: Fields, factor: float, theta: float, original: int, inverse: Array) -> tuple[Array, float]:
    """As transformers has it: which pairs turn often is told by their index, rounded outwards."""
    pairs = len(inverse)

    def index_of(turns: float) -> float:
        return 2 * pairs * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = index_of(scaling.number("beta_fast", 32.0)), index_of(scaling.number("beta_slow", 1.0))
    if scaling.flag("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * pairs - 1)
    divided = np.clip((np.arange(pairs) - first) / max(last - first, 0.001), 0, 1)

    def scale_of(mscale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1

    one, all_dims = scaling.number("mscale", 0.0), scaling.number("mscale_all_dim", 0.0)
    usual = scale_of(one) / scale_of(all_dims) if one and all_dims else scale_of(1.0)
    divisors = 1 / ((1 - divided) + divided / factor)
    return divisors, scaling.number("attention_factor", usual, above=0)


def head_order(config: ModelConfig) -> Array:
    """[D] the checkpoint's channels of a head in our order. Where only some are rotated: the first halves of those, the
    first of the others, and then the same of the second halves.
    """
    turning = 2 * sum(math.isfinite(each) for each in config.rope_divisors)
    if not config.rope_divisors or turning == config.head_dim:
        return np.arange(config.head_dim)
    still = np.arange(turning, config.head_dim)
    half = len(still) // 2
    rotated = np.arange(turning)
    return np.concatenate([rotated[: turning // 2], still[:half], rotated[turning // 2 :], still[half:]])


def rows_of_heads(order: Array, heads: int, start: int) -> Array:
    """Rows of a matrix of so many heads that begins at row `start`, each head's in `order`."""
    return (start + len(order) * np.arange(heads)[:, None] + order).reshape(-1)


def llama3_divisors(inverse: Array, factor: float, low: float, high: float, original: int) -> tuple[float, ...]:
    """Of pairs with the unscaled frequencies `inverse`; `original` is the context length before it was extended.

    A pair that turns more than `high` times in that context keeps its frequency, one that turns less than `low` times
    has it divided by `factor`; in between, kept and divided frequency are mixed in proportion.
    """
    turns = original * inverse / (2 * np.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return tuple((1 / ((1 - kept) / factor + kept)).tolist())
