"""Self-distillation: the backbone answers prompts; its states and tokens go to shards that heads train on.

    python -m medusa_export distil --backbone model.gguf --prompts prompts.jsonl --out DATA --conversations 20000

Shards are written whole or not at all, and a rerun continues after them. Several workers (--worker i --workers n) share
one folder and one plan; on a small machine one single-threaded worker a core is fastest.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from ..training.recipes import TEMPLATES, Mix


def add_arguments(p: argparse.ArgumentParser) -> None:
    m = Mix()
    p.add_argument("--backbone", required=True, help=".gguf file or HF folder; the weights inference will use")
    p.add_argument("--adapter", help="MEDUSA-2 adapter: the answers of the merged model, with its states")
    p.add_argument("--prompts", help="JSONL with {source, prompt}; without it the model writes every question")
    p.add_argument("--out", required=True, help="folder for the shards")
    p.add_argument("--template", choices=TEMPLATES, default="chatml")
    p.add_argument("--system", help="system prompt (default: the chat template's)")
    p.add_argument("--conversations", type=int, default=20000, help="size of the plan (default %(default)s)")
    p.add_argument(
        "--first",
        type=int,
        default=0,
        help="leave out the plan's conversations before this one: an adapter's answers to prompts of its own training "
        "are no new text to its heads (default %(default)s)",
    )
    p.add_argument(
        "--slots",
        type=int,
        default=96,
        help="conversations generated at once: as many as fit, on a GPU (default %(default)s)",
    )
    p.add_argument("--shard", type=int, default=100, help="conversations per shard (default %(default)s)")
    p.add_argument("--max-answer", type=int, default=m.max_answer, help="tokens per answer (default %(default)s)")
    p.add_argument("--magpie", type=float, default=m.magpie_share, help="share of questions written by the model")
    p.add_argument("--greedy", type=float, default=m.greedy_share, help="share of greedy answers")
    p.add_argument("--temperature", type=float, default=m.sample_temperature, help="temperature of the other answers")
    p.add_argument("--second-turns", type=float, default=m.second_turn_share, help="share with a second turn")
    p.add_argument("--worker", type=int, default=0)
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--minutes", type=float, default=0, help="stop after this long (0: run to the end)")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument(
        "--generator",
        choices=["step", "batched"],
        help="step: states are kept as tokens are chosen (default on a CPU); batched: tokens are chosen on the device, "
        "and a second pass over whole answers gives the states (default with --device cuda)",
    )
    p.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    p.add_argument("--threads", type=int, default=1, help="CPU threads (default %(default)s)")
    p.add_argument("--seed", type=int, default=0)


def check(args: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    if not 0 <= args.first < args.conversations:
        error(f"--first {args.first}: must be 0 to {args.conversations - 1}, a conversation of the plan")


def run(args: argparse.Namespace) -> None:
    from ..training.distillation import distil

    distil(args)
