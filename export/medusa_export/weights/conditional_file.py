"""The conditional joint beside a heads file: `<name>.conditional.safetensors` and `.json` (docs/heads-format.md).

The file keeps projections; `read_conditional` multiplies them out into the final tables:

    A_d [V, r] = E P_d^T (+ bias, in A_1)      E [V, H]: the backbone's embeddings
    B [V', r]  = O Q^T                         O [V', H]: the backbone's output rows of the draft tokens
    z_k [r]    = Z_k h + b_k                   left to the heads graph
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
from .checked import check_regular, is_given, read_json, reading, shown
from .fields import Fields, checked_temperatures
from .hashing import sha256_of
from .safetensors_file import SafetensorsFile
from .source import Array, WeightSource

ACTIVATIONS = ("none", "silu")


@dataclass(frozen=True)
class ConditionalTables:
    """What decoding looks up; V vocabulary, V' draft vocabulary, r rank, D distances, K heads, H hidden size."""

    token_map: Array  # [V'] int32, ascending
    a: Array  # [D, V, r] float32
    b: Array  # [V', r] float32
    activation: str
    context_weight: Array | None  # [K, r, H] float32
    context_bias: Array | None  # [K, r] float32
    level_bias: Array | None = None  # [K, r] float32
    level_gain: Array | None = None  # [K, r] float32, with level_bias
    source_sha256: str = ""  # of the .conditional.safetensors
    temperatures: list[float] | None = None  # [K], of the marginals it was trained on

    @property
    def rank(self) -> int:
        return int(self.b.shape[1])

    def context(self, hidden: Array) -> Array | None:
        """Z of every head: hidden [N, H] -> float32 [N, K, r]; None without context."""
        if self.context_weight is None or self.context_bias is None:
            return None
        k, r, h = self.context_weight.shape
        flat = hidden.astype(np.float32) @ self.context_weight.reshape(k * r, h).T
        return flat.reshape(-1, k, r) + self.context_bias

    def facts(self) -> dict[str, Any]:
        """The sizes as the manifest names them."""
        return {
            "rank": self.rank,
            "distances": len(self.a),
            "activation": self.activation,
            "context": self.context_weight is not None,
            **({} if self.level_gain is None else {"levels": len(self.level_gain)}),
            "vocab_size": int(self.a.shape[1]),
            "draft_vocab_size": len(self.b),
            "source_sha256": self.source_sha256,
        }

    def write(self, path: Path) -> None:
        """token_map int32 [V'], A float32 [D][V][r], B float32 [V'][r], with levels their biases and gains float32
        [K][r] each: little-endian, nothing else.
        """
        levels = () if self.level_bias is None else (self.level_bias, self.level_gain)
        with path.open("wb") as file:
            file.write(np.ascontiguousarray(self.token_map, "<i4").tobytes())
            for table in (*self.a, self.b, *levels):
                file.write(np.ascontiguousarray(table, "<f4").tobytes())


def conditional_beside(heads: Path) -> Path | None:
    """The conditional file of a heads file `<name>.safetensors` (or its .json, or its stem), where there is one."""
    path = heads.with_name(f"{heads.with_suffix('').name}.conditional.safetensors")
    return path if is_given(path) else None


def read_conditional(
    path: Path, source: WeightSource, heads_name: str, heads_sha256: str, heads: int, token_map: Array | None
) -> ConditionalTables:
    """Read, check against the heads and the backbone, and multiply out.

    `heads` is K; `token_map` [V'] is the heads', None where their draft vocabulary is the backbone's.
    """
    facts_path = path.with_suffix(".json")
    if not is_given(facts_path):
        raise ExportError(f"{path}: {facts_path.name} is missing beside it")
    check_regular(facts_path)
    facts = read_json(facts_path)
    if facts.get("format") not in (1, 2):
        raise ExportError(f"{facts_path.name}: format {shown(facts.get('format'))} is not supported (supported: 1, 2)")
    config = source.config
    draft = token_map if token_map is not None else np.arange(config.vocab_size, dtype=np.int32)
    # Sizes first: they say more than two hashes.
    _same(path, facts, "heads", heads, f"heads '{heads_name}' are")
    _same(path, facts, "draft_vocab_size", len(draft), f"heads '{heads_name}' have")
    _same(path, facts, "vocab_size", config.vocab_size, f"{source.path.name} has")
    _same(path, facts, "hidden_size", config.hidden_size, f"{source.path.name} has")
    if facts.get("heads_sha256") != heads_sha256:
        raise ExportError(
            f"{path.name} was trained for heads with sha256 {str(facts.get('heads_sha256'))[:12]}..., but heads"
            f" '{heads_name}' have {heads_sha256[:12]}...; train it again (docs/training.md) or remove it"
        )
    if facts.get("activation") not in ACTIVATIONS:
        raise ExportError(f"{facts_path.name}: activation {shown(facts.get('activation'))} (known: {ACTIVATIONS})")
    with reading(path):
        return _Reader(SafetensorsFile(path), facts_path.name, facts).tables(source, draft)


def _same(path: Path, facts: dict[str, Any], key: str, expected: int, whose: str) -> None:
    if facts.get(key) != expected:
        raise ExportError(f"{path.name} is for {key} {shown(facts.get(key))}, but {whose} {expected}")


def embedding_rows(source: WeightSource) -> Array:
    """E [V, H] float32."""
    return source.tensor("embed.weight").float32()


def output_rows(source: WeightSource, token_map: Array) -> Array:
    """O [V', H] float32: the backbone's output layer, the embeddings where it is tied."""
    name = "embed.weight" if source.config.tied_embeddings else "lm_head.weight"
    return source.tensor(name).float32()[token_map]


class _Reader:
    """Looks tensors up; a missing or misshapen one is refused with file, name and shapes."""

    def __init__(self, file: SafetensorsFile, sidecar: str, facts: dict[str, Any]) -> None:
        self._file, self._facts = file, facts
        fields = Fields(sidecar, facts.get)
        # The tables have rank values for each token, however small the file.
        self._rank = fields.whole("rank", most=facts["hidden_size"])
        self._distances = fields.whole("distances")
        self._context, self._levels = fields.flag("context", False), fields.flag("levels", False)
        self._temperatures = checked_temperatures(fields.items("temperatures", None), sidecar)

    def tables(self, source: WeightSource, token_map: Array) -> ConditionalTables:
        f, r = self._facts, self._rank
        h, k = f["hidden_size"], f["heads"]
        embeddings = embedding_rows(source)
        projections = [self._tensor(f"a.{d}.projection", (r, h)) for d in range(1, self._distances + 1)]
        a = np.stack([embeddings @ projection.T for projection in projections])
        a[0] += self._tensor("a.bias", (r,))
        b = output_rows(source, token_map) @ self._tensor("b.projection", (r, h)).T
        context, levels = self._context, self._levels
        return ConditionalTables(
            np.asarray(token_map, np.int32),
            a,
            b,
            f["activation"],
            self._tensor("context.weight", (k, r, h)) if context else None,
            self._tensor("context.bias", (k, r)) if context else None,
            self._tensor("level.bias", (k, r)) if levels else None,
            self._tensor("level.gain", (k, r)) if levels else None,
            sha256_of(self._file.path),
            self._temperatures,
        )

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Array:
        if name not in self._file.entries:
            raise ExportError(f"{self._file.path.name}: tensor {name} is missing")
        if self._file.shape(name) != shape:
            found = list(self._file.shape(name))
            raise ExportError(f"{self._file.path.name}: tensor {name} has shape {found}, expected {list(shape)}")
        return self._file.array(name).astype(np.float32, copy=False)
