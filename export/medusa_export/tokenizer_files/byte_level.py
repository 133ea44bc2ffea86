"""Byte-level BPE (GGUF tokenizer model `gpt2`) as a Hugging Face tokenizer.json.

What differs between models is how text is cut before BPE; the GGUF only names it (`tokenizer.ggml.pre`). The regular
expressions are the published ones of the models' own tokenizer.json files.
"""

from __future__ import annotations

from typing import Any

from ..errors import ExportError

CONTROL, USER_DEFINED, UNUSED = 3, 4, 5  # llama.cpp's token types that are not plain vocabulary

_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_level(use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


_DIGITS = {"type": "Digits", "individual_digits": True}
# name in the GGUF -> (normalizer, pre-tokenizer, ignore_merges)
PRE_TOKENIZERS: dict[str, tuple[dict[str, Any] | None, dict[str, Any], bool]] = {
    "smollm": (None, _sequence(_DIGITS, _byte_level(True)), False),
    "gpt-2": (None, _byte_level(True), False),
    "qwen2": ({"type": "NFC"}, _sequence(_split(_QWEN2), _byte_level(False)), False),
    "llama-bpe": (None, _sequence(_split(_LLAMA3), _byte_level(False)), True),
    # Qwen's rules, without the normalisation of its own tokenizer.json.
    "deepseek-r1-qwen": (None, _sequence(_split(_QWEN2), _byte_level(False)), False),
    "gpt-4o": (None, _sequence(_split(_GPT4O), _byte_level(False)), False),  # Phi-4-mini
}
# llama.cpp's other names for the same rules (llama-vocab.cpp).
_SAME = {
    "phi-2": "gpt-2",
    "jina-es": "gpt-2",
    "jina-de": "gpt-2",
    "jina-v2-es": "gpt-2",
    "jina-v2-de": "gpt-2",
} | dict.fromkeys(("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral"), "llama-bpe")


def byte_level_tokenizer(tokens: list[str], types: list[int], merges: list[str], pre: str) -> dict[str, Any]:
    """The tokenizer.json of a byte-level BPE. merges: "left right", in order of rank."""
    pre = _SAME.get(pre, pre)
    if pre not in PRE_TOKENIZERS:
        known = ", ".join(sorted([*PRE_TOKENIZERS, *_SAME]))
        raise ExportError(f"pre-tokenizer '{pre}' of this GGUF file is not supported (supported: {known})")
    normalizer, pre_tokenizer, ignore_merges = PRE_TOKENIZERS[pre]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens(tokens, types),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": _byte_level(True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": ignore_merges,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in merges],
        },
    }


def byte_alphabet() -> list[str]:
    """The 256 characters that stand for bytes in byte-level BPE: printable ones as they are, the rest from U+0100."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return [chr(b) for b in shown] + [chr(256 + i) for i in range(len(hidden))]


def added_tokens(tokens: list[str], types: list[int]) -> list[dict[str, Any]]:
    """Control tokens are special (left out of decoded text); user-defined ones are plain text in one piece."""
    return [
        {
            "id": i,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind == CONTROL,
        }
        for i, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (CONTROL, USER_DEFINED)
    ]
