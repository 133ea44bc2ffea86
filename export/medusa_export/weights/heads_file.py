"""Reader of this project's heads: `<name>.safetensors` beside `<name>.json` (docs/heads-format.md, formats 1 to 4)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
from .checked import check_regular, is_given, read_json, reading, shown
from .fields import Fields, checked_temperatures, is_number
from .hashing import sha256_of
from .heads_checkpoint import HeadMatrix, HeadsCheckpoint
from .safetensors_file import SafetensorsFile
from .source import Array

# 2: the heads read tokens; 3: int8 rows also in their blocks; 4: the output layers are those of another file
FORMATS = (1, 2, 3, 4)
MAX_HEADS = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # it becomes part of file names


def read_own_heads(path: Path) -> HeadsCheckpoint:
    """Read and check heads; `path` names either of the two files or their common stem."""
    weights, sidecar = path.with_suffix(".safetensors"), path.with_suffix(".json")
    for file in (weights, sidecar):
        if not is_given(file):
            raise ExportError(f"--heads {path}: {file.name} is missing")
        check_regular(file)
    with reading(sidecar):
        facts = read_json(sidecar)
        if facts.get("format") not in FORMATS:
            known = ", ".join(map(str, FORMATS))
            found = shown(facts.get("format"))
            raise ExportError(f"{sidecar.name}: format {found} is not supported (supported: {known})")
        outputs = output_file(facts, sidecar)
    with reading(weights):
        return _heads(_Reader(SafetensorsFile(weights), sidecar.name, facts, outputs), weights, path.stem)


def _heads(reader: _Reader, weights: Path, stem: str) -> HeadsCheckpoint:
    fields, sidecar, count = reader.fields, reader.sidecar, reader.count
    name = fields.text("name", stem)
    if not _NAME.fullmatch(name):
        raise ExportError(f"{sidecar}: name is {shown(name)}; expected letters, digits, '.', '_' and '-', at most 64")
    backbone = Fields(f"{sidecar}: backbone", fields.mapping("backbone").get)
    return HeadsCheckpoint(
        name=name,
        blocks=[reader.blocks(k) for k in range(count)],
        outputs=[reader.output(k) for k in range(count)],
        token_map=reader.token_map(),
        temperatures=reader.temperatures(),
        accuracies=reader.accuracies(),
        source_sha256=sha256_of(weights),
        backbone_id=backbone.text("id", None),
        backbone_sha256=backbone.text("gguf_sha256", None),
        static_tree=reader.static_tree(),
        token_weights=reader.token_weights(),
        token_scale=reader.token_scale(),
        adapter_sha256=backbone.text("adapter_sha256", None),
    )


def output_file(facts: dict[str, Any], sidecar: Path) -> Path | None:
    """The file whose output layers these heads use, found and checked; None where they have their own."""
    of = facts.get("output_of")
    if of is None:
        return None
    if not isinstance(of, dict) or not isinstance(of.get("file"), str) or not isinstance(of.get("sha256"), str):
        raise ExportError(f"{sidecar.name}: output_of is {shown(of)}; expected a file and its sha256")
    path = (sidecar.parent / of["file"]).resolve()
    if not path.is_file():
        raise ExportError(f"{sidecar.name}: these heads use the output layer of {path}, which is not there")
    found = sha256_of(path)
    if found != of["sha256"]:
        raise ExportError(
            f"{sidecar.name}: these heads use the output layer of {path} with sha256 {of['sha256'][:12]}...; that file"
            f" now has {found[:12]}..."
        )
    return path


class _Reader:
    """Looks tensors up, with the file named when one is missing or has another shape."""

    def __init__(self, file: SafetensorsFile, sidecar: str, facts: dict[str, Any], output: Path | None = None) -> None:
        """`output`: the file of the output layers, if it is another one."""
        self._file, self.sidecar, self.facts = file, sidecar, facts
        self.fields = Fields(sidecar, facts.get)
        self._outputs = file if output is None else self._checked_outputs(SafetensorsFile(output))
        self.count = self.fields.whole("heads", most=MAX_HEADS)
        self._hidden, self._layers = self.fields.whole("hidden_size"), self.fields.whole("layers", least=0)
        self._draft = self.fields.whole("draft_vocab_size")
        shared = facts.get("output") == "shared"
        self._shared: HeadMatrix | None = self._output("output") if shared else None

    def _per_head(self, key: str) -> list[Any] | None:
        value = self.fields.items(key, None)
        if value is not None and len(value) != self.count:
            raise ExportError(f"{self.sidecar}: {key} must be a list of {self.count} values, one a head")
        return value

    def temperatures(self) -> list[float]:
        return checked_temperatures(self._per_head("temperatures"), self.sidecar) or [1.0] * self.count

    def accuracies(self) -> list[list[float]]:
        value = self._per_head("accuracies") or [[] for _ in range(self.count)]
        for row in value:
            if not isinstance(row, list) or not all(is_number(each) and 0 <= each <= 1 for each in row):
                raise ExportError(f"{self.sidecar}: accuracies holds {shown(row)}; expected shares from 0 to 1")
        return value

    def token_map(self) -> Array | None:
        if "token_map" not in self._file.entries:
            return None
        return token_map_of(self._file.path.name, self._file.array("token_map"))

    def static_tree(self) -> list[list[int]]:
        """Paths of ranks, each after its parent, so that any first few of them are a tree; [] when absent."""
        value = self.facts.get("static_tree")
        if value is None:
            return []
        if not isinstance(value, list):
            raise ExportError(f"{self.sidecar}: static_tree must be a list of paths of ranks, not {shown(value)}")
        known: set[tuple[int, ...]] = {()}
        for path in value:
            if not isinstance(path, list) or not all(type(rank) is int and rank >= 0 for rank in path):
                raise ExportError(f"{self.sidecar}: static_tree holds {shown(path)}; a path is a list of ranks from 0")
            if not 1 <= len(path) <= self.count:
                raise ExportError(
                    f"{self.sidecar}: static_tree holds {shown(path)}; a path is 1 to {self.count} ranks long"
                )
            if tuple(path[:-1]) not in known or tuple(path) in known:
                why = "occurs twice" if tuple(path) in known else f"comes before its parent {path[:-1]}"
                raise ExportError(f"{self.sidecar}: static_tree: {shown(path)} {why}")
            known.add(tuple(path))
        return value

    def _checked(self, name: str, shape: tuple[int, ...], file: SafetensorsFile | None = None) -> SafetensorsFile:
        """The file that holds a tensor of this shape."""
        file = file or self._file
        if name not in file.entries:
            raise ExportError(f"{file.path.name}: tensor {name} is missing")
        if file.shape(name) != shape:
            found = list(file.shape(name))
            raise ExportError(f"{file.path.name}: tensor {name} has shape {found}, expected {list(shape)}")
        return file

    def blocks(self, k: int) -> list[tuple[Array, Array]]:
        h = self._hidden
        return [
            (
                self._matrix(f"{k}.blocks.{j}", h).float32(),
                self._floats(f"{k}.blocks.{j}.bias", (h,)),
            )
            for j in range(self._layers)
        ]

    def token_weights(self) -> list[Array] | None:
        """U_k of every head; None where no token is read."""
        if not self._reads_token():
            return None
        return [self._matrix(f"{k}.tokens.0", self._hidden).float32() for k in range(self.count)]

    def token_scale(self) -> float:
        return self.fields.number("token_scale", above=0) if self._reads_token() else 1.0

    def _reads_token(self) -> bool:
        reads = self.facts.get("tokens", "none")
        if reads not in ("none", "root"):
            raise ExportError(f"{self.sidecar}: tokens {shown(reads)} is not supported (supported: 'none', 'root')")
        return reads == "root"

    def output(self, k: int) -> HeadMatrix:
        return self._shared or self._output(f"{k}.output")

    def _checked_outputs(self, other: SafetensorsFile) -> SafetensorsFile:
        own, theirs = (each.array("token_map") if "token_map" in each.entries else None for each in (self._file, other))
        if (own is None) != (theirs is None) or (own is not None and not np.array_equal(own, theirs)):
            raise ExportError(f"{self.sidecar}: {other.path.name} has the output layer of another token_map")
        return other

    def _output(self, stem: str) -> HeadMatrix:
        return self._matrix(stem, self._draft, self._outputs)

    def _matrix(self, stem: str, rows: int, file: SafetensorsFile | None = None) -> HeadMatrix:
        """A matrix [rows, H]: int8 with a scale for each row, or floats."""
        weight, shape = stem + ".weight", (rows, self._hidden)
        file = self._checked(weight, shape, file)
        if file.dtype(weight) != "I8":
            return HeadMatrix(file.float32(weight), None)
        return HeadMatrix(file.array(weight), self._floats(stem + ".scale", (rows,), file))

    def _floats(self, name: str, shape: tuple[int, ...], file: SafetensorsFile | None = None) -> Array:
        """float32, `shape`."""
        return self._checked(name, shape, file).float32(name)


def token_map_of(label: str, ids: Array) -> Array:
    """A token_map from a file: [V'] whole numbers that an int32 holds."""
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or ids.size == 0:
        raise ExportError(f"{label}: token_map has shape {list(ids.shape)} and type {ids.dtype}; expected a row of ids")
    if int(ids.min()) < 0 or int(ids.max()) >= 2**31:
        raise ExportError(f"{label}: token_map goes from {ids.min()} to {ids.max()}; expected token ids")
    return ids
