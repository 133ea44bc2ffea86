"""Byte-level BPE tokenizer and chat pieces for distillation, read from a GGUF's tables or an HF folder.

User text is encoded without special tokens, so that "<|im_end|>" typed by a user stays text.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

CONTROL = 3  # GGUF token type of control tokens
GPT2_SPLIT = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


@dataclass(frozen=True)
class ChatTokens:
    """The pieces of a ChatML conversation as token ids."""

    tokenizer: Tokenizer
    end: int  # <|im_end|>: closes a turn, also the end of sequence
    prefix: list[int]  # system turn and the opening of the user's turn
    to_answer: list[int]  # close the user's turn, open the assistant's
    to_question: list[int]  # what follows <|im_end|> of an answer: open the next user turn

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def user_turn(self, text: str) -> list[int]:
        """The whole first prompt up to and including the opening of the assistant's turn."""
        # The header's newline and the text are one string to the pre-tokenizer, as in the rendered template.
        header = self.encode("user\n")
        return self.prefix[: -len(header)] + self.encode("user\n" + text) + self.to_answer


def chat_tokens(tokenizer: Tokenizer, start: int, end: int, system: str) -> ChatTokens:
    """Pieces of ChatML (SmolLM2, Qwen2) from a tokenizer that keeps special tokens out of ordinary text."""

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    opening = [start, *ids("user\n")]
    return ChatTokens(
        tokenizer=tokenizer,
        end=end,
        prefix=[start, *ids("system\n" + system), end, *ids("\n"), *opening],
        to_answer=[end, *ids("\n"), start, *ids("assistant\n")],
        to_question=[*ids("\n"), *opening],
    )


DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def load_chat_tokens(path: str | Path, system: str = DEFAULT_SYSTEM) -> ChatTokens:
    """From a .gguf file (byte-level BPE) or from tokenizer.json in an HF folder. The template must be ChatML."""
    path = Path(path)
    tokenizer = _from_gguf(path) if path.suffix == ".gguf" else _from_folder(path)
    start, end = tokenizer.token_to_id("<|im_start|>"), tokenizer.token_to_id("<|im_end|>")
    if start is None or end is None:
        raise ValueError(
            f"tokenizer {path}: no <|im_start|>/<|im_end|>; distil.py knows ChatML, pass --template vicuna"
        )
    return chat_tokens(tokenizer, start, end, system)


def _from_gguf(path: Path) -> Tokenizer:
    from gguf import GGUFReader

    fields = GGUFReader(str(path)).fields
    model, pre = fields["tokenizer.ggml.model"].contents(), fields["tokenizer.ggml.pre"].contents()
    if model != "gpt2" or pre != "smollm":
        raise ValueError(f"tokenizer {path}: {model}/{pre} is not supported here (gpt2/smollm is); use an HF folder")
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ", 1)) for m in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(Regex(GPT2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _from_folder(folder: Path) -> Tokenizer:
    import json

    raw = json.loads((folder / "tokenizer.json").read_text())
    # Dropping the added-token matcher is what keeps special tokens in user text plain; their ids stay in
    # the vocabulary.
    vocab = raw["model"]["vocab"]
    vocab.update({t["content"]: t["id"] for t in raw.get("added_tokens", [])})
    raw["added_tokens"] = []
    raw["post_processor"] = None
    return Tokenizer.from_str(json.dumps(raw))
