"""No weight may be NaN or infinite: one such value makes every token a wrong one, without a word."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ExportError

Array = np.ndarray[Any, Any]


def finite(values: Array, label: str) -> Array:
    """`values` as they are; refused, with `label` and the place, where one of them is NaN or infinite."""
    if values.size == 0:
        return values
    # Both pass NaN on, and neither needs memory of the tensor's size.
    with np.errstate(invalid="ignore"):
        extremes = values.min(), values.max()
    if not np.isfinite(extremes).all():
        at = np.unravel_index(int(np.argmin(np.isfinite(values))), values.shape)
        place = ", ".join(str(int(index)) for index in at)
        raise ExportError(f"{label} holds {values[at]} at [{place}]; weights must be finite numbers")
    return values
