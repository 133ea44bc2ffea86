"""What decides a training besides its data. No torch here: the commands take their defaults from these."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, fields
from typing import TypeVar

from ..errors import ExportError

TEMPLATES = ("chatml", "vicuna")
TOKEN_INPUTS = ("none", "root")
MAX_OVERLAP = 0.05  # largest share of a held-out answer's 8-grams that one training answer may hold


def warmup_cosine(lr: float, step: int, warmup: int, progress: float) -> float:
    """Linear warm-up to `lr` over `warmup` steps, then a cosine down to 2% of it; `progress` of the run, 0 to 1."""
    if step < warmup:
        return lr * (step + 1) / warmup
    return lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


@dataclass(frozen=True)
class Mix:
    """The make-up of distilled data: shares of prompt sources, temperatures and turns."""

    magpie_share: float = 0.45
    greedy_share: float = 0.7
    sample_temperature: float = 0.7
    question_temperature: float = 1.0
    second_turn_share: float = 0.25
    max_question: int = 96
    max_prompt: int = 224
    max_answer: int = 256


@dataclass(frozen=True)
class Recipe:
    """Of heads; lr is AdamW's peak."""

    steps: int = 2000
    batch: int = 1024  # positions
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
        return warmup_cosine(self.lr, step, self.warmup, self.progress(step, seconds))


@dataclass(frozen=True)
class Medusa2Recipe(Recipe):
    """Of heads and adapter. `batch` counts the tokens of a step (padding included), made of micro-batches of at most
    `micro_tokens`.
    """

    batch: int = 8192
    micro_tokens: int = 8192
    lr: float = 5e-4  # of the adapter
    heads_lr_scale: float = 4.0
    head_weight: float = 0.1
    kl_weight: float = 1.0
    kl_share: float = 1.0  # share of the positions, drawn again for each micro-batch, on which the KL is taken
    head_ramp: float = 1.0  # share of the run after which the heads' losses have all their weight
    freeze_output: bool = False  # the heads' output layers stay as they are

    def head_weight_at(self, step: int, seconds: float) -> float:
        risen = min(1.0, self.progress(step, seconds) / self.head_ramp)
        return self.head_weight * math.sin(math.pi / 2 * risen)

    @property
    def micro_batches(self) -> int:
        return max(1, self.batch // self.micro_tokens)


@dataclass(frozen=True)
class LoraConfig:
    """`first_layer`: adapters on this layer and those after it (0: all); the layers before need no gradient."""

    rank: int = 16
    alpha: float = 16.0
    first_layer: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1 or self.first_layer < 0:
            raise ExportError(f"adapter: rank must be >= 1 and first_layer >= 0, got {self}")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


@dataclass(frozen=True)
class ConditionalRecipe:
    """Of the conditional joint."""

    steps: int = 800
    batch: int = 768
    lr: float = 2e-3
    weight_decay: float = 0.01
    dropout: float = 0.1
    warmup: int = 20
    soft: float = 0.5
    head_decay: float = 0.8
    seed: int = 0
    pretrain_steps: int = 0
    pretrain_batch: int = 1024
    pretrained_share: float = 0.5

    def lr_at(self, step: int, steps: int = 0) -> float:
        return warmup_cosine(self.lr, step, self.warmup, step / (steps or self.steps))


R = TypeVar("R")


def recipe_of(kind: type[R], options: argparse.Namespace, **own: object) -> R:
    """A recipe of the options that bear its fields' names, and of `own`; what is neither keeps its default."""
    found = {f.name: getattr(options, f.name) for f in fields(kind) if hasattr(options, f.name)}  # type: ignore[arg-type]
    return kind(**(found | own))
