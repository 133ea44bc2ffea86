"""SHA-256 of files and folders."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Of a file's bytes; of a folder: over the names and hashes of its config and safetensors files."""
    if path.is_dir():
        named = [p for p in sorted(path.iterdir()) if p.name == "config.json" or p.suffix == ".safetensors"]
        parts = [p for p in named if p.is_file()]
        return hashlib.sha256("".join(f"{p.name} {sha256_of(p)}\n" for p in parts).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(path)


def _digest(path: Path) -> str:
    """`hashlib.file_digest` of Python 3.11, for 3.10."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
