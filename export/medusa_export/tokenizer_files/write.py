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


def read_tokenizer(source: WeightSource, template: str | None = None) -> TokenizerFiles:
    """Both documents and the facts, from the checkpoint's tables or files; `template` replaces its chat template."""
    if isinstance(source, GgufSource):
        return tokenizer_from_gguf(source, template)
    if isinstance(source, HfFolderSource):
        return tokenizer_from_folder(source, template)
    raise TypeError(f"no tokenizer in a {type(source).__name__}")


def write_tokenizer(source: WeightSource, folder: Path, template: str | None = None) -> TokenizerFiles:
    files = read_tokenizer(source, template)
    write_tokenizer_files(files, folder)
    return files


def write_tokenizer_files(files: TokenizerFiles, folder: Path) -> None:
    for name, document in (("tokenizer.json", files.tokenizer), ("tokenizer_config.json", files.config)):
        (folder / name).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
