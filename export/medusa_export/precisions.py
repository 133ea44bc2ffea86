"""The named precisions: which weights, products, embedding table and sums; in which layouts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .errors import ExportError
from .graph.linear import FloatLinear, Int8RowLinear, Linear, TurnedInt8Linear
from .graph.linear_nbits import ExactQ4Linear, NBitsLinear
from .weights import ModelConfig, WeightSource
from .weights.rotation import RotatedSource


@dataclass(frozen=True)
class Precision:
    """A precision of the backbone. What each costs and keeps is measured in results/*-cpu-precision."""

    name: str
    linear: Callable[[], Linear]
    layouts: tuple[str, ...]
    sums: str = "float"  # of attention over tokens, see attention_split.py
    keep_embedding_codes: bool = False
    rotate: bool = False  # the residual stream, see rotation.py
    unsigned_linear: Callable[[], Linear] | None = None  # the same products with int8 weights kept as uint8

    def check_fits(self, config: ModelConfig) -> None:
        """Refuses a model that cannot be had in this precision."""
        if self.rotate and config.post_norms:
            raise ExportError(
                f"precision {self.name} rotates the residual stream, which the norms after each part of a layer of"
                f" {config.family} do not allow; use int8-block"
            )

    def prepared(self, source: WeightSource) -> WeightSource:
        self.check_fits(source.config)
        return RotatedSource(source) if self.rotate else source


PRECISIONS = {
    p.name: p
    for p in (
        Precision("fp32", lambda: FloatLinear("float32"), ("split", "shared"), sums="double"),
        Precision("fp16", lambda: FloatLinear("float16"), ("shared",)),
        Precision(
            "int8",
            Int8RowLinear,
            ("split",),
            sums="whole",
            keep_embedding_codes=True,
            rotate=True,
            unsigned_linear=lambda: Int8RowLinear(unsigned_weights=True),
        ),
        Precision(
            "int8-block",
            lambda: NBitsLinear(8, 32, TurnedInt8Linear()),
            ("split",),
            sums="double",
            keep_embedding_codes=True,
            unsigned_linear=lambda: NBitsLinear(8, 32, TurnedInt8Linear(unsigned_weights=True)),
        ),
        Precision(
            "int4",
            ExactQ4Linear,
            ("split",),
            sums="double",
            keep_embedding_codes=True,
            unsigned_linear=lambda: ExactQ4Linear(unsigned_weights=True),
        ),
    )
}


def default_precision(config: ModelConfig) -> str:
    """For CPUs, where none is asked for."""
    return "int8-block" if config.post_norms else "int8"


def precision(name: str) -> Precision:
    if name not in PRECISIONS:
        raise ExportError(f"--precision {name}: unknown (known: {', '.join(PRECISIONS)})")
    return PRECISIONS[name]
