"""Train the conditional joint of finished heads (docs/heads-format.md has the formula) on distilled shards.

    python -m medusa_export train-conditional --heads heads/NAME/medusa1.safetensors --data DATA \\
        --backbone model.gguf --run RUN --trained-shards SHARDS.txt

Heads are surer of answers they were trained on than of new ones, so the correction must learn from answers that the
heads never saw: --trained-shards names the shards of DATA that the heads were trained on, one path or file name a line.
--also HEADS SHARDS adds answers that those heads did see, with the marginals of other heads of the same backbone that
did not (an earlier or smaller run): a stand-in where unseen answers are few.
--members N averages N trainings, which guesses better than one of N times the rank.
Writes <heads>.conditional.safetensors and .json beside the heads. Seeded. Takes minutes on one core, so it does not
resume: start it again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ..training.recipes import MAX_OVERLAP, ConditionalRecipe
from ..weights.conditional_file import ACTIVATIONS


def add_arguments(p: argparse.ArgumentParser) -> None:
    d = ConditionalRecipe()
    p.add_argument("--heads", required=True, help="heads checkpoint (.safetensors); the result goes beside it")
    p.add_argument("--data", required=True, help="folder of shards")
    p.add_argument("--backbone", required=True, help=".gguf file or HF folder, as given to distil")
    p.add_argument("--run", required=True, help="folder for losses.csv")
    p.add_argument("--trained-shards", help="text file: the shards that the heads were trained on, left out here")
    p.add_argument(
        "--also",
        nargs=2,
        metavar=("HEADS", "SHARDS"),
        help="also train on the shards listed in SHARDS with the marginals of HEADS, which never saw them",
    )
    p.add_argument(
        "--text",
        nargs="+",
        default=[],
        help="folders of more answers for the n-gram start, which needs no states: any model's of the same tokens",
    )
    p.add_argument("--rank", type=int, default=64)
    p.add_argument("--distances", type=int, default=2, help="how many tokens back (default %(default)s)")
    p.add_argument("--activation", choices=ACTIVATIONS, default="silu")
    p.add_argument("--no-context", action="store_true", help="leave the hidden state out: a plain low-rank n-gram term")
    p.add_argument("--levels", action="store_true", help="a bias and a gain of c for each head")
    p.add_argument("--top-m", type=int, default=32, help="candidates of each head (default %(default)s)")
    p.add_argument("--steps", type=int, default=d.steps)
    p.add_argument("--batch", type=int, default=d.batch, help="positions per step, of all heads (default %(default)s)")
    p.add_argument("--pretrain-steps", type=int, default=d.pretrain_steps, help="of the n-gram start on all answers")
    p.add_argument("--pretrained-share", type=float, default=d.pretrained_share, help="how much of it is kept, 0..1")
    p.add_argument("--lr", type=float, default=d.lr)
    p.add_argument("--weight-decay", type=float, default=d.weight_decay)
    p.add_argument("--dropout", type=float, default=d.dropout, help="of c while training (default %(default)s)")
    p.add_argument("--soft", type=float, default=d.soft, help="share of soft targets, 0..1 (default %(default)s)")
    p.add_argument(
        "--members",
        type=int,
        default=1,
        help="trainings, of the seeds --seed, --seed + 1, ..., whose scores are averaged; the file holds all of them: "
        "its rank is N times --rank (default %(default)s)",
    )
    p.add_argument("--max-overlap", type=float, default=MAX_OVERLAP, help="as in train (default %(default)s)")
    p.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's default)")
    p.add_argument("--seed", type=int, default=d.seed)


def check(args: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    if args.members < 1:
        error(f"--members {args.members}: must be at least 1")


def run(args: argparse.Namespace) -> Path:
    from ..training.train_conditional import train

    return train(args)
