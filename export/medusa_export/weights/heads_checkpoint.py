"""Medusa heads in memory, whatever file they came from.

Head k of K: x0 = hidden [H]; x_{j+1} = x_j + SiLU(W_kj x_j + b_kj) for its blocks; logits = O_k x [V'];
probabilities = softmax(logits / temperature_k) over the draft vocabulary; its token i is token_map[i] of the backbone.

Heads that read the token the backbone has just chosen, x(t+1), add U_k e to the product of their first block, where e
is the token's row of the backbone's input embedding, times token_scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import ExportError
from .conditional_file import ConditionalTables
from .config import ModelConfig
from .source import Array, WeightTensor


@dataclass(frozen=True)
class HeadMatrix:
    """A matrix [N, H] of a head: float, or int8 codes with one scale a row."""

    codes: Array  # [N, H] float32 or int8
    scale: Array | None  # [N] float32 for int8 codes

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    def float32(self) -> Array:
        values = self.codes.astype(np.float32)
        return values if self.scale is None else values * self.scale[:, None]


@dataclass(frozen=True)
class LazyMatrix:
    """A float matrix [N, H] of a head that is read whenever it is asked for, and not kept."""

    shape: tuple[int, ...]
    read: Callable[[], Array]
    scale: None = None

    @property
    def codes(self) -> Array:
        return self.read()

    def float32(self) -> Array:
        return self.read()


@dataclass(frozen=True)
class HeadsCheckpoint:
    """K heads of equal shape."""

    name: str
    blocks: list[list[tuple[Array, Array]]]  # [K][blocks](weight [H, H], bias [H]) float32
    outputs: Sequence[HeadMatrix | LazyMatrix]  # [K], O_k [V', H]
    token_map: Array | None  # [V'] int32; None: the draft vocabulary is the backbone's
    temperatures: list[float]  # [K]
    accuracies: list[list[float]]  # [K][ranks] calibrated accuracy of head k at each rank
    source_sha256: str
    backbone_id: str | None = None
    backbone_sha256: str | None = None
    # Static trees of every size: the first n - 1 paths of ranks are the tree of n nodes; none: searched when needed.
    static_tree: list[list[int]] = field(default_factory=list)
    conditional: ConditionalTables | None = None
    token_weights: list[Array] | None = None  # [K] U_k [H, H] float32
    token_scale: float = 1.0  # of the rows of the embedding that U_k reads
    embedding: WeightTensor | None = None  # [V, H], the backbone's: needed with token_weights
    adapter_sha256: str | None = None  # MEDUSA-2: of the adapter that the backbone was trained with

    @property
    def count(self) -> int:
        return len(self.outputs)

    @property
    def hidden_size(self) -> int:
        return int(self.outputs[0].shape[1])

    @property
    def draft_vocab_size(self) -> int:
        return int(self.outputs[0].shape[0])

    def same_tensors(self, other: HeadsCheckpoint) -> bool:
        """Whether both have the same numbers, whatever their files' formats are."""
        mine = [array for head in self.blocks for block in head for array in block]
        theirs = [array for head in other.blocks for block in head for array in block]
        if len(mine) != len(theirs) or self.count != other.count:
            return False
        maps = [(np.array(self.token_map), np.array(other.token_map))]  # None equals None alone
        outputs = ((a.float32(), b.float32()) for a, b in zip(self.outputs, other.outputs, strict=True))
        return all(np.array_equal(a, b) for a, b in itertools.chain(zip(mine, theirs, strict=True), maps, outputs))

    def check_fits(
        self, config: ModelConfig, model_id: str, model_sha256: str, adapter_sha256: str | None = None
    ) -> None:
        """Refuse heads that belong to another backbone: by size, by id unless the weights' hash agrees, and by the
        adapter that is merged in (`adapter_sha256`; None: none is).
        """
        if self.hidden_size != config.hidden_size:
            raise ExportError(
                f"heads '{self.name}' have hidden size {self.hidden_size}, but {model_id} has {config.hidden_size}"
            )
        if self.backbone_id not in (None, model_id) and self.backbone_sha256 != model_sha256:
            raise ExportError(f"heads '{self.name}' belong to {self.backbone_id}, not to {model_id}")
        if self.backbone_id is not None and self.adapter_sha256 != adapter_sha256:
            raise ExportError(
                f"heads '{self.name}' were trained with {_adapter_label(self.adapter_sha256)},"
                f" but {model_id} is made with {_adapter_label(adapter_sha256)}; give the adapter and the heads of one"
                " training (--adapter, --heads)"
            )
        if self.token_map is None and self.draft_vocab_size != config.vocab_size:
            raise ExportError(
                f"heads '{self.name}' have a vocabulary of {self.draft_vocab_size} and no token_map,"
                f" but {model_id} has {config.vocab_size} tokens"
            )
        if self.token_map is not None:
            if self.token_map.shape != (self.draft_vocab_size,):
                raise ExportError(
                    f"heads '{self.name}': token_map holds {list(self.token_map.shape)} ids"
                    f" for {self.draft_vocab_size} outputs"
                )
            low, high = int(self.token_map.min()), int(self.token_map.max())
            if low < 0 or high >= config.vocab_size:
                raise ExportError(
                    f"heads '{self.name}': token_map goes from {low} to {high}, outside the {config.vocab_size}"
                    f" tokens of {model_id}"
                )


def _adapter_label(sha256: str | None) -> str:
    return "no adapter" if sha256 is None else f"the adapter of sha256 {sha256[:12]}..."
