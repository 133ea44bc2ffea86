"""MEDUSA-2: train heads and a low-rank adapter of the backbone together, on distilled shards.

    python -m medusa_export train-medusa2 --data DATA --backbone model.gguf --heads heads/NAME/medusa1.safetensors \\
        --run RUN --out heads/NAME-medusa2

Starts from trained MEDUSA-1 heads (--heads), or goes on from an earlier result (--adapter, with its own --heads).
Writes medusa2.adapter.safetensors and medusa2.safetensors into --out, which `medusa-plus prepare --adapter` merges. The
greedy text of the merged model is not the original's any more: the KL term holds it near.

Stop and start at will: RUN/state.pt is resumed when the recipe is the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from ..training.recipes import MAX_OVERLAP, LoraConfig, Medusa2Recipe


def add_arguments(p: argparse.ArgumentParser) -> None:
    d, lora = Medusa2Recipe(), LoraConfig()
    p.add_argument("--data", required=True, help="folder of shards")
    p.add_argument("--backbone", required=True, help=".gguf file or HF folder, as given to distil")
    p.add_argument("--backbone-id", default="smollm2-135m-instruct")
    p.add_argument("--heads", required=True, help="trained heads to start from: MEDUSA-1, or those of --adapter")
    p.add_argument("--adapter", help="go on from this adapter (of the same rank) and the --heads that belong to it")
    p.add_argument("--run", required=True, help="folder for state.pt and losses.csv")
    p.add_argument("--out", help="folder for the adapter and the heads")
    p.add_argument("--name", default="medusa2", help="of the files and of the heads (default %(default)s)")
    p.add_argument("--rank", type=int, default=lora.rank, help="of the adapter (default %(default)s)")
    p.add_argument("--alpha", type=float, default=lora.alpha, help="its scale is alpha / rank (default %(default)s)")
    p.add_argument(
        "--first-layer", type=int, default=0, help="adapt this layer and those after it (default %(default)s)"
    )
    p.add_argument("--steps", type=int, help=f"default {d.steps}; with --minutes: no limit")
    p.add_argument("--minutes", type=float, default=0, help="end after this long, the held-out measures not counted")
    p.add_argument("--batch", type=int, default=d.batch, help="tokens per step, padding included (default %(default)s)")
    p.add_argument("--micro-tokens", type=int, help="tokens at once, gradients add up to --batch (default: --batch)")
    p.add_argument("--lr", type=float, default=d.lr, help="of the adapter (default %(default)s)")
    p.add_argument("--heads-lr-scale", type=float, default=d.heads_lr_scale, help="default %(default)s")
    p.add_argument("--warmup", type=int, default=d.warmup, help="steps of rising lr (default %(default)s)")
    p.add_argument("--head-weight", type=float, default=d.head_weight, help="c of the loss (default %(default)s)")
    p.add_argument(
        "--head-ramp",
        type=float,
        default=d.head_ramp,
        help="share of the run in which c rises to all of --head-weight, above 0 (default %(default)s, the paper's)",
    )
    p.add_argument("--freeze-output", action="store_true", help="train the heads' blocks only")
    p.add_argument("--kl-weight", type=float, default=d.kl_weight, help="default %(default)s")
    p.add_argument("--kl-share", type=float, default=d.kl_share, help="positions with a KL term (default %(default)s)")
    p.add_argument("--head-decay", type=float, default=d.head_decay, help="head k's loss counts this^k")
    p.add_argument("--soft", type=float, default=0.5, help="share of soft targets, 0..1 (default %(default)s)")
    p.add_argument("--common", type=int, default=d.common, help="draft tokens scored in every batch (0: all)")
    p.add_argument("--sampled", type=int, default=d.sampled, help="with --common: how many of the others are scored")
    p.add_argument("--full-last", type=float, default=d.full_last, help="last share of the steps that scores all")
    p.add_argument("--evaluate-every", type=int, default=50, help="steps between held-out measures")
    p.add_argument("--evaluate-rows", type=int, default=2000, help="held-out positions of each measure")
    p.add_argument("--max-overlap", type=float, default=MAX_OVERLAP, help="of held-out answers, as in train")
    p.add_argument("--limit-shards", type=int)
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    p.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's default)")
    p.add_argument("--seed", type=int, default=d.seed)


def check(args: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    if not 0 < args.head_ramp <= 1:
        error(f"--head-ramp {args.head_ramp}: must be above 0 and at most 1")


def run(args: argparse.Namespace) -> None:
    from ..training.medusa2 import train

    train(args)
