"""Names of checkpoints, also of those in the cache of the Hugging Face hub, whose folders are named after commits."""

from __future__ import annotations

from pathlib import Path


def name_of(path: Path) -> str:
    """A checkpoint's name for people: that of its repository (and file in it) in the hub's cache, or else its own."""
    return in_hub_cache(path)[0] or _whole(path).name


def in_hub_cache(path: Path) -> tuple[str, str]:
    """Repository (with ":FILE" of a file in it) and revision of what lies in the hub's cache, which holds a model as
    models--OWNER--NAME/snapshots/REVISION; two empty texts for what lies elsewhere.
    """
    parts = _whole(path).parts
    for i, part in enumerate(parts[:-2]):
        if part.startswith("models--") and parts[i + 1] == "snapshots":
            file = "/".join(parts[i + 3 :])
            repository = part.removeprefix("models--").replace("--", "/", 1)
            return repository + (f":{file}" if file else ""), parts[i + 2]
    return "", ""


def _whole(path: Path) -> Path:
    """The path without links to its folder. The file may be one too, into the cache's blobs, named by hashes."""
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name
