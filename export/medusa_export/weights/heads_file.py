"""Reader of this project's heads: `<name>.safetensors` beside `<name>.json` (heads/FORMAT.md, formats 1 to 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
from .hashing import sha256_of
from .heads_checkpoint import HeadMatrix, HeadsCheckpoint
from .hf_folder import read_json
from .safetensors_file import SafetensorsFile
from .source import Array

# 2: the heads read tokens; 3: int8 rows also in their blocks; 4: the output layers are those of another file
FORMATS = (1, 2, 3, 4)


def read_own_heads(path: Path) -> HeadsCheckpoint:
    """Read and check heads; `path` names either of the two files or their common stem."""
    weights, sidecar = path.with_suffix(".safetensors"), path.with_suffix(".json")
    for file in (weights, sidecar):
        if not file.is_file():
            raise ExportError(f"--heads {path}: {file.name} is missing")
    facts = read_json(sidecar)
    if facts.get("format") not in FORMATS:
        known = ", ".join(map(str, FORMATS))
        raise ExportError(f"{sidecar.name}: format {facts.get('format')} is not supported (supported: {known})")
    reader = _Reader(SafetensorsFile(weights), sidecar.name, facts, output_file(facts, sidecar))
    backbone: dict[str, Any] = facts.get("backbone") or {}
    count = reader.count
    return HeadsCheckpoint(
        name=str(facts.get("name") or path.stem),
        blocks=[reader.blocks(k) for k in range(count)],
        outputs=[reader.output(k) for k in range(count)],
        token_map=reader.optional("token_map"),
        temperatures=reader.per_head("temperatures", 1.0),
        accuracies=reader.per_head("accuracies", []),
        source_sha256=sha256_of(weights),
        backbone_id=backbone.get("id"),
        backbone_sha256=backbone.get("gguf_sha256"),
        static_tree=reader.static_tree(),
        token_weights=reader.token_weights(),
        adapter_sha256=backbone.get("adapter_sha256"),
        lookup=lookup_weights(facts, count, sidecar.name),
        lookup_fit=_facts_of_fit(facts),
    )


def output_file(facts: dict[str, Any], sidecar: Path) -> Path | None:
    """The file whose output layers these heads use, found and checked; None where they have their own."""
    of = facts.get("output_of")
    if of is None:
        return None
    if not isinstance(of, dict) or not isinstance(of.get("file"), str) or not isinstance(of.get("sha256"), str):
        raise ExportError(f"{sidecar.name}: output_of is {of!r}; expected a file and its sha256")
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


def lookup_weights(facts: dict[str, Any], heads: int, sidecar: str) -> list[list[float]] | None:
    """The weights [heads + 1][lengths] of context lookup in a sidecar's facts; None where it has none."""
    lookup = facts.get("lookup")
    if lookup is None:
        return None
    lengths = lookup.get("lengths") if isinstance(lookup, dict) else None
    if type(lengths) is not int or lengths < 1:
        raise ExportError(f"{sidecar}: lookup.lengths is {lengths!r}; expected a whole number >= 1")
    rows = lookup.get("weights")
    if not isinstance(rows, list) or len(rows) != heads + 1:
        found = f"{len(rows)} rows" if isinstance(rows, list) else repr(rows)
        raise ExportError(
            f"{sidecar}: lookup.weights must have {heads + 1} rows, one for each head and one for the levels below"
            f" them, not {found}"
        )
    for level, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != lengths:
            raise ExportError(f"{sidecar}: lookup.weights[{level}] must be a list of {lengths} numbers, not {row!r}")
        for value in row:
            # A NaN fails both comparisons.
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise ExportError(f"{sidecar}: lookup.weights[{level}] holds {value!r}; a weight is from 0 to below 1")
    return [[float(value) for value in row] for row in rows]


def _facts_of_fit(facts: dict[str, Any]) -> dict[str, Any]:
    """What the sidecar says about the fit of the lookup weights; nothing where it says something else."""
    found = (facts.get("lookup") or {}).get("fitted_on")
    return found if isinstance(found, dict) else {}


class _Reader:
    """Looks tensors up, with the file named when one is missing or has another shape."""

    def __init__(self, file: SafetensorsFile, sidecar: str, facts: dict[str, Any], output: Path | None = None) -> None:
        """`output`: the file of the output layers, if it is another one."""
        self._file, self._sidecar, self._facts = file, sidecar, facts
        self._outputs = file if output is None else self._checked_outputs(SafetensorsFile(output))
        self.count = self._whole("heads", 1)
        self._hidden, self._layers = self._whole("hidden_size", 1), self._whole("layers", 0)
        self._draft = self._whole("draft_vocab_size", 1)
        shared = facts.get("output") == "shared"
        self._shared: HeadMatrix | None = self._output("output") if shared else None

    def _whole(self, key: str, least: int) -> int:
        value = self._facts.get(key)
        if not isinstance(value, int) or value < least:
            raise ExportError(f"{self._sidecar}: {key} is {value!r}; expected a whole number >= {least}")
        return value

    def per_head(self, key: str, default: Any) -> list[Any]:
        value = self._facts.get(key)
        if value is None:
            return [default] * self.count
        if not isinstance(value, list) or len(value) != self.count:
            raise ExportError(f"{self._sidecar}: {key} must be a list of {self.count} values, one a head")
        return value

    def static_tree(self) -> list[list[int]]:
        """Paths of ranks, each after its parent, so that any first few of them are a tree; [] when absent."""
        value = self._facts.get("static_tree")
        if value is None:
            return []
        if not isinstance(value, list):
            raise ExportError(f"{self._sidecar}: static_tree must be a list of paths of ranks, not {value!r}")
        known: set[tuple[int, ...]] = {()}
        for path in value:
            if not isinstance(path, list) or not all(type(rank) is int and rank >= 0 for rank in path):
                raise ExportError(f"{self._sidecar}: static_tree holds {path!r}; a path is a list of ranks from 0")
            if not 1 <= len(path) <= self.count:
                raise ExportError(f"{self._sidecar}: static_tree holds {path}; a path is 1 to {self.count} ranks long")
            if tuple(path[:-1]) not in known or tuple(path) in known:
                why = "occurs twice" if tuple(path) in known else f"comes before its parent {path[:-1]}"
                raise ExportError(f"{self._sidecar}: static_tree: {path} {why}")
            known.add(tuple(path))
        return value

    def optional(self, name: str) -> Array | None:
        return self._file.array(name) if name in self._file.entries else None

    def _tensor(self, name: str, shape: tuple[int, ...], file: SafetensorsFile | None = None) -> Array:
        file = file or self._file
        if name not in file.entries:
            raise ExportError(f"{file.path.name}: tensor {name} is missing")
        if file.shape(name) != shape:
            found = list(file.shape(name))
            raise ExportError(f"{file.path.name}: tensor {name} has shape {found}, expected {list(shape)}")
        return file.array(name)

    def blocks(self, k: int) -> list[tuple[Array, Array]]:
        h = self._hidden
        return [
            (
                self._matrix(f"{k}.blocks.{j}", h).float32(),
                self._tensor(f"{k}.blocks.{j}.bias", (h,)).astype(np.float32),
            )
            for j in range(self._layers)
        ]

    def token_weights(self) -> list[Array] | None:
        """U_k of every head, with the scale of the embedding's rows multiplied in; None where no token is read."""
        reads = self._facts.get("tokens", "none")
        if reads == "none":
            return None
        if reads != "root":
            raise ExportError(
                f"{self._sidecar}: heads with tokens {reads!r} can be trained and measured, but not prepared: they"
                " propose for each path of a tree, which no graph here does. Give heads with tokens 'root' or none"
            )
        scale = self._facts.get("token_scale")
        if not isinstance(scale, int | float) or scale <= 0:
            raise ExportError(f"{self._sidecar}: token_scale is {scale!r}; expected a number above 0")
        return [scale * self._matrix(f"{k}.tokens.0", self._hidden).float32() for k in range(self.count)]

    def output(self, k: int) -> HeadMatrix:
        return self._shared or self._output(f"{k}.output")

    def _checked_outputs(self, other: SafetensorsFile) -> SafetensorsFile:
        if not np.array_equal(self._file.array("token_map"), other.array("token_map")):
            raise ExportError(f"{self._sidecar}: {other.path.name} has the output layer of another token_map")
        return other

    def _output(self, stem: str) -> HeadMatrix:
        return self._matrix(stem, self._draft, self._outputs)

    def _matrix(self, stem: str, rows: int, file: SafetensorsFile | None = None) -> HeadMatrix:
        """A matrix [rows, H]: int8 with a scale for each row, or floats."""
        weight = self._tensor(stem + ".weight", (rows, self._hidden), file)
        if weight.dtype != np.int8:
            return HeadMatrix(weight.astype(np.float32), None)
        return HeadMatrix(weight, self._tensor(stem + ".scale", (rows,), file).astype(np.float32))
