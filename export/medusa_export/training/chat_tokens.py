"""Tokenizer and chat pieces for distillation.

User text is encoded without special tokens, so that "<|im_end|>" typed by a user stays text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from ..errors import ExportError
from ..tokenizer_files import read_tokenizer
from ..weights import open_source
from .recipes import TEMPLATES

DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


# Noncharacters, which no text may contain.
_PLAIN, _RSTRIP, _LSTRIP = "\ufdd0", "\ufdd1", "\ufdd2"


class Stretches:
    """Text between control tokens as token ids, as the engine makes them (src/engine/text/tokenizer.ts).

    Control tokens in the text stay plain. Added tokens of our own stand for the control tokens around it: these may
    take white space of the text along, and some tokenizers add a space to what no token precedes.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.tokenizer = Tokenizer.from_str(json.dumps(document | {"post_processor": None}))
        self.tokenizer.encode_special_tokens = True
        self.added = self.tokenizer.get_added_tokens_decoder()
        self.tokenizer.add_tokens([
            AddedToken(_PLAIN, normalized=False),
            AddedToken(_RSTRIP, normalized=False, rstrip=True),
            AddedToken(_LSTRIP, normalized=False, lstrip=True),
        ])  # fmt: skip

    def encode(self, text: str, before: int | None = None, after: int | None = None) -> list[int]:
        """`before`, `after`: the control tokens that stand there."""
        first = _RSTRIP if before in self.added and self.added[before].rstrip else _PLAIN
        last = _LSTRIP if after in self.added and self.added[after].lstrip else _PLAIN
        return list(self.tokenizer.encode(first + text + last, add_special_tokens=False).ids[1:-1])


@dataclass(frozen=True)
class ChatTokens:
    """The pieces of a conversation as token ids. First prompt: opening, header + user text + footer, to_answer."""

    stretches: Stretches
    end: int  # closes an answer: the end of sequence
    opening: list[int]  # what all conversations share, up to a control token
    header: str  # one string with the user's text to the pre-tokenizer, as in the rendered template
    footer: str
    to_answer: list[int]  # begins with the control token that closes the user's text, if one does
    to_question: list[int]  # what follows the end token of an answer: open the next user turn
    writes_questions: bool  # a user turn ends with `end`, so the model can write one itself

    def encode(self, text: str) -> list[int]:
        return self.stretches.encode(text)

    def user_turn(self, text: str) -> list[int]:
        """The whole first prompt up to and including the opening of the assistant's turn."""
        after = self.to_answer[0] if self.to_answer else None
        return self.opening + self._after_opening(self.header + text + self.footer, after) + self.to_answer

    def question_prompt(self) -> list[int]:
        """The conversation up to where the user's first question begins."""
        return self.opening + self._after_opening(self.header, None)

    def _after_opening(self, text: str, after: int | None) -> list[int]:
        return self.stretches.encode(text, self.opening[-1], after)


def chatml_tokens(stretches: Stretches, start: int, end: int, system: str) -> ChatTokens:
    """ChatML (SmolLM2, Qwen2)."""
    between = stretches.encode("\n", end, start)
    return ChatTokens(
        stretches,
        end=end,
        opening=[start, *stretches.encode("system\n" + system, start, end), end, *between, start],
        header="user\n",
        footer="",
        to_answer=[end, *between, start, *stretches.encode("assistant\n", start)],
        to_question=[*between, start, *stretches.encode("user\n", start)],
        writes_questions=True,
    )


def vicuna_tokens(stretches: Stretches, start: int, end: int, system: str) -> ChatTokens:
    """Vicuna 1.1 and later: plain text, first turns only, because nothing but text closes a user's turn."""
    header, footer = f"{system} USER: ", " ASSISTANT:"
    return ChatTokens(stretches, end, [start], header, footer, [], [], writes_questions=False)


def load_chat_tokens(path: str | Path, system: str | None = None, template: str = "chatml") -> ChatTokens:
    """From a .gguf file or a Hugging Face folder."""
    stretches = Stretches(read_tokenizer(open_source(Path(path))).tokenizer)
    marks = {"chatml": ("<|im_start|>", "<|im_end|>"), "vicuna": ("<s>", "</s>")}[template]
    start, end = (stretches.tokenizer.token_to_id(m) for m in marks)
    if start is None or end is None:
        raise ExportError(f"tokenizer {path}: no {marks[0]} and {marks[1]}; choose --template from {TEMPLATES}")
    if any(index in stretches.added and stretches.added[index].single_word for index in (start, end)):
        raise ExportError(f"tokenizer {path}: {marks[0]} or {marks[1]} counts as a single word only: not supported")
    if template == "chatml":
        return chatml_tokens(stretches, start, end, system or DEFAULT_SYSTEM)
    return vicuna_tokens(stretches, start, end, system or VICUNA_SYSTEM)
