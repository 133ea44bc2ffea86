"""Tokenizer and chat pieces for distillation.

User text is encoded without special tokens, so that "<|im_end|>" typed by a user stays text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from ..errors import ExportError
from ..tokenizer_files import read_tokenizer
from ..weights import open_source
from .recipes import TEMPLATES

DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True)
class ChatTokens:
    """The pieces of a conversation as token ids. First prompt: opening, header + user text + footer, to_answer."""

    tokenizer: Tokenizer
    end: int  # closes an answer: the end of sequence
    opening: list[int]  # what all conversations share
    header: str  # one string with the user's text to the pre-tokenizer, as in the rendered template
    footer: str
    to_answer: list[int]
    to_question: list[int]  # what follows the end token of an answer: open the next user turn
    writes_questions: bool  # a user turn ends with `end`, so the model can write one itself

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def user_turn(self, text: str) -> list[int]:
        """The whole first prompt up to and including the opening of the assistant's turn."""
        return self.opening + self.encode(self.header + text + self.footer) + self.to_answer

    def question_prompt(self) -> list[int]:
        """The conversation up to where the user's first question begins."""
        return self.opening + self.encode(self.header)


def chatml_tokens(tokenizer: Tokenizer, start: int, end: int, system: str) -> ChatTokens:
    """ChatML (SmolLM2, Qwen2); the tokenizer keeps special tokens out of ordinary text."""

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    return ChatTokens(
        tokenizer=tokenizer,
        end=end,
        opening=[start, *ids("system\n" + system), end, *ids("\n"), start],
        header="user\n",
        footer="",
        to_answer=[end, *ids("\n"), start, *ids("assistant\n")],
        to_question=[*ids("\n"), start, *ids("user\n")],
        writes_questions=True,
    )


def vicuna_tokens(tokenizer: Tokenizer, start: int, end: int, system: str) -> ChatTokens:
    """Vicuna 1.1 and later: plain text, first turns only, because nothing but text closes a user's turn."""
    header, footer = f"{system} USER: ", " ASSISTANT:"
    return ChatTokens(tokenizer, end, [start], header, footer, [], [], writes_questions=False)


def load_chat_tokens(path: str | Path, system: str | None = None, template: str = "chatml") -> ChatTokens:
    """From a .gguf file or a Hugging Face folder."""
    document = read_tokenizer(open_source(Path(path))).tokenizer
    # Without the matcher of added tokens, special tokens in user text stay plain; their ids stay in the vocabulary.
    vocab = document["model"]["vocab"] | {t["content"]: t["id"] for t in document.get("added_tokens", [])}
    document |= {"model": document["model"] | {"vocab": vocab}, "added_tokens": [], "post_processor": None}
    tokenizer = Tokenizer.from_str(json.dumps(document))
    marks = {"chatml": ("<|im_start|>", "<|im_end|>"), "vicuna": ("<s>", "</s>")}[template]
    start, end = (tokenizer.token_to_id(m) for m in marks)
    if start is None or end is None:
        raise ExportError(f"tokenizer {path}: no {marks[0]} and {marks[1]}; choose --template from {TEMPLATES}")
    if template == "chatml":
        return chatml_tokens(tokenizer, start, end, system or DEFAULT_SYSTEM)
    return vicuna_tokens(tokenizer, start, end, system or VICUNA_SYSTEM)
