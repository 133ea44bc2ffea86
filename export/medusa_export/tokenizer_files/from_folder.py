"""Tokenizer files of a Hugging Face folder, with the chat template brought into tokenizer_config.json."""

from __future__ import annotations

from typing import Any

from ..errors import ExportError
from ..weights.hf_folder import HfFolderSource, read_json
from .facts import TokenizerFacts, TokenizerFiles


def tokenizer_from_folder(source: HfFolderSource) -> TokenizerFiles:
    """Reads tokenizer.json (needed), tokenizer_config.json, chat_template.jinja and generation_config.json."""
    folder = source.path
    if not (folder / "tokenizer.json").is_file():
        slow = " (tokenizer.model alone is not supported: convert it to tokenizer.json)"
        hint = slow if (folder / "tokenizer.model").is_file() else ""
        raise ExportError(f"{folder}: tokenizer.json is missing{hint}")
    document = read_json(folder / "tokenizer.json")
    config = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    template = folder / "chat_template.jinja"
    if template.is_file():
        config["chat_template"] = template.read_text(encoding="utf-8")
    ids = _ids_of(document)
    bos = ids.get(_content(config.get("bos_token")) or "")
    return TokenizerFiles(
        document, config, TokenizerFacts(bos, _eos(source, config, ids), _adds_bos(document, config, bos))
    )


def _ids_of(document: dict[str, Any]) -> dict[str, int]:
    ids = {t["content"]: int(t["id"]) for t in document.get("added_tokens", [])}
    vocab = document.get("model", {}).get("vocab", {})
    return (vocab if isinstance(vocab, dict) else {}) | ids


def _content(token: Any) -> str | None:
    """A token in tokenizer_config.json: a string, or an object with its content."""
    return token.get("content") if isinstance(token, dict) else token


def _eos(source: HfFolderSource, config: dict[str, Any], ids: dict[str, int]) -> list[int]:
    """Every id that ends an answer: generation_config.json's, config.json's, the tokenizer's own."""
    generation = source.path / "generation_config.json"
    found = set(source.eos_token_ids)
    if generation.is_file():
        value = read_json(generation).get("eos_token_id")
        found |= set(value if isinstance(value, list) else [] if value is None else [value])
    own = ids.get(_content(config.get("eos_token")) or "")
    return sorted(found | (set() if own is None else {own}))


def _adds_bos(document: dict[str, Any], config: dict[str, Any], bos: int | None) -> bool:
    """True if plain encoding of one text begins with the bos token."""
    if bos is None:
        return False
    if isinstance(config.get("add_bos_token"), bool):
        return bool(config["add_bos_token"])
    processor = document.get("post_processor") or {}
    steps = processor.get("processors", [processor])
    for step in steps:
        first = (step.get("single") or [{}])[0]
        if first.get("SpecialToken", {}).get("id") == _content(config.get("bos_token")):
            return True
    return False
