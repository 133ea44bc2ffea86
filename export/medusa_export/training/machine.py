"""Where a run computes: --device and --threads, the first thing that every command here sets."""

from __future__ import annotations

import argparse

import torch

from ..errors import ExportError


def set_up(a: argparse.Namespace) -> None:
    """Use --threads CPU threads (0: torch's default); refuse a --device that is not there."""
    if getattr(a, "device", "cpu") == "cuda" and not torch.cuda.is_available():
        raise ExportError(
            f"--device cuda: this PyTorch ({torch.__version__}) finds no CUDA device; leave it out to run on the CPU"
        )
    if a.threads < 0:
        raise ExportError(f"--threads {a.threads}: expected 0 (torch's default) or more")
    if a.threads:
        torch.set_num_threads(a.threads)
