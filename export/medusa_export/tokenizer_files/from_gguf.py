"""Tokenizer files from the tables inside a GGUF file."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ..errors import ExportError
from ..weights.checked import reading, shown
from ..weights.gguf_file import GgufSource
from .byte_level import CONTROL, USER_DEFINED, byte_level_tokenizer
from .facts import TokenizerFacts, TokenizerFiles
from .sentencepiece import MAX_PIECE, sentencepiece_tokenizer
from .turn_ends import with_turn_ends

_KEYS = "tokenizer.ggml."
# GGUF does not say which tokens take the white space behind them. Phi-3's and Phi-3.5's added tokens do, but for these.
_PHI_KEEPS_SPACE = ("<unk>", "<s>", "<|endoftext|>")


def tokenizer_from_gguf(source: GgufSource, chat_template: str | None = None) -> TokenizerFiles:
    """Both documents and the facts; names what it does not support. `chat_template` replaces the file's own."""
    with reading(source.path):
        return _files(source, chat_template)


def _files(source: GgufSource, chat_template: str | None) -> TokenizerFiles:
    fields, label = source.fields, source.path.name
    model = fields.text(_KEYS + "model", "none")
    tokens: list[str] = _table(source, "tokens", str)
    count = len(tokens)
    if count == 0:
        raise ExportError(f"{label} holds no tokenizer (tokenizer.ggml.tokens is missing)")
    if model not in ("gpt2", "llama"):
        raise ExportError(f"{label}: tokenizer model '{model}' is not supported (supported: gpt2, llama)")
    types: list[int] = _table(source, "token_type", int, count) or [1] * count
    ends = [_token_id(source, key, count) for key in ("eos", "eot", "eom")]
    pre = fields.text(_KEYS + "pre", "default")
    facts = TokenizerFacts(
        bos_token_id=_token_id(source, "bos", count),
        eos_token_ids=sorted({end for end in ends if end is not None}),
        # Files of Llama 3 seldom say so: llama.cpp infers it from the name of the pre-tokenizer.
        add_bos=fields.flag(_KEYS + "add_bos_token", model == "llama" or pre in ("llama-bpe", "llama3", "llama-v3")),
    )
    if model == "llama":
        scores: list[float] = _table(source, "scores", float, count)
        if not scores or not all(map(math.isfinite, scores)):
            raise ExportError(f"{label}: {_KEYS}scores must hold a finite number for each of the {count} tokens")
        if longest := next((each for each in tokens if len(each) > MAX_PIECE), None):
            raise ExportError(
                f"{label}: {_KEYS}tokens holds {shown(longest)} of {len(longest)} characters; at most {MAX_PIECE}"
                " are supported"
            )
        prefix = fields.flag(_KEYS + "add_space_prefix", True)
        begin = facts.bos_token_id if facts.add_bos else None
        document = sentencepiece_tokenizer(tokens, scores, types, prefix, begin)
        for token in document["added_tokens"] if source.config.family == "phi3" else []:
            token["rstrip"] = token["content"] not in _PHI_KEEPS_SPACE
    else:
        merges: list[str] = _table(source, "merges", str)
        if whole := next((each for each in merges if " " not in each), None):
            raise ExportError(f"{label}: {_KEYS}merges holds {shown(whole)}; expected two parts with a space between")
        document = byte_level_tokenizer(tokens, types, merges, pre)
    config = _config(source, tokens, facts)
    if chat_template is not None:
        config["chat_template"] = chat_template
    pieces = {token: i for i, token in enumerate(tokens) if types[i] in (CONTROL, USER_DEFINED)}
    names = [tokens[index] for index in facts.eos_token_ids]
    end_ids, notes = with_turn_ends(config["chat_template"], facts.eos_token_ids, names, pieces)
    return TokenizerFiles(document, config, replace(facts, eos_token_ids=end_ids), notes)


def _table(source: GgufSource, key: str, kind: type, count: int | None = None) -> list[Any]:
    """A list of values of one type, empty where there is none; with `count`, otherwise one for each token."""
    name = f"{source.path.name}: {_KEYS}{key}"
    values = source.fields.items(_KEYS + key, [])
    for each in values:
        if type(each) is not kind:
            raise ExportError(f"{name} holds {shown(each)}; expected values of type {kind.__name__}")
    if count is not None and values and len(values) != count:
        raise ExportError(f"{name} holds {len(values)} values for {count} tokens")
    return values


def _token_id(source: GgufSource, key: str, count: int) -> int | None:
    return source.fields.whole(f"{_KEYS}{key}_token_id", None, least=0, most=count - 1)


def _config(source: GgufSource, tokens: list[str], facts: TokenizerFacts) -> dict[str, Any]:
    def token(key: str) -> str | None:
        index = _token_id(source, key, len(tokens))
        return None if index is None else tokens[index]

    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": source.fields.flag(_KEYS + "add_space_prefix", False),
        "add_bos_token": facts.add_bos,
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "unk_token": token("unknown"),
        "pad_token": token("padding"),
        "model_max_length": source.config.context_length,
        "clean_up_tokenization_spaces": False,
        "chat_template": source.fields.text("tokenizer.chat_template", None),
    }
