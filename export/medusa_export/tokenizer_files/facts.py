"""What the manifest says about a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TokenizerFacts:
    """Ids the engine needs; the rest stands in the tokenizer's own files."""

    bos_token_id: int | None
    eos_token_ids: list[int]
    add_bos: bool


@dataclass(frozen=True)
class TokenizerFiles:
    """The two JSON documents and the facts."""

    tokenizer: dict[str, Any]
    config: dict[str, Any]
    facts: TokenizerFacts
    notes: tuple[str, ...] = ()  # to be told to the user
