"""What a training run records about its machine and its data."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

import torch

from ..errors import ExportError
from ..weights.checked import read_json


def hardware(device: str) -> str:
    """The card's name, or the processor's with the threads in use."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{_cpu_name()}, {torch.get_num_threads()} threads"


def command_line() -> str:
    """What was typed, for the sidecar."""
    return "python -m medusa_export " + " ".join(sys.argv[1:])


def distil_record(folder: Path) -> dict | None:
    """distil.json of a data folder: how its answers were made."""
    path = folder / "distil.json"
    return read_json(path) if path.exists() else None


def check_made_with(folder: Path, adapter_sha256: str | None, named: str) -> None:
    """Refuse answers of another model: those of `folder` must have been made with this adapter (None: with none).

    A folder without distil.json is believed.
    """
    record = distil_record(folder)
    if record is not None and record.get("adapter_sha256") != adapter_sha256:
        made = [
            f"the adapter of sha256 {sha[:12]}..." if sha else "no adapter"
            for sha in (record.get("adapter_sha256"), adapter_sha256)
        ]
        raise ExportError(f"{named} holds answers made with {made[0]}, not with {made[1]}: name another folder")


def check_states_of(heads: dict, folder: Path) -> None:
    """Refuse answers and states of another model than that of these heads (`heads`: their sidecar)."""
    check_made_with(folder, (heads.get("backbone") or {}).get("adapter_sha256"), f"--data {folder}")


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
