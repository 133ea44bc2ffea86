"""Train MEDUSA-1 heads on distilled shards; the backbone stays frozen and is only read for its output layer.

    python -m medusa_export train --data DATA --backbone model.gguf --run RUN --out heads/NAME/medusa1.safetensors

Stop and start at will: RUN/state.pt is resumed when the recipe is the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from ..training.recipes import MAX_OVERLAP, TEMPLATES, TOKEN_INPUTS, Recipe


def add_arguments(p: argparse.ArgumentParser) -> None:
    d = Recipe()
    p.add_argument("--data", required=True, help="folder of shards")
    p.add_argument("--backbone", required=True, help=".gguf file or HF folder, as given to distil")
    p.add_argument("--backbone-id", default="smollm2-135m-instruct")
    p.add_argument("--adapter", help="MEDUSA-2 adapter that --data was made with: the heads are of the merged model")
    p.add_argument("--run", required=True, help="folder for state.pt and losses.csv")
    p.add_argument("--out", help="checkpoint to write (.safetensors; a .json goes beside it)")
    p.add_argument("--heads", type=int, default=4)
    p.add_argument("--layers", type=int, default=1, help="residual blocks per head (default %(default)s)")
    p.add_argument("--draft-vocab", type=int, default=8192, help="draft vocabulary size (default %(default)s)")
    p.add_argument(
        "--output", choices=["own", "shared"], default="own", help="one output layer per head, or one for all"
    )
    p.add_argument(
        "--tokens",
        choices=TOKEN_INPUTS,
        default="none",
        help="what the heads read besides the state: nothing (Medusa), or the token the backbone has just chosen",
    )
    p.add_argument("--init", help="start from this checkpoint's weights (same sizes) instead of the tied embedding")
    p.add_argument("--steps", type=int, default=d.steps)
    p.add_argument("--minutes", type=float, default=0, help="end after this long; --steps is then only a cap")
    p.add_argument("--batch", type=int, default=d.batch, help="positions per step (default %(default)s)")
    p.add_argument("--lr", type=float, default=d.lr)
    p.add_argument("--output-lr-scale", type=float, default=d.output_lr_scale)
    p.add_argument(
        "--freeze-output",
        action="store_true",
        help="with --init: its output layers stay, and the checkpoint names the file that holds them",
    )
    p.add_argument("--head-decay", type=float, default=d.head_decay, help="head k's loss counts this^k")
    p.add_argument("--soft", type=float, default=d.soft, help="share of soft targets, 0..1 (default %(default)s)")
    p.add_argument("--weight-decay", type=float, default=d.weight_decay)
    p.add_argument("--common", type=int, default=d.common, help="draft tokens scored in every batch (0: all)")
    p.add_argument("--sampled", type=int, default=d.sampled, help="with --common: how many of the others are scored")
    p.add_argument("--full-last", type=float, default=d.full_last, help="last share of the steps that scores all")
    p.add_argument("--limit-shards", type=int)
    p.add_argument(
        "--max-overlap",
        type=float,
        default=MAX_OVERLAP,
        help="held-out answers that share more of their 8-grams with one training answer are left out, 0..1 "
        "(default %(default)s; 1: none)",
    )
    p.add_argument("--template", choices=TEMPLATES, default="chatml")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--dtype", choices=["float32", "bfloat16"], default=d.dtype)
    p.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's default)")
    p.add_argument("--seed", type=int, default=d.seed)
    p.add_argument("--float-output", action="store_true", help="keep matrices float16 instead of int8 rows")


def check(args: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    if args.freeze_output and not args.init:
        error("--freeze-output keeps the output layers of --init: name it")


def run(args: argparse.Namespace) -> None:
    from ..training.medusa1 import train

    train(args)
