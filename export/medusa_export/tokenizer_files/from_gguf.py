"""Tokenizer files from the tables inside a GGUF file."""

from __future__ import annotations

from typing import Any

from ..errors import ExportError
from ..weights.gguf_file import GgufSource
from .byte_level import byte_level_tokenizer
from .facts import TokenizerFacts, TokenizerFiles
from .sentencepiece import sentencepiece_tokenizer


def tokenizer_from_gguf(source: GgufSource) -> TokenizerFiles:
    """Both documents and the facts; names what it does not support."""
    model = source.field("tokenizer.ggml.model")
    tokens: list[str] = source.field("tokenizer.ggml.tokens", [])
    types: list[int] = source.field("tokenizer.ggml.token_type", [1] * len(tokens))
    if not tokens:
        raise ExportError(f"{source.path.name} holds no tokenizer (tokenizer.ggml.tokens is missing)")
    if model not in ("gpt2", "llama"):
        raise ExportError(f"{source.path.name}: tokenizer model '{model}' is not supported (supported: gpt2, llama)")
    bos, eos = source.field("tokenizer.ggml.bos_token_id"), source.field("tokenizer.ggml.eos_token_id")
    eot = source.field("tokenizer.ggml.eot_token_id")
    facts = TokenizerFacts(
        bos_token_id=None if bos is None else int(bos),
        eos_token_ids=sorted({int(t) for t in (eos, eot) if t is not None}),
        add_bos=bool(source.field("tokenizer.ggml.add_bos_token", model == "llama")),
    )
    if model == "llama":
        scores: list[float] = source.field("tokenizer.ggml.scores", [])
        if len(scores) != len(tokens):
            raise ExportError(f"{source.path.name}: {len(scores)} tokenizer scores for {len(tokens)} tokens")
        prefix = bool(source.field("tokenizer.ggml.add_space_prefix", True))
        begin = facts.bos_token_id if facts.add_bos else None
        document = sentencepiece_tokenizer(tokens, scores, types, prefix, begin)
    else:
        merges: list[str] = source.field("tokenizer.ggml.merges", [])
        document = byte_level_tokenizer(tokens, types, merges, str(source.field("tokenizer.ggml.pre", "default")))
    return TokenizerFiles(document, _config(source, tokens, facts), facts)


def _config(source: GgufSource, tokens: list[str], facts: TokenizerFacts) -> dict[str, Any]:
    def token(key: str) -> str | None:
        index = source.field(f"tokenizer.ggml.{key}_token_id")
        return None if index is None else tokens[int(index)]

    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": bool(source.field("tokenizer.ggml.add_space_prefix", False)),
        "add_bos_token": facts.add_bos,
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "unk_token": token("unknown"),
        "pad_token": token("padding"),
        "model_max_length": source.config.context_length,
        "clean_up_tokenization_spaces": False,
        "chat_template": source.field("tokenizer.chat_template"),
    }
