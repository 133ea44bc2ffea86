"""Fit the weights of lookup on answers the heads never saw. Heads and conditional joint stay as they are.

    python -m medusa_export fit-lookup --heads heads/NAME/medusa1.safetensors --data DATA --backbone MODEL \\
        --trained-shards SHARDS.txt --write

The answers are chosen as `calibrate` does. Where a conditional joint lies beside the heads, the weights are fitted
beside it, else beside the heads' own probabilities. Prints one row for each level and match length.
"""

from __future__ import annotations

import argparse

from .calibrate import add_data_arguments


def add_arguments(p: argparse.ArgumentParser) -> None:
    add_data_arguments(p)
    p.add_argument("--backbone", required=True, help=".gguf file or HF folder")
    p.add_argument("--answers", type=int, default=300, help="fit on so many, drawn (0: all; default %(default)s)")


def run(args: argparse.Namespace) -> list[list[float]]:
    from ..training.fit_lookup import fit_lookup

    return fit_lookup(args)
