"""Measure trained heads on held-out answers, or on a question file (a final check: never tune on a benchmark).

    python -m medusa_export evaluate --heads heads/NAME/medusa1.safetensors --data DATA --backbone MODEL
    python -m medusa_export evaluate --heads ... --questions question.jsonl --backbone MODEL --cache ANSWERS

Head accuracies, and tokens per step of the static and the dynamic tree, simulated exactly from greedy answers.
--conditional adds the dynamic tree under the conditional joint that lies beside the heads, with paired gains.
--adapter (MEDUSA-2) merges the adapter into the backbone: on --data the answers stay the original's, the states are the
merged one's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from ..training.recipes import MAX_OVERLAP, TEMPLATES


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("--heads", required=True, help="checkpoint (.safetensors)")
    p.add_argument("--data", help="folder of shards: the validation split's greedy answers are used")
    p.add_argument("--questions", help="JSONL with {question_id, category, turns}: first turns, answered greedily")
    p.add_argument(
        "--backbone",
        help=".gguf file or HF folder, for heads that read the chosen token, as the shipped ones do; "
        "also with --questions, --conditional and --adapter",
    )
    p.add_argument("--adapter", help="MEDUSA-2 adapter to merge into the backbone")
    p.add_argument("--cache", help="with --questions: folder for the answers, made once")
    p.add_argument("--max-overlap", type=float, default=MAX_OVERLAP, help="with --data: as in train")
    p.add_argument("--max-new-tokens", type=int, default=128)
    p.add_argument("--answers", type=int, help="with --data: at most so many answers (default: all)")
    p.add_argument("--nodes", type=int, nargs="+", default=[64], help="tree sizes, root included")
    p.add_argument("--top-m", type=int, default=32)
    p.add_argument("--conditional", action="store_true", help="also the conditional joint beside --heads")
    p.add_argument("--out", help="JSON report to write")
    p.add_argument("--write", metavar="NAME", help="store the report in the heads' sidecar as evaluation.NAME")
    p.add_argument("--template", choices=TEMPLATES, default="chatml")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--threads", type=int, default=0)


def check(args: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    if bool(args.data) == bool(args.questions):
        error("give either --data or --questions")
    if args.questions and not (args.backbone and args.cache):
        error("--questions needs --backbone and --cache")
    if (args.conditional or args.adapter) and not args.backbone:
        error("--conditional and --adapter need --backbone")


def run(args: argparse.Namespace) -> dict:
    from ..training.evaluation import evaluate

    return evaluate(args)
