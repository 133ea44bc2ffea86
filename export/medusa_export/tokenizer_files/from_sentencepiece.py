"""The tokenizer of a folder that holds SentencePiece's tokenizer.model and no tokenizer.json, as Vicuna's and others'.

The rules are the legacy ones of transformers before version 5 (`LlamaTokenizer(legacy=True)`), with which such models
were trained: text after a special token is a text of its own, with a space put before it. Transformers 5 converts
tokenizer.model by other rules, which give later turns other ids.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ExportError
from ..weights.checked import is_given, read_json, reading, shown
from .byte_level import CONTROL, USER_DEFINED
from .sentencepiece import MAX_PIECE, sentencepiece_tokenizer
from .sentencepiece_model import SentencePieceModel, read_sentencepiece_model


def tokenizer_from_sentencepiece(folder: Path, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A tokenizer.json, and tokenizer_config.json with what the model itself says where `config` does not."""
    path = folder / "tokenizer.model"
    if config.get("legacy") is False:
        raise ExportError(
            f"{folder.name}: tokenizer_config.json says legacy: false, which tokenizer.model alone does not support."
            " Add the tokenizer.json that the model's owners published"
        )
    model = read_sentencepiece_model(path)
    if longest := next((each for each in model.tokens if len(each) > MAX_PIECE), None):
        raise ExportError(f"{path.name} holds {shown(longest)} of {len(longest)} characters; at most {MAX_PIECE}")
    tokens, types = [*model.tokens], [*model.types]
    for index, (content, is_special) in sorted(_added(folder, config).items()):
        kind = CONTROL if is_special else USER_DEFINED
        if index < len(tokens) and tokens[index] == content:
            types[index] = max(types[index], kind) if types[index] != CONTROL else CONTROL
        elif index == len(tokens):
            tokens.append(content)
            types.append(kind)
        else:
            raise ExportError(
                f"{folder.name}: the added token {shown(content)} has the id {index}, which is taken or far off"
            )
    scores = [*model.scores, *[0.0] * (len(tokens) - len(model.tokens))]
    bos, eos = _piece(model, model.bos_id), _piece(model, model.eos_id)
    says = config.get("add_bos_token", True)
    begin = model.bos_id if says is not False and bos is not None else None
    document = sentencepiece_tokenizer(tokens, scores, types, model.add_prefix_space, begin)
    own = {
        "bos_token": bos,
        "eos_token": eos,
        "add_bos_token": begin is not None,
        "clean_up_tokenization_spaces": False,
    }
    kept = {
        key: value
        for key, value in config.items()
        if key not in ("legacy", "added_tokens_decoder") and value is not None
    }
    return document, own | kept | {"tokenizer_class": "PreTrainedTokenizerFast"}


def _piece(model: SentencePieceModel, index: int) -> str | None:
    return model.tokens[index] if 0 <= index < len(model.tokens) else None


def _added(folder: Path, config: dict[str, Any]) -> dict[int, tuple[str, bool]]:
    """Id -> token, and whether it is special, of those that were added to the model's own."""
    found: dict[int, tuple[str, bool]] = {}
    path = folder / "added_tokens.json"
    if is_given(path):
        with reading(path):
            for content, index in read_json(path).items():
                if type(index) is not int or index < 0:
                    raise ExportError(f"{path.name} gives {shown(content)} the id {shown(index)}")
                found[index] = content, True
    decoder = config.get("added_tokens_decoder") or {}
    with reading(folder / "tokenizer_config.json"):
        for index, token in decoder.items():
            if not index.isdigit() or not isinstance(token, dict) or not isinstance(token.get("content"), str):
                raise ExportError(f"added_tokens_decoder gives {shown(index)} the token {shown(token)}")
            found[int(index)] = token["content"], token.get("special") is True
    return found
