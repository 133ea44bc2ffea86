"""Single values of a JSON object or of a GGUF's metadata, checked as they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..errors import ExportError
from .checked import shown

_NEEDED: Any = object()  # the default of a value that must be there


class Fields:
    """Errors name the file (`label`), the key, the value and what was expected. A null is a missing value."""

    def __init__(self, label: str, get: Callable[[str], Any]) -> None:
        self._label, self._get = label, get

    def _value(self, key: str, default: Any) -> Any:
        value = self._get(key)
        if value is None and default is _NEEDED:
            raise ExportError(f"{self._label}: {key} is missing")
        return default if value is None else value

    def _refuse(self, key: str, value: object, expected: str) -> ExportError:
        return ExportError(f"{self._label}: {key} is {shown(value)}; expected {expected}")

    def whole(self, key: str, default: Any = _NEEDED, *, least: int = 1, most: int | None = None) -> int:
        """A whole number from `least` to `most`; the default is returned unchecked."""
        value = self._value(key, default)
        if value is default:
            return value
        if type(value) is not int or value < least or (most is not None and value > most):
            wanted = f"a whole number >= {least}" if most is None else f"a whole number from {least} to {most}"
            raise self._refuse(key, value, wanted)
        return value

    def number(self, key: str, default: Any = _NEEDED, *, above: float = -math.inf, below: float = math.inf) -> float:
        """A finite number between the two bounds, which are left out."""
        value = self._value(key, default)
        if value is default:
            return value
        if not is_number(value) or not above < value < below:
            bounds = [f"above {above:g}"] * (above > -math.inf) + [f"below {below:g}"] * (below < math.inf)
            raise self._refuse(key, value, " ".join(["a finite number", " and ".join(bounds)]).rstrip())
        return float(value)

    def text(self, key: str, default: Any = _NEEDED) -> str:
        return self._typed(key, default, str, "a text")

    def flag(self, key: str, default: Any = _NEEDED) -> bool:
        return self._typed(key, default, bool, "true or false")

    def items(self, key: str, default: Any = _NEEDED) -> list[Any]:
        return self._typed(key, default, list, "a list")

    def mapping(self, key: str) -> dict[str, Any]:
        """An object; an empty one where there is none."""
        return self._typed(key, {}, dict, "an object")

    def _typed(self, key: str, default: Any, kind: type, expected: str) -> Any:
        value = self._value(key, default)
        if value is not default and type(value) is not kind:
            raise self._refuse(key, value, expected)
        return value

    def ids(self, key: str, vocab_size: int) -> list[int]:
        """Token ids: one, or a list of them; none where the key is missing."""
        value = self._value(key, [])
        found = value if isinstance(value, list) else [value]
        if any(type(each) is not int or not 0 <= each < vocab_size for each in found):
            raise self._refuse(key, value, f"token ids from 0 to {vocab_size - 1}")
        return found


def is_number(value: object) -> bool:
    """Whether it is a finite number that a float can hold."""
    try:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:
        return False


def are_temperatures(value: object) -> bool:
    """Whether it is a list of what logits can be divided by."""
    return isinstance(value, list) and all(is_number(each) and 0.001 <= each <= 1000 for each in value)


def checked_temperatures(value: list[Any] | None, label: str) -> list[float] | None:
    if value is None or are_temperatures(value):
        return value
    raise ExportError(f"{label}: temperatures is {shown(value)}; expected numbers from 0.001 to 1000")
