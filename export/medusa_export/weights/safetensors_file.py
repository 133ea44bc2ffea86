"""A small reader of .safetensors files: header, checks, and tensors as float32 (bfloat16 without torch).

The file is an 8-byte little-endian header length, a JSON header {name: {dtype, shape, data_offsets}}, then the data.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
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
FLOATS = ("F64", "F32", "F16", "BF16")


class SafetensorsFile:
    """One .safetensors file, mapped into memory; nothing is read before `array` asks for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
            if length + 8 > size:
                raise ExportError(
                    f"{path.name} is truncated or no safetensors file (header of {length} bytes in {size})"
                )
            try:
                header: dict[str, Any] = json.loads(file.read(length))
            except ValueError as error:
                raise ExportError(f"{path.name}: the safetensors header is not JSON: {error}") from error
        self.metadata: dict[str, str] = header.pop("__metadata__", {})
        self.entries = header
        self._start = 8 + length
        for name, entry in header.items():
            self._check(name, entry, size)

    def _check(self, name: str, entry: dict[str, Any], size: int) -> None:
        begin, end = entry["data_offsets"]
        if self._start + end > size:
            raise ExportError(
                f"{self.path.name} is truncated: tensor {name} ends at {self._start + end} of {size} bytes"
            )
        numpy_type = _NUMPY.get(entry["dtype"])
        if numpy_type and end - begin != math.prod(entry["shape"]) * np.dtype(numpy_type).itemsize:
            raise ExportError(
                f"{self.path.name}: tensor {name} holds {end - begin} bytes, not those of {entry['shape']}"
            )

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.entries[name]["shape"])

    def dtype(self, name: str) -> str:
        return str(self.entries[name]["dtype"])

    def array(self, name: str) -> Array:
        """The tensor in its own type; bfloat16 becomes float32."""
        entry = self.entries[name]
        if entry["dtype"] not in _NUMPY:
            raise ExportError(f"{self.path.name}: tensor {name} has type {entry['dtype']}, which is not supported")
        begin, end = entry["data_offsets"]
        numpy_type = np.dtype(_NUMPY[entry["dtype"]])
        raw = np.memmap(self.path, numpy_type, "r", self._start + begin, ((end - begin) // numpy_type.itemsize,))
        values = raw.reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return np.asarray(values)

    def float32(self, name: str) -> Array:
        if self.dtype(name) not in FLOATS:
            raise ExportError(f"{self.path.name}: tensor {name} has type {self.dtype(name)}; expected one of {FLOATS}")
        return self.array(name).astype(np.float32, copy=False)
