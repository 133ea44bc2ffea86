"""Reader of `tokenizer.model`, SentencePiece's own file: a protobuf message (sentencepiece_model.proto, Apache-2.0).

Only the fields that are needed are read, by their numbers: pieces = 1 (piece = 1, score = 2, type = 3), trainer_spec =
2 (model_type = 3, bos_id = 41, eos_id = 42), normalizer_spec = 3 (precompiled_charsmap = 2, add_dummy_prefix = 3,
remove_extra_whitespaces = 4, escape_whitespaces = 5).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ExportError
from ..weights.checked import MAX_JSON_BYTES, check_regular, reading, shown

NORMAL, UNUSED = 1, 5
_KINDS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class SentencePieceModel:
    """The tables, in the order of their ids."""

    tokens: list[str]
    scores: list[float]
    types: list[int]  # as llama.cpp numbers them too: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
    bos_id: int
    eos_id: int
    add_prefix_space: bool


def read_sentencepiece_model(path: Path) -> SentencePieceModel:
    """The tables of a BPE model; what the tokenizer made of them could not do is refused."""
    with reading(path):
        check_regular(path)
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ExportError(f"{path} holds {path.stat().st_size} bytes; at most {MAX_JSON_BYTES} are read")
        return _model(path.read_bytes(), path.name)


def _model(data: bytes, name: str) -> SentencePieceModel:
    tokens, scores, types = [], [], []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            piece = dict(_fields(value))
            tokens.append(_bytes(piece, 1).decode("utf-8"))
            score = piece.get(2, 0)
            scores.append(struct.unpack("<f", struct.pack("<I", score))[0] if isinstance(score, int) else math.nan)
            types.append(_number(piece, 3, NORMAL))
        elif number == 2 and isinstance(value, bytes):
            trainer = dict(_fields(value))
        elif number == 3 and isinstance(value, bytes):
            normalizer = dict(_fields(value))
    if not tokens or not all(map(math.isfinite, scores)):
        raise ExportError(f"{name} holds {len(tokens)} pieces, or scores that are no numbers: no SentencePiece model")
    if len(set(tokens)) != len(tokens):
        twice = next(token for token in tokens if tokens.count(token) > 1)
        raise ExportError(f"{name} holds the piece {shown(twice)} twice")
    kind = _KINDS.get(_number(trainer, 3, 1), "unknown")
    if kind != "bpe":
        raise ExportError(
            f"{name} is a SentencePiece model of type {kind}; only bpe is supported. Give a folder with tokenizer.json"
        )
    if _bytes(normalizer, 2) or _number(normalizer, 4, 1) or not _number(normalizer, 5, 1):
        raise ExportError(
            f"{name} changes its text (normalization rules, or white space that is removed), which is not supported."
            " Give a folder with tokenizer.json"
        )
    bos, eos = _number(trainer, 41, 1), _number(trainer, 42, 2)
    return SentencePieceModel(tokens, scores, types, bos, eos, bool(_number(normalizer, 3, 1)))


def _bytes(message: dict[int, int | bytes], number: int) -> bytes:
    value = message.get(number, b"")
    return value if isinstance(value, bytes) else b""


def _number(message: dict[int, int | bytes], number: int, default: int) -> int:
    value = message.get(number, default)
    if not isinstance(value, int):
        return default
    return value - (1 << 64) if value >= 1 << 63 else value  # negative numbers are 64 bits long


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of a message's fields: whole numbers, 32-bit values as whole numbers, bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ExportError(f"a field of wire type {wire}")
        chunk, at = data[at : at + size], at + size
        if at > len(data):
            raise ExportError("a field reaches beyond the end")
        yield number, chunk if wire == _BYTES else int.from_bytes(chunk, "little")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 0x7F) << shift
        if data[at] < 0x80:
            return value, at + 1
        at, shift = at + 1, shift + 7
    raise ExportError("a number that does not end")
