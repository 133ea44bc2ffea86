"""Chooses the reader for a path and checks that the checkpoint is whole."""

from __future__ import annotations

from pathlib import Path

from ..errors import ExportError
from .checked import reading
from .gguf_file import GgufSource
from .hf_folder import HfFolderSource
from .source import WeightSource


def open_source(path: Path) -> WeightSource:
    """Open a .gguf file or a Hugging Face folder; every tensor's presence and shape is checked before this returns.

    An ExportError names the file, and the key or tensor that is wrong.
    """
    if not path.is_dir() and not path.is_file():
        what = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise ExportError(f"{path} {what}; give a .gguf file or a folder with config.json and .safetensors files")
    with reading(path):
        source: WeightSource = HfFolderSource(path) if path.is_dir() else GgufSource(path)
        by = "config.json" if path.is_dir() else "its metadata"
        for name, shape in source.config.each_tensor():
            try:
                found = source.tensor(name)
            except ExportError as error:
                raise ExportError(f"{error} (by {by} the model has {source.config.layers} layers)") from error
            if found.shape != shape:
                raise ExportError(
                    f"{path.name}: tensor {found.source_name} has shape {list(found.shape)}, expected {list(shape)}"
                    f" by {by}"
                )
        return source
