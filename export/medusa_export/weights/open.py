"""Chooses the reader for a path and checks that the checkpoint is whole."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import ExportError
from .checked import is_given, read_json, reading, shown
from .gguf_file import GgufSource
from .hf_folder import HfFolderSource
from .hub_cache import name_of
from .source import WeightSource

_OF_LAYER = re.compile(r"(?:blk|model\.layers)\.([0-9]{1,9})\.")
# Old checkpoints keep what follows from the base of the rotary embedding.
_COMPUTED = re.compile(r"\.(?:rotary_emb\.(?:inv_freq|cos_cached|sin_cached)|attn_rot_embd(?:\.weight)?)$")


def open_source(path: Path) -> WeightSource:
    """Open a .gguf file or a Hugging Face folder; every tensor's presence and shape is checked before this returns,
    and that its layers hold no others.

    An ExportError names the file, and the key or tensor that is wrong.
    """
    if not path.is_dir() and not path.is_file():
        what = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise ExportError(f"{path} {what}; give a .gguf file or a folder with config.json and .safetensors files")
    with reading(path):
        _refuse_heads(path)
        source: HfFolderSource | GgufSource = HfFolderSource(path) if path.is_dir() else GgufSource(path)
        by = "config.json" if path.is_dir() else "its metadata"
        read = set()
        for name, shape in source.config.each_tensor():
            try:
                found = source.tensor(name)
            except ExportError as error:
                raise ExportError(f"{error} (by {by} the model has {source.config.layers} layers)") from error
            if found.shape != shape:
                raise ExportError(
                    f"{name_of(path)}: tensor {found.source_name} has shape {list(found.shape)}, expected {list(shape)}"
                    f" by {by}"
                )
            read.add(found.source_name)
        _refuse_others(source, (name for name in source.tensor_names if name not in read))
        return source


def _refuse_others(source: WeightSource, names: Iterable[str]) -> None:
    """Of the tensors that no graph reads, those of layers: without a bias or a norm the model would be another one."""
    others = []
    for name in names:
        layer = _OF_LAYER.match(name)
        if layer and int(layer[1]) < source.config.layers and not _COMPUTED.search(name):
            others.append(name)
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise ExportError(
            f"{name_of(source.path)}: the family {source.config.family} has no such tensor:"
            f" {', '.join(map(shown, others[:3]))}{more}"
        )


def _refuse_heads(path: Path) -> None:
    """Heads are published in folders with a config.json too."""
    config = path / "config.json"
    if not path.is_dir() or not is_given(config):
        return
    facts = read_json(config)
    if facts.get("model_type") == "medusa" or ("medusa_num_heads" in facts and "model_type" not in facts):
        raise ExportError(
            f"{path} holds Medusa heads and no model: give it with --heads, and the base model with --from"
        )
