"""Calibrate trained heads on answers they never saw: accuracies by rank, temperatures, static trees. Weights stay.

    python -m medusa_export calibrate --heads heads/NAME/medusa1.safetensors --data DATA --backbone MODEL \\
        --trained-shards SHARDS.txt --write

Heads are surer than right on text unlike their training's. The answers here are those of shards distilled after the
training (and of the calibration split), without near-copies of training answers; --trained-shards names the shards of
DATA that the heads were trained on, one path or file name a line.
"""

from __future__ import annotations

import argparse

from ..training.recipes import MAX_OVERLAP


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("--heads", required=True, help="checkpoint (.safetensors); its sidecar is what changes")
    p.add_argument("--data", required=True, help="folder of shards")
    p.add_argument("--trained-shards", help="text file: the shards the heads were trained on (default: all of them)")
    p.add_argument("--source", nargs="+", help="answers to prompts of these sources only (default: all)")
    p.add_argument(
        "--backbone",
        help=".gguf file or HF folder, for heads that read the chosen token, as the shipped ones do",
    )
    p.add_argument("--positions", type=int, default=0, help="most positions to calibrate on, whole answers (0: all)")

    p.add_argument("--max-overlap", type=float, default=MAX_OVERLAP, help="as in train (default %(default)s)")
    p.add_argument("--write", action="store_true", help="store the result in the sidecar")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's default)")


def run(args: argparse.Namespace) -> dict:
    from ..training.recalibration import recalibrate

    return recalibrate(args)
