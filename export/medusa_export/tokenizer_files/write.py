"""Writes tokenizer.json and tokenizer_config.json into a model folder."""

from __future__ import annotations

import json
from pathlib import Path

from ..weights import WeightSource
from ..weights.gguf_file import GgufSource
from ..weights.hf_folder import HfFolderSource
from .facts import TokenizerFiles
from .from_folder import tokenizer_from_folder
from .from_gguf import tokenizer_from_gguf

__all__ = ["write_tokenizer"]


def write_tokenizer(source: WeightSource, folder: Path) -> TokenizerFiles:
    if isinstance(source, GgufSource):
        files = tokenizer_from_gguf(source)
    elif isinstance(source, HfFolderSource):
        files = tokenizer_from_folder(source)
    else:
        raise TypeError(f"no tokenizer in a {type(source).__name__}")
    write_tokenizer_files(files, folder)
    return files


def write_tokenizer_files(files: TokenizerFiles, folder: Path) -> None:
    for name, document in (("tokenizer.json", files.tokenizer), ("tokenizer_config.json", files.config)):
        (folder / name).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
