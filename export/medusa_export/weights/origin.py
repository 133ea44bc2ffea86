"""What a checkpoint says about where it comes from: repository, revision, licence."""

from __future__ import annotations

import re
from pathlib import Path

from .checked import reading
from .gguf_file import GgufSource
from .hub_cache import in_hub_cache, name_of
from .source import WeightSource

_CARD_BYTES = 1 << 16  # a model card begins with its metadata
_LICENCE = re.compile(r"""^license:[ \t]*["']?([\w.+-]+)""", re.MULTILINE)


def origin_of(source: WeightSource) -> dict[str, str]:
    """`source`, and `revision` and `licence` where they are known.

    The licence is that of the model card's first lines or of GGUF's metadata.
    """
    repository, revision = in_hub_cache(source.path)
    facts = {"source": repository, "revision": revision} if revision else {"source": name_of(source.path)}
    licence = _from_gguf(source) if isinstance(source, GgufSource) else _from_card(source.path / "README.md")
    return facts | ({"licence": licence} if licence else {})


def _from_gguf(source: GgufSource) -> str | None:
    value = source.field("general.license")
    return value if isinstance(value, str) else None


def _from_card(card: Path) -> str | None:
    if not card.is_file():
        return None
    with reading(card), card.open("rb") as file:
        lines = file.read(_CARD_BYTES).decode("utf-8", "replace").splitlines()
    if lines[:1] != ["---"] or "---" not in lines[1:]:
        return None
    found = _LICENCE.search("\n".join(lines[1 : lines.index("---", 1)]))
    return found[1] if found else None
