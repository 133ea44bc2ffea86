"""Tokenizer files of a Hugging Face folder, with the chat template brought into tokenizer_config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ExportError
from ..weights.checked import MAX_JSON_BYTES, is_given, read_json, reading, shown
from ..weights.fields import Fields
from ..weights.hf_folder import HfFolderSource
from .facts import TokenizerFacts, TokenizerFiles
from .from_sentencepiece import tokenizer_from_sentencepiece
from .turn_ends import with_turn_ends

_MODELS = ("BPE", "Unigram", "WordPiece", "WordLevel")


def tokenizer_from_folder(source: HfFolderSource, chat_template: str | None = None) -> TokenizerFiles:
    """Reads tokenizer.json or tokenizer.model, tokenizer_config.json, chat_template.jinja, generation_config.json."""
    folder = source.path
    path, config_path = folder / "tokenizer.json", folder / "tokenizer_config.json"
    with reading(config_path):
        config = read_json(config_path) if is_given(config_path) else {}
    config = _special_tokens(folder) | {key: value for key, value in config.items() if value is not None}
    if is_given(path):
        document = read_json(path)
    elif (folder / "tokenizer.model").is_file():
        document, config = tokenizer_from_sentencepiece(folder, config)
    else:
        raise ExportError(f"{folder}: neither tokenizer.json nor tokenizer.model is there")
    with reading(path):
        ids, pieces = _ids_of(document)
        first = _first_token(document)
    with reading(config_path):
        template = folder / "chat_template.jinja"
        if is_given(template):
            config["chat_template"] = _text(template)
        if chat_template is not None:
            config["chat_template"] = chat_template
        _check_template(config.get("chat_template"))
        bos_token, eos_token = _content(config, "bos_token"), _content(config, "eos_token")
    bos, own_eos = ids.get(bos_token or ""), ids.get(eos_token or "")
    says = config.get("add_bos_token")
    adds_bos = bos is not None and (says if isinstance(says, bool) else first == bos_token)
    eos = {*source.eos_token_ids, *_generation_eos(source), *([] if own_eos is None else [own_eos])}
    names = [token for token, index in ids.items() if index in eos]
    ends, notes = with_turn_ends(config.get("chat_template"), sorted(eos), names, pieces)
    return TokenizerFiles(document, config, TokenizerFacts(bos, ends, adds_bos), notes)


def _special_tokens(folder: Path) -> dict[str, Any]:
    """Those of special_tokens_map.json, for what tokenizer_config.json does not name."""
    path = folder / "special_tokens_map.json"
    found = read_json(path) if is_given(path) else {}
    return {key: found[key] for key in ("bos_token", "eos_token", "unk_token", "pad_token") if found.get(key)}


def _text(path: Any) -> str:
    with reading(path):
        if not path.is_file() or path.stat().st_size > MAX_JSON_BYTES:
            raise ExportError(f"{path} is no regular file of at most {MAX_JSON_BYTES} bytes")
        return str(path.read_text(encoding="utf-8"))


def _check_template(template: Any) -> None:
    named = template if isinstance(template, list) else []
    if isinstance(template, list) and all(
        isinstance(each, dict) and isinstance(each.get("name"), str) and isinstance(each.get("template"), str)
        for each in named
    ):
        return
    if template is not None and not isinstance(template, str):
        raise ExportError(f"chat_template is {shown(template)}; expected a text, or a list of named ones")


def _ids_of(document: dict[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """Token -> id: of all tokens, and of the added ones, which are one piece in any text."""
    added: dict[str, int] = {}
    fields = Fields("tokenizer.json", document.get)
    for token in fields.items("added_tokens", []):
        if not isinstance(token, dict) or not isinstance(token.get("content"), str) or not _is_id(token.get("id")):
            raise ExportError(f"tokenizer.json: added_tokens holds {shown(token)}; expected a content and an id")
        added[token["content"]] = token["id"]
    model = fields.mapping("model")
    if model.get("type", "BPE") not in _MODELS:
        kind = shown(model.get("type"))
        raise ExportError(f"tokenizer.json: model type {kind} is not supported (supported: {', '.join(_MODELS)})")
    vocab = model.get("vocab")
    if isinstance(vocab, list):  # Unigram: [token, score] each
        if not all(isinstance(each, list) and len(each) == 2 and isinstance(each[0], str) for each in vocab):
            raise ExportError("tokenizer.json: model.vocab must hold a token and a score in each of its lists")
        vocab = {each[0]: i for i, each in enumerate(vocab)}
    if not isinstance(vocab, dict) or not vocab:
        raise ExportError(f"tokenizer.json: model.vocab is {shown(vocab)}; expected the tokens with their ids")
    wrong = next((token for token, index in vocab.items() if not _is_id(index)), None)
    if wrong is not None:
        raise ExportError(f"tokenizer.json: model.vocab gives {shown(wrong)} the id {shown(vocab[wrong])}")
    merges = model.get("merges", [])
    if not isinstance(merges, list) or not all(map(_is_merge, merges)):
        raise ExportError("tokenizer.json: model.merges must be a list of pairs")
    return vocab | added, added


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _is_merge(value: Any) -> bool:
    """One text with a space in it, or a list of two."""
    if isinstance(value, str):
        return " " in value
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


def _content(config: dict[str, Any], key: str) -> str | None:
    """A token in tokenizer_config.json: a string, or an object with its content."""
    token = config.get(key)
    content = token.get("content") if isinstance(token, dict) else token
    if content is not None and not isinstance(content, str):
        raise ExportError(f"{key} is {shown(token)}; expected a token")
    return content


def _generation_eos(source: HfFolderSource) -> list[int]:
    """The end tokens of generation_config.json; config.json's and the tokenizer's own are known already."""
    path = source.path / "generation_config.json"
    if not is_given(path):
        return []
    with reading(path):
        return Fields(path.name, read_json(path).get).ids("eos_token_id", source.config.vocab_size)


def _first_token(document: dict[str, Any]) -> str | None:
    """The token that plain encoding of one text begins with, where its post-processor puts one there."""
    processor = document.get("post_processor") or {}
    for step in processor.get("processors", [processor]):
        first = (step.get("single") or [{}])[0]
        if token := first.get("SpecialToken", {}).get("id"):
            return str(token)
    return None
