"""The named precisions: which products, which embedding table, in which layouts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .errors import ExportError
from .graph.linear import FloatLinear, Int8RowLinear, Linear


@dataclass(frozen=True)
class Precision:
    """A precision of the backbone."""

    name: str
    linear: Callable[[], Linear]
    layouts: tuple[str, ...]
    keep_embedding_codes: bool


PRECISIONS = {
    p.name: p
    for p in (
        Precision("fp32", lambda: FloatLinear("float32"), ("split", "shared"), False),
        Precision("fp16", lambda: FloatLinear("float16"), ("shared",), False),
        Precision("int8", Int8RowLinear, ("split",), True),
    )
}


def precision(name: str) -> Precision:
    if name not in PRECISIONS:
        raise ExportError(f"--precision {name}: unknown (known: {', '.join(PRECISIONS)})")
    return PRECISIONS[name]
