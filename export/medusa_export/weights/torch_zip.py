"""A reader of PyTorch's .pt and .bin files without PyTorch and without running code from them.

Such a file is a zip with a pickle (`*/data.pkl`) and one raw file for each storage (`*/data/<key>`). The unpickler here
knows the few names that plain tensors need, and refuses all others. PyTorch packs nothing, so storages are mapped into
memory where they lie in the file, and read when a tensor of theirs is asked for: a shard of ten gigabytes costs no more
memory than its largest tensor. Nothing that is made is larger than the file: packed members are refused, and tensors
are views of storages.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
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
from .finite import finite
from .source import Array

# Type of a storage -> its name in safetensors files, and how numpy reads it.
_STORAGES = {
    "FloatStorage": ("F32", "<f4"), "HalfStorage": ("F16", "<f2"), "BFloat16Storage": ("BF16", "<u2"),
    "DoubleStorage": ("F64", "<f8"), "IntStorage": ("I32", "<i4"), "LongStorage": ("I64", "<i8"),
    "CharStorage": ("I8", "<i1"), "ByteStorage": ("U8", "<u1"),
}  # fmt: skip
_FLOATS = ("F64", "F32", "F16", "BF16")
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member: ends in the lengths of its name and of what follows that


@dataclass(frozen=True)
class _StorageType:
    """Stands for torch.FloatStorage and its like."""

    name: str
    numpy_type: str


@dataclass(frozen=True)
class _Tensor:
    """Values as they lie in the file."""

    type_name: str
    values: Array


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, load: Callable[[str, _StorageType], _Tensor]) -> None:
        super().__init__(file)
        self._load = load

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _StorageType(*_STORAGES[name])
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, requires_grad, hooks: tensor
        raise ExportError(f"refusing to load {module}.{name}: only plain tensors are read")

    def persistent_load(self, pid: Any) -> _Tensor:
        kind, storage, key, *_ = pid
        if kind != "storage" or not isinstance(storage, _StorageType):
            raise ExportError(f"unknown object {kind!r} in the file")
        return self._load(str(key), storage)


def _rebuild(storage: _Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> _Tensor:
    """A view of `storage` (1-D) with torch's element strides."""
    values = storage.values
    end = offset + 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if all(size) else offset
    if offset < 0 or any(n < 0 for n in size) or any(s < 0 for s in stride) or end > len(values):
        raise ExportError(f"a tensor of shape {list(size)} reaches beyond its storage")
    if math.prod(size) > len(values):
        raise ExportError(f"a tensor of shape {list(size)} repeats its storage of {len(values)} values")
    strides = [s * values.itemsize for s in stride]
    view = np.lib.stride_tricks.as_strided(values[offset:], size, strides, writeable=False)
    return _Tensor(storage.type_name, view)


class TorchFile:
    """One .pt or .bin file that holds a state dict; no tensor is read before `array` asks for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
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
            self.entries = {str(name): each for name, each in state.items() if isinstance(each, _Tensor)}

    def shape(self, name: str) -> tuple[int, ...]:
        return self.entries[name].values.shape

    def dtype(self, name: str) -> str:
        """As safetensors files call it."""
        return self.entries[name].type_name

    def array(self, name: str) -> Array:
        """A tensor: whole numbers in their own type, floating ones as finite float32."""
        label, tensor = f"{self.path.name}: tensor {name}", self.entries[name]
        if tensor.type_name not in _FLOATS:
            return np.array(tensor.values)
        if tensor.type_name == "BF16":
            return finite((tensor.values.astype(np.uint32) << 16).view(np.float32), label)
        with np.errstate(over="ignore"):  # what overflows is infinite
            return finite(tensor.values.astype(np.float32), label)

    def float32(self, name: str) -> Array:
        if self.dtype(name) not in _FLOATS:
            raise ExportError(f"{self.path.name}: tensor {name} has type {self.dtype(name)}; expected one of {_FLOATS}")
        return self.array(name)


def _state(archive: zipfile.ZipFile, path: Path) -> Any:
    members = {each.filename: each for each in archive.infolist()}
    pickled = next((name for name in members if name.endswith("/data.pkl")), None)
    if pickled is None:
        raise ExportError(f"{path.name} holds no data.pkl: no PyTorch file")
    prefix = pickled.removesuffix("data.pkl")
    left = path.stat().st_size

    def member_of(name: str) -> zipfile.ZipInfo:
        nonlocal left
        if name not in members:
            raise ExportError(f"{path.name}: {name} is missing")
        member = members[name]
        if member.compress_type != zipfile.ZIP_STORED:
            raise ExportError(f"{path.name}: {name} is packed, which PyTorch never does; save it with torch.save")
        left -= member.file_size
        if left < 0:
            raise ExportError(f"{path.name}: its storages hold more bytes than the file")
        return member

    @cache
    def load(key: str, kind: _StorageType) -> _Tensor:
        member = member_of(f"{prefix}data/{key}")
        count, rest = divmod(member.file_size, np.dtype(kind.numpy_type).itemsize)
        if rest:
            raise ExportError(
                f"{path.name}: {member.filename} holds {member.file_size} bytes, no whole number of values"
            )
        if count == 0:
            return _Tensor(kind.name, np.zeros(0, kind.numpy_type))
        return _Tensor(kind.name, np.memmap(path, kind.numpy_type, "r", _start_of(path, member), (count,)))

    code = archive.read(member_of(pickled))
    # The unpickler's memo is as long as the largest index in it.
    if any(type(index) is int and index > len(code) for op, index, _ in pickletools.genops(code) if "PUT" in op.name):
        raise ExportError(f"{path.name}: its pickle has a memo larger than itself")
    return _Unpickler(io.BytesIO(code), load).load()


def _start_of(path: Path, member: zipfile.ZipInfo) -> int:
    """Where the bytes of an unpacked member begin."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
        raise ExportError(f"{path.name}: {member.filename} is not where the file says")
    start = member.header_offset + _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack(header))
    if start + member.file_size > path.stat().st_size:
        raise ExportError(f"{path.name} is truncated: {member.filename} ends beyond it")
    return start
