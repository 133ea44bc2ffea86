"""Chooses the reader for a path and checks that the checkpoint is whole."""

from __future__ import annotations

from pathlib import Path

from ..errors import ExportError
from .gguf_file import GgufSource
from .hf_folder import HfFolderSource
from .source import WeightSource


def open_source(path: Path) -> WeightSource:
    """Open a .gguf file or a Hugging Face folder; every tensor's presence and shape is checked before this returns."""
    if path.is_dir():
        source: WeightSource = HfFolderSource(path)
    elif path.is_file():
        source = GgufSource(path)
    else:
        raise ExportError(
            f"{path} does not exist; give a .gguf file or a folder with config.json and .safetensors files"
        )
    for name, shape in source.config.tensor_shapes().items():
        found = source.tensor(name)
        if found.shape != shape:
            raise ExportError(
                f"{path.name}: tensor {found.source_name} has shape {list(found.shape)}, expected {list(shape)}"
            )
    return source
