"""What a training run records about its machine and its data."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import torch


def hardware(device: str) -> str:
    """The card's name, or the processor's with the threads in use."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{_cpu_name()}, {torch.get_num_threads()} threads"


def distil_record(folder: Path) -> dict | None:
    """distil.json of a data folder: how its answers were made."""
    path = folder / "distil.json"
    return json.loads(path.read_text()) if path.exists() else None


def write_distil_record(folder: Path, record: dict) -> None:
    """Write a data folder's distil.json, whole or not at all."""
    path = folder / "distil.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=1))
    os.replace(temporary, path)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
