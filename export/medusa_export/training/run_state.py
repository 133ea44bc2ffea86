"""What a training run keeps in its folder to be continued from: state.pt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ..errors import ExportError
from ..weights.checked import reading


def load_state(path: Path, device: str | None = None) -> dict[str, Any]:
    """A run's state.pt, its tensors on `device` (None: where they were)."""
    with reading(path):
        return torch.load(path, weights_only=True, map_location=device)


def own_state(path: Path, key: str, made_by: dict[str, Any], device: str | None = None) -> dict[str, Any]:
    """The state of a run that was begun with `made_by`, which it holds under `key`; refuses any other."""
    state = load_state(path, device)
    if state[key] != made_by:
        raise ExportError(f"{path} was made by another recipe ({state[key]}); use another --run folder")
    return state


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Replaces the file whole, so that a killed run leaves the last state."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)
