"""Reads tensors from a PyTorch .pt file without PyTorch and without running code from it.

A .pt file is a zip with a pickle (`*/data.pkl`) and one raw file for each storage (`*/data/<key>`). The unpickler here
knows the few names that plain tensors need, and refuses all others. Nothing it makes is larger than the file: PyTorch
packs nothing, so packed members are refused; storages are read once; tensors are views of them.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
from .checked import check_regular, reading
from .source import Array

_STORAGES = {
    "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "bf16", "DoubleStorage": "<f8",
    "IntStorage": "<i4", "LongStorage": "<i8", "CharStorage": "<i1", "ByteStorage": "<u1",
}  # fmt: skip


@dataclass(frozen=True)
class _StorageType:
    """Stands for torch.FloatStorage and its like."""

    numpy_type: str


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, load: Callable[[str, str], Array]) -> None:
        super().__init__(file)
        self._load = load

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _StorageType(_STORAGES[name])
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, requires_grad, hooks: tensor
        raise ExportError(f"refusing to load {module}.{name}: only plain tensors are read")

    def persistent_load(self, pid: Any) -> Array:
        kind, storage, key, *_ = pid
        if kind != "storage" or not isinstance(storage, _StorageType):
            raise ExportError(f"unknown object {kind!r} in the file")
        return self._load(str(key), storage.numpy_type)


def _rebuild(storage: Array, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Array:
    """A view of `storage` (1-D) with torch's element strides."""
    end = offset + 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if all(size) else offset
    if offset < 0 or any(n < 0 for n in size) or any(s < 0 for s in stride) or end > len(storage):
        raise ExportError(f"a tensor of shape {list(size)} reaches beyond its storage")
    if math.prod(size) > len(storage):
        raise ExportError(f"a tensor of shape {list(size)} repeats its storage of {len(storage)} values")
    strides = [s * storage.itemsize for s in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False)


def read_torch_zip(path: Path) -> dict[str, Array]:
    """Name -> tensor (bfloat16 as float32) of a .pt file that holds a state dict."""
    with reading(path):
        check_regular(path)
        try:
            with zipfile.ZipFile(path) as archive:
                state = _state(archive, path)
        except zipfile.BadZipFile as error:
            raise ExportError(
                f"{path.name} is truncated or in PyTorch's old format; convert it to safetensors"
            ) from error
        if not isinstance(state, dict):
            raise ExportError(f"{path.name} does not hold a state dict")
        return {str(k): v for k, v in state.items() if isinstance(v, np.ndarray)}


def _state(archive: zipfile.ZipFile, path: Path) -> Any:
    members = {each.filename: each for each in archive.infolist()}
    pickled = next((name for name in members if name.endswith("/data.pkl")), None)
    if pickled is None:
        raise ExportError(f"{path.name} holds no data.pkl: no PyTorch file")
    prefix = pickled.removesuffix("data.pkl")
    left = path.stat().st_size

    def read(name: str) -> bytes:
        nonlocal left
        if name not in members:
            raise ExportError(f"{path.name}: {name} is missing")
        member = members[name]
        if member.compress_type != zipfile.ZIP_STORED:
            raise ExportError(f"{path.name}: {name} is packed, which PyTorch never does; save it with torch.save")
        left -= member.file_size
        if left < 0:
            raise ExportError(f"{path.name}: its storages hold more bytes than the file")
        return archive.read(member)

    @cache
    def load(key: str, numpy_type: str) -> Array:
        raw = read(f"{prefix}data/{key}")
        if numpy_type == "bf16":
            return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        return np.frombuffer(raw, numpy_type)

    code = read(pickled)
    # The unpickler's memo is as long as the largest index in it.
    if any(type(index) is int and index > len(code) for op, index, _ in pickletools.genops(code) if "PUT" in op.name):
        raise ExportError(f"{path.name}: its pickle has a memo larger than itself")
    return _Unpickler(io.BytesIO(code), load).load()
