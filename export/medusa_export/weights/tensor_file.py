"""Files of named tensors, whichever of the two formats they have."""

from __future__ import annotations

from pathlib import Path

from .safetensors_file import SafetensorsFile
from .torch_zip import TorchFile

TensorFile = SafetensorsFile | TorchFile
PICKLED = (".pt", ".bin")


def open_tensors(path: Path) -> TensorFile:
    """Opens a file by its ending: PyTorch's for .pt and .bin, safetensors otherwise."""
    return TorchFile(path) if path.suffix in PICKLED else SafetensorsFile(path)
