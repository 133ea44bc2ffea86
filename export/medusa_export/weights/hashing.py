"""SHA-256 of files and folders."""

from __future__ import annotations

import hashlib
from pathlib import Path

from .gguf_parts import gguf_parts


def sha256_of(path: Path) -> str:
    """Of a file's bytes; of a folder: over the names and hashes of its config and safetensors files (where there are
    none of these, of its pytorch_model*.bin).
    """
    if path.is_dir():
        named = sorted(path.glob("*.safetensors")) or sorted(path.glob("pytorch_model*.bin"))
        return sha256_of_files([p for p in sorted([*named, path / "config.json"]) if p.is_file()])
    if len(parts := gguf_parts(path)) > 1:
        return hashlib.sha256("".join(f"{part.name} {_file_sha256(part)}\n" for part in parts).encode()).hexdigest()
    return _file_sha256(path)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(path)


def sha256_of_files(paths: list[Path]) -> str:
    """Over the names and hashes of files."""
    return hashlib.sha256("".join(f"{path.name} {sha256_of(path)}\n" for path in paths).encode()).hexdigest()


def _digest(path: Path) -> str:
    """`hashlib.file_digest` of Python 3.11, for 3.10."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
