"""SentencePiece BPE (GGUF tokenizer model `llama`: Llama 1 and 2, Vicuna, Mistral) as a Hugging Face tokenizer.json.

SentencePiece has no list of merges: it joins whichever two neighbours make the piece of the highest score. A list with
the same effect holds every way to cut a piece into two pieces, by falling score of the whole.
"""

from __future__ import annotations

from typing import Any

from .byte_level import CONTROL, added_tokens

_SPACE = "\u2581"
_UNKNOWN, _BYTE = 2, 6  # llama.cpp's token types
MAX_PIECE = 1024  # characters; every cut of every piece is looked at. SentencePiece's own limit is 16 by default


def sentencepiece_tokenizer(
    tokens: list[str], scores: list[float], types: list[int], add_prefix_space: bool, bos: int | None
) -> dict[str, Any]:
    """The tokenizer.json; `bos` is put before a text by its post-processor (special tokens only on request)."""
    prepend = [{"type": "Prepend", "prepend": _SPACE}] if add_prefix_space else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if add_prefix_space else []
    kinds = [CONTROL if kind == _UNKNOWN else kind for kind in types]
    unknown = next((t for t, kind in zip(tokens, types, strict=True) if kind == _UNKNOWN), None)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens(tokens, kinds),
        "normalizer": _sequence(
            "normalizers", *prepend, {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
        ),
        "pre_tokenizer": None,
        "post_processor": None if bos is None else _begin_with(tokens[bos], bos),
        "decoder": _sequence(
            "decoders",
            {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            *strip,
        ),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": merges_of(tokens, scores, types),
        },
    }


def merges_of(tokens: list[str], scores: list[float], types: list[int]) -> list[list[str]]:
    """[left, right] for every cut of every plain piece into two pieces, by falling score, then by id of the parts."""
    ids = {token: i for i, (token, kind) in enumerate(zip(tokens, types, strict=True)) if kind not in (CONTROL, _BYTE)}
    found: list[tuple[float, int, int, int]] = []
    for token, i in ids.items():
        for cut in range(1, len(token)):
            left, right = ids.get(token[:cut]), ids.get(token[cut:])
            if left is not None and right is not None:
                found.append((-scores[i], i, left, right))
    return [[tokens[left], tokens[right]] for _, _, left, right in sorted(found)]


def _sequence(key: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", key: list(steps)}


def _begin_with(token: str, index: int) -> dict[str, Any]:
    def special(type_id: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": type_id}}

    def text(name: str, type_id: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": type_id}}

    return {
        "type": "TemplateProcessing",
        "single": [special(0), text("A", 0)],
        "pair": [special(0), text("A", 0), special(1), text("B", 1)],
        "special_tokens": {token: {"id": token, "ids": [index], "tokens": [token]}},
    }
