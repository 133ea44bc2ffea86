"""Texts that fall into a loop, made from stored answers: some tokens, then a stretch of them over and over."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .conversations import Answer
from .shards import HELD_OUT_EVERY, Rollouts, split_of

SOURCE = "repeated"


@dataclass(frozen=True)
class RepeatMix:
    """Lengths in tokens. A stretch has `shortest` to `longest` tokens, all octaves equally often; 0 to `before` tokens
    stand before it; it is said again one to three times over, but at most `most` tokens of that are kept."""

    shortest: int = 8
    longest: int = 160
    before: int = 96
    most: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest or self.before < 0 or self.most < self.shortest:
            raise ValueError(
                f"repeated answers need 1 <= shortest <= longest, before >= 0 and most >= shortest, got {self}"
            )


def repeated_answers(rollouts: Rollouts, mix: RepeatMix, count: int, seed: int) -> list[Answer]:
    """`count` answers without states, each of another draw; a function of the arguments alone.

    `tokens` are the repeated ones only: what stands before the loop, the stretch's first saying included, is `context`.
    Numbered so that all belong to the training split.
    """
    long_enough = np.flatnonzero(np.diff(rollouts.offsets) >= mix.shortest)
    if not len(long_enough):
        raise ValueError(f"no training answer has {mix.shortest} tokens to repeat: distil more or lower --shortest")
    made = []
    for index in range(count):
        rng = np.random.default_rng([seed, 11, index])
        a = int(rng.choice(long_enough))
        answer = rollouts.tokens[rollouts.offsets[a] : rollouts.offsets[a + 1]]
        octaves = math.log(min(mix.longest, len(answer)) / mix.shortest)
        length = min(len(answer), round(mix.shortest * math.exp(octaves * rng.random())))
        end = int(rng.integers(length, len(answer) + 1))
        before = np.concatenate((np.frombuffer(rollouts.contexts[a], np.int32), answer[: end - length]))
        kept = before[len(before) - min(len(before), int(rng.integers(0, mix.before + 1))) :]
        stretch = answer[end - length : end]
        said = min(mix.most, round(length * (1 + 2 * rng.random())))
        made.append(
            Answer(
                conversation=_training_number(index),
                source=SOURCE,
                temperature=float(rollouts.temperature[a]),
                turn=0,
                context=[*kept.tolist(), *stretch.tolist()],
                tokens=np.resize(stretch, said).tolist(),
            )
        )
    return made


def _training_number(index: int) -> int:
    """A conversation number of the training split, another for every index."""
    number = index * HELD_OUT_EVERY + HELD_OUT_EVERY - 1
    assert split_of(number) == "train"
    return number
