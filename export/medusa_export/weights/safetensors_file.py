"""A small reader of .safetensors files: header, checks, and tensors (bfloat16 without torch).

The file is an 8-byte little-endian header length, a JSON header {name: {dtype, shape, data_offsets}}, then the data.
The safetensors library's numpy reader knows no bfloat16 and copies every tensor once more; what it refuses is refused
here too (tests/test_broken_files.py).
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
from .checked import check_regular, reading, shown
from .finite import finite
from .source import Array

_NUMPY = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I8": "<i1",
    "U8": "<u1",
}
# Types that are not read; tensors of them may lie in the file.
_OTHER_BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "I16": 16, "U16": 16, "U32": 32, "C64": 64, "U64": 64}
_OTHER_BITS |= dict.fromkeys(("F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8)
_BITS = {name: 8 * np.dtype(kind).itemsize for name, kind in _NUMPY.items()} | _OTHER_BITS
FLOATS = ("F64", "F32", "F16", "BF16")
_MAX_HEADER = 100_000_000  # bytes, as in the safetensors library
_MAX_DIMENSIONS = 8


class SafetensorsFile:
    """One .safetensors file, mapped into memory; nothing is read before `array` asks for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path):
            check_regular(path)
            size = path.stat().st_size
            header, self._start = self._header(size)
            metadata = header.pop("__metadata__", None) or {}
            if not isinstance(metadata, dict) or not all(isinstance(each, str) for each in metadata.values()):
                raise ExportError(f"{path.name}: __metadata__ is {shown(metadata)}; expected texts by name")
            self.entries = header
            self._check_ranges(size - self._start)

    def _header(self, size: int) -> tuple[dict[str, Any], int]:
        """The parsed header, and where the data begin."""
        with self.path.open("rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
            if length + 8 > size:
                raise ExportError(
                    f"{self.path.name} is truncated or no safetensors file (header of {length} bytes in {size})"
                )
            if length > _MAX_HEADER:
                raise ExportError(f"{self.path.name}: a header of {length} bytes; at most {_MAX_HEADER} are read")
            try:
                header = json.loads(file.read(length).decode("utf-8"))
            except (ValueError, RecursionError) as error:
                raise ExportError(f"{self.path.name}: the safetensors header is not JSON: {error}") from error
        if not isinstance(header, dict):
            raise ExportError(f"{self.path.name}: the safetensors header is {shown(header)}; expected an object")
        return header, 8 + length

    def _check_ranges(self, size: int) -> None:
        """The tensors follow each other without gap or overlap and fill the data, so none is larger than the file."""
        at = 0
        for begin, end, name in sorted(self._range(name, entry) for name, entry in self.entries.items()):
            if begin != at:
                raise ExportError(
                    f"{self.path.name}: tensor {name} begins at byte {begin} of the data, but the one before it ends"
                    f" at {at}"
                )
            if end > size:
                raise ExportError(f"{self.path.name} is truncated: tensor {name} ends at {end} of {size} bytes")
            at = end
        if at != size:
            raise ExportError(f"{self.path.name}: its tensors hold {at} bytes, the file holds {size} of data")

    def _range(self, name: str, entry: Any) -> tuple[int, int, str]:
        """The first byte of a tensor's data and the one after the last, checked by themselves."""
        label = f"{self.path.name}: tensor {name}"
        shape, offsets = (entry.get("shape"), entry.get("data_offsets")) if isinstance(entry, dict) else (None, None)
        if not _are_sizes(shape) or len(shape) > _MAX_DIMENSIONS:
            raise ExportError(f"{label} has shape {shown(shape)}; expected at most {_MAX_DIMENSIONS} whole numbers")
        if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
            raise ExportError(f"{label} has data_offsets {shown(offsets)}; expected two ascending whole numbers")
        dtype, held = entry.get("dtype"), offsets[1] - offsets[0]
        if not isinstance(dtype, str) or dtype not in _BITS:
            raise ExportError(f"{label} has type {shown(dtype)}, which is not known")
        if held * 8 != math.prod(shape) * _BITS[dtype]:
            raise ExportError(f"{label} holds {held} bytes, not those of {shown(shape)}")
        return offsets[0], offsets[1], name

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.entries[name]["shape"])

    def dtype(self, name: str) -> str:
        return str(self.entries[name]["dtype"])

    def array(self, name: str) -> Array:
        """A tensor: whole numbers in their own type, floating ones as finite float32."""
        label, entry = f"{self.path.name}: tensor {name}", self.entries[name]
        if entry["dtype"] not in _NUMPY:
            raise ExportError(f"{label} has type {entry['dtype']}, which is not supported")
        begin, end = entry["data_offsets"]
        numpy_type = np.dtype(_NUMPY[entry["dtype"]])
        if begin == end:
            raise ExportError(f"{label} is empty")
        raw = np.memmap(self.path, numpy_type, "r", self._start + begin, ((end - begin) // numpy_type.itemsize,))
        values = raw.reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            return finite((values.astype(np.uint32) << 16).view(np.float32), label)
        if entry["dtype"] not in FLOATS:
            return np.asarray(values)
        with np.errstate(over="ignore"):  # what overflows is infinite
            return finite(np.asarray(values).astype(np.float32, copy=False), label)

    def float32(self, name: str) -> Array:
        if self.dtype(name) not in FLOATS:
            raise ExportError(f"{self.path.name}: tensor {name} has type {self.dtype(name)}; expected one of {FLOATS}")
        return self.array(name)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and each >= 0 for each in value)
