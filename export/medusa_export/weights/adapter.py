"""MEDUSA-2's change of the backbone: a low-rank adapter (LoRA, arXiv 2106.09685), and the source that merges it.

Files: `<name>.adapter.safetensors` beside `<name>.adapter.json` (docs/heads-format.md). An adapted matrix W [N, K]
becomes W + (alpha / rank) B A with A [rank, K] and B [N, rank]; norms, embedding and output layer stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import ExportError
from .checked import check_regular, is_given, read_json, reading, shown
from .config import ModelConfig
from .fields import Fields
from .finite import finite
from .hashing import sha256_of
from .safetensors_file import SafetensorsFile
from .source import Array, WeightSource, WeightTensor

TARGETS = ("q", "k", "v", "o", "gate", "up", "down")
SUFFIX = ".adapter.safetensors"


@dataclass(frozen=True)
class Adapter:
    """The factors of every adapted matrix, by the matrix's own name (layers.0.q.weight)."""

    path: Path
    name: str
    rank: int
    alpha: float
    factors: dict[str, tuple[Array, Array]]  # (A [rank, K], B [N, rank]) float32
    base_id: str
    base_sha256: str  # of the .gguf file, or of the HF folder (hashing.py)
    sha256: str  # of the adapter's own file

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def delta(self, name: str) -> Array | None:
        """What is added to a matrix, float32 [N, K]; None where it is not adapted."""
        if name not in self.factors:
            return None
        a, b = self.factors[name]
        with np.errstate(over="ignore", invalid="ignore"):  # `AdaptedSource` refuses what overflows
            return np.asarray(np.float32(self.scale) * (b @ a), np.float32)

    def check_fits(self, config: ModelConfig, base_name: str, base_sha256: str) -> None:
        """Refuse a backbone of other sizes (both shapes named), then other weights (both hashes named)."""
        shapes = config.tensor_shapes()
        for name, (a, b) in self.factors.items():
            if name not in shapes:
                raise ExportError(
                    f"--adapter {self.path.name} adapts {name}, which {base_name} does not have"
                    f" (it has {config.layers} layers)"
                )
            changed = (b.shape[0], a.shape[1])
            if changed != shapes[name]:
                raise ExportError(
                    f"--adapter {self.path.name} adapts {name} of shape {list(changed)},"
                    f" but that of {base_name} has shape {list(shapes[name])}"
                )
        self.check_base(base_name, base_sha256)

    def check_base(self, base_name: str, base_sha256: str) -> None:
        """Refuse weights that the adapter was not trained on, both hashes named."""
        if self.base_sha256 != base_sha256:
            raise ExportError(
                f"--adapter {self.path.name} was trained on {self.base_id} (sha256 {self.base_sha256[:12]}...),"
                f" not on {base_name} (sha256 {base_sha256[:12]}...)"
            )


def read_adapter(path: Path) -> Adapter:
    """Read and check an adapter; `path` names the safetensors file, its sidecar lies beside it."""
    sidecar = path.with_suffix(".json")
    if not path.name.endswith(SUFFIX):
        raise ExportError(f"--adapter {path}: expected a file named *{SUFFIX} with its .adapter.json beside it")
    for file in (path, sidecar):
        if not is_given(file):
            raise ExportError(f"--adapter {path}: {file.name} is missing")
        check_regular(file)
    facts = read_json(sidecar)
    if facts.get("format") != 1 or facts.get("kind") != "medusa-2-adapter":
        found = f"format {shown(facts.get('format'))}, kind {shown(facts.get('kind'))}"
        raise ExportError(f"{sidecar.name}: {found}; expected format 1, kind 'medusa-2-adapter'")
    fields = Fields(sidecar.name, facts.get)
    base = Fields(f"{sidecar.name}: base", fields.mapping("base").get)
    base_sha256 = base.text("sha256", "")
    if not base_sha256:
        raise ExportError(f"{sidecar.name}: base.sha256 is missing, so the weights it belongs to are unknown")
    rank, alpha = fields.whole("rank"), fields.number("alpha")
    name = fields.text("name", path.name.removesuffix(SUFFIX))
    with reading(path):
        factors = _factors(SafetensorsFile(path), rank)
        return Adapter(path, name, rank, alpha, factors, base.text("id", "unknown"), base_sha256, sha256_of(path))


def read_adapter_of(path: str, backbone: str) -> Adapter:
    """The adapter that an --adapter argument names; refused if it was trained on other weights than --backbone's."""
    adapter = read_adapter(Path(path))
    adapter.check_base(backbone, sha256_of(Path(backbone)))
    return adapter


def _factors(file: SafetensorsFile, rank: int) -> dict[str, tuple[Array, Array]]:
    stems = {name.rsplit(".", 1)[0] for name in file.entries}
    if not stems:
        raise ExportError(f"{file.path.name} holds no tensors")
    factors = {}
    for stem in sorted(stems):
        if stem.split(".")[-1] not in TARGETS or any(f"{stem}.{part}" not in file.entries for part in "ab"):
            raise ExportError(f"{file.path.name}: expected {stem}.a and {stem}.b for one of {', '.join(TARGETS)}")
        a, b = file.float32(stem + ".a"), file.float32(stem + ".b")
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != rank or b.shape[1] != rank:
            raise ExportError(
                f"{file.path.name}: {stem}.a has shape {list(a.shape)} and {stem}.b {list(b.shape)};"
                f" expected [{rank}, in] and [out, {rank}]"
            )
        factors[stem + ".weight"] = (a, b)
    return factors


class AdaptedSource:
    """A `WeightSource` with an adapter merged in; its adapted matrices have no block codes any more."""

    def __init__(self, source: WeightSource, adapter: Adapter) -> None:
        self._source, self._adapter = source, adapter
        self.config, self.path = source.config, source.path
        self.kind, self.quantization = source.kind, source.quantization

    def tensor(self, name: str) -> WeightTensor:
        found = self._source.tensor(name)
        delta = self._adapter.delta(name)
        if delta is None:
            return found
        label = f"{self._adapter.path.name}: with it, tensor {found.source_name}"
        return replace(found, type_name="F32", read=lambda: finite(found.float32() + delta, label), read_blocks=None)
