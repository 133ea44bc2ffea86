"""The files of a GGUF model that was split by llama.cpp: NAME-00001-of-00003.gguf and so on."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import ExportError

_PART = re.compile(r"^(.*)-([0-9]{5})-of-([0-9]{5})\.gguf$")


def gguf_parts(path: Path) -> list[Path]:
    """All parts in order, given any of them; the file itself where it is not split."""
    match = _PART.match(path.name)
    if match is None:
        return [path]
    name, count = match[1], int(match[3])
    parts = [path.with_name(f"{name}-{i:05}-of-{count:05}.gguf") for i in range(1, count + 1)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing or not parts:
        raise ExportError(f"{path.name} is one of {count} parts; these are not beside it: {', '.join(missing)}")
    return parts
