"""Distilled answers on disk: safetensors shards written atomically, and the loader that pools them by split.

A shard holds N positions of A answers:
  hidden        float16 [N, H]   backbone state after the final norm, the output layer's input
  tokens        int32   [N]      tokens[i] is what the backbone produced from hidden[i]
  top_ids       int32   [N, 8]   the backbone's best tokens at that position, best first
  top_logprobs  float16 [N, 8]   their log-probabilities (natural, temperature 1)
  offsets       int64   [A + 1]  answer a is rows offsets[a]..offsets[a + 1]
  context       int32   [C]      all contexts, one after another; context_offsets int64 [A + 1]
  conversation, turn int32 [A]; temperature float32 [A]
Metadata: `conversations` (JSON list, also those that yielded nothing), `sources` (JSON list per answer).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from ..errors import ExportError
from ..weights.checked import reading
from .conversations import Answer
from .inputs import lines_of

TOP = 8  # backbone tokens kept per position, for soft targets
HELD_OUT_EVERY = 20  # conversation % 20: 0 is validation, 1 is calibration, the rest is training


def split_of(conversation: int) -> str:
    return {0: "validation", 1: "calibration"}.get(conversation % HELD_OUT_EVERY, "train")


def write_shard(path: Path, answers: list[Answer], conversations: list[int], hidden_size: int) -> None:
    """Write to a temporary name and rename: a shard is either whole or absent."""
    lengths = [len(a.tokens) for a in answers]
    contexts = [len(a.context) for a in answers]

    def stack(name: str, width: int, dtype: type) -> np.ndarray:
        parts = [np.asarray(getattr(a, name), dtype) for a in answers]
        return np.concatenate([np.zeros((0, width), dtype), *parts])

    tensors = {
        "hidden": stack("hidden", hidden_size, np.float16),
        "tokens": np.array([t for a in answers for t in a.tokens], np.int32),
        "top_ids": stack("top_ids", TOP, np.int32),
        "top_logprobs": stack("top_logprobs", TOP, np.float16),
        "offsets": np.cumsum([0, *lengths]).astype(np.int64),
        "context": np.array([t for a in answers for t in a.context], np.int32),
        "context_offsets": np.cumsum([0, *contexts]).astype(np.int64),
        "conversation": np.array([a.conversation for a in answers], np.int32),
        "turn": np.array([a.turn for a in answers], np.int32),
        "temperature": np.array([a.temperature for a in answers], np.float32),
    }
    metadata = {
        "conversations": json.dumps(conversations),
        "sources": json.dumps([a.source for a in answers]),
    }
    temporary = path.with_suffix(".tmp")
    save_file(tensors, str(temporary), metadata)
    os.replace(temporary, path)


def shard_paths(folder: str | Path, limit: int | None = None, option: str = "--data") -> list[Path]:
    """The shards of a folder that `option` names, the first `limit` by name; a folder without any is refused."""
    paths = sorted(Path(folder).glob("shard-*.safetensors"))[:limit]
    if not paths:
        raise ExportError(f"{option} {folder} holds no shard-*.safetensors: run distil first")
    return paths


@contextmanager
def open_shard(path: Path) -> Iterator[safe_open]:
    """A shard to read tensors from; a damaged one is refused by its name."""
    with reading(path), safe_open(str(path), "numpy") as file:
        yield file


def finished_conversations(folder: Path) -> set[int]:
    done: set[int] = set()
    for path in sorted(folder.glob("shard-*.safetensors")):
        with open_shard(path) as f:
            done.update(json.loads(f.metadata()["conversations"]))
    return done


@dataclass(frozen=True)
class TokenRows:
    """Only the tokens, int32 [N], of pooled answers; answer a is offsets[a]..offsets[a + 1], int64 [A + 1]."""

    tokens: np.ndarray
    offsets: np.ndarray


@dataclass
class Rollouts:
    """Answers of one split, pooled. `offsets` bounds answers; see the shard format for the rest."""

    hidden: np.ndarray  # float16 [N, H]
    tokens: np.ndarray  # int32 [N]
    top_ids: np.ndarray  # int32 [N, 8]
    top_logprobs: np.ndarray  # float16 [N, 8]
    offsets: np.ndarray  # int64 [A + 1]
    temperature: np.ndarray  # float32 [A]
    sources: list[str]
    contexts: list[bytes]

    @property
    def token_rows(self) -> TokenRows:
        return TokenRows(self.tokens, self.offsets)

    def answers(self) -> Iterator[tuple[int, int, list[int]]]:
        """(first row, row after the last, the context's tokens) of every answer."""
        bounds = self.offsets.tolist()
        for start, stop, context in zip(bounds[:-1], bounds[1:], self.contexts, strict=True):
            yield start, stop, np.frombuffer(context, np.int32).tolist()

    def first_tokens(self, limit: int) -> Rollouts:
        """Each answer cut to its first `limit` tokens."""
        lengths = np.diff(self.offsets)
        rows = np.arange(len(self.tokens)) - np.repeat(self.offsets[:-1], lengths) < limit
        offsets = np.concatenate(([0], np.cumsum(np.minimum(lengths, limit))))
        names = ("hidden", "tokens", "top_ids", "top_logprobs")
        return replace(self, offsets=offsets, **{name: getattr(self, name)[rows] for name in names})

    def select(self, keep: np.ndarray) -> Rollouts:
        """The answers whose mask [A] is true."""
        lengths = np.diff(self.offsets)
        rows = np.repeat(keep, lengths)
        return Rollouts(
            self.hidden[rows],
            self.tokens[rows],
            self.top_ids[rows],
            self.top_logprobs[rows],
            np.concatenate(([0], np.cumsum(lengths[keep]))),
            self.temperature[keep],
            [s for s, k in zip(self.sources, keep, strict=True) if k],
            [c for c, k in zip(self.contexts, keep, strict=True) if k],
        )


def load_rollouts(
    folder: str | Path,
    splits: tuple[str, ...],
    limit_shards: int | None = None,
    without: frozenset[str] = frozenset(),
    only: frozenset[str] | None = None,
) -> Rollouts:
    """Pool the answers of some splits; an answer whose context appeared before is dropped, held-out ones first.

    So a question that the model happened to write twice never sits in both training and held-out data. Training answers
    of the shards with the file names `without` are left out, and all but those of `only` if that is given.
    """
    parts: list[Rollouts] = []
    splits_of: list[str] = []
    for path in shard_paths(folder, limit_shards):
        part, conversations = _read(path)
        names = [split_of(int(x)) for x in conversations]
        trains = "train" in splits and path.name not in without and (only is None or path.name in only)
        wanted = np.array([n != "train" or trains for n in names], bool)
        parts.append(part.select(wanted))
        splits_of += [n for n, w in zip(names, wanted, strict=True) if w]
    all_parts = pooled(parts)
    held_out = {c for c, s in zip(all_parts.contexts, splits_of, strict=True) if s != "train"}
    seen: set[tuple[bytes, float]] = set()
    keep = np.zeros(len(splits_of), bool)
    for a, (context, split) in enumerate(zip(all_parts.contexts, splits_of, strict=True)):
        key = (context, float(all_parts.temperature[a]))
        fresh = key not in seen and not (split == "train" and context in held_out)
        seen.add(key)
        keep[a] = fresh and split in splits
    if not keep.any():
        beside = " outside the listed shards" if without else ""
        raise ExportError(f"--data {folder} holds no {' or '.join(splits)} answers{beside}: distil more conversations")
    return all_parts.select(keep)


def shard_names(option: str, path: str) -> frozenset[str]:
    """The file names in the list of shards that an option names, one path or file name a line."""
    return frozenset(Path(line).name for _, line in lines_of(option, path))


def load_tokens(
    folder: str | Path,
    splits: tuple[str, ...],
    limit_shards: int | None = None,
    only: frozenset[str] | None = None,
) -> TokenRows:
    """The tokens of some splits' answers, repeated contexts included; a hundredth of what `load_rollouts` reads.
    `only`: file names of the shards to read.
    """
    tokens, lengths = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
    for path in shard_paths(folder, limit_shards):
        if only is not None and path.name not in only:
            continue
        with open_shard(path) as f:
            wanted = np.array([split_of(int(c)) in splits for c in f.get_tensor("conversation")], bool)
            own = np.diff(f.get_tensor("offsets"))
            tokens.append(f.get_tensor("tokens")[np.repeat(wanted, own)])
            lengths.append(own[wanted])
    return TokenRows(np.concatenate(tokens), np.concatenate(([0], np.cumsum(np.concatenate(lengths)))))


def _read(path: Path) -> tuple[Rollouts, np.ndarray]:
    """One shard and the conversation numbers [A] of its answers."""
    with open_shard(path) as f:
        t = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 safe_open has no iterator
        sources = json.loads(f.metadata()["sources"])
        c, co = t["context"], t["context_offsets"]
        contexts = [c[co[a] : co[a + 1]].tobytes() for a in range(len(sources))]
        names = ("hidden", "tokens", "top_ids", "top_logprobs", "offsets", "temperature")
        return Rollouts(*(t[name] for name in names), sources, contexts), t["conversation"]


def pooled(parts: list[Rollouts]) -> Rollouts:
    """The answers of all parts, in their order."""
    lengths = np.concatenate([np.diff(p.offsets) for p in parts])
    return Rollouts(
        np.concatenate([p.hidden for p in parts]),
        np.concatenate([p.tokens for p in parts]),
        np.concatenate([p.top_ids for p in parts]),
        np.concatenate([p.top_logprobs for p in parts]),
        np.concatenate(([0], np.cumsum(lengths))),
        np.concatenate([p.temperature for p in parts]),
        [s for p in parts for s in p.sources],
        [c for p in parts for c in p.contexts],
    )


def load_all(folder: Path) -> Rollouts:
    """Every answer of a folder, whatever its split; for question files, whose conversation numbers are question ids."""
    parts = [_read(path)[0] for path in sorted(folder.glob("shard-*.safetensors"))]
    return pooled(parts)
