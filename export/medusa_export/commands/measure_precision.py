"""Measures the precisions of a model's CPU backbones: fidelity, step latency, independence of tree rows.

    python -m medusa_export measure-precision answers  --folder DIR --prompts FILE --output answers.json
    python -m medusa_export measure-precision fidelity --folder DIR --answers answers.json NAME...
    python -m medusa_export measure-precision latency  --folder DIR --threads 1 NAME...
    python -m medusa_export measure-precision rows     --folder DIR --answers answers.json NAME...
    python -m medusa_export measure-precision bits     --folder DIR --answers answers.json NAME...
    python -m medusa_export measure-precision products

`answers` writes the fp32 model's own greedy answers to training prompts (never MT-Bench); the others read them. NAME is
a precision whose `backbone.NAME.onnx` lies in DIR; `latency` also takes NAME=s8 and NAME=u8, whose int8 weights stay as
they are or become uint8 (by default they do where products saturate). Every one prints CSV.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

MEASURES = {
    "answers": "greedy answers of the fp32 backbone, as token ids",
    "fidelity": "greedy agreement and KL(fp32 || precision) of the next token, teacher-forced over the answers",
    "latency": "milliseconds of a run of n rows, p10 and median",
    "rows": "rows of the answers run one by one, against the same rows inside trees",
    "bits": "a hash of the logits of the answers' first rows, with int8 weights as they are and as uint8",
    "products": "milliseconds of one int8 product, weights as they are and as uint8",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    sub = parser.add_subparsers(dest="measure", required=True, metavar="MEASURE")
    p = {name: sub.add_parser(name, help=text) for name, text in MEASURES.items()}
    for name, each in p.items():
        each.add_argument("--threads", type=int, default=1)
        if name != "products":
            each.add_argument("--folder", type=Path, required=True, help="prepared model folder")
        if name not in ("answers", "products"):
            each.add_argument("names", nargs="+", metavar="NAME")
    for name in ("fidelity", "rows", "bits"):
        p[name].add_argument("--answers", type=Path, required=True)
    p["answers"].add_argument("--prompts", type=Path, required=True)
    p["answers"].add_argument("--output", type=Path, required=True)
    p["answers"].add_argument("--count", type=int, default=32)
    p["answers"].add_argument("--new-tokens", type=int, default=128)
    p["fidelity"].add_argument("--group", type=int, default=1, help="conversations joined into one context")
    p["latency"].add_argument("--past", type=int, default=256)
    p["latency"].add_argument("--seconds", type=float, default=45)
    p["rows"].add_argument("--texts", type=int, default=16)
    p["bits"].add_argument("--count", type=int, default=1000, help="rows")
    p["products"].add_argument("--rounds", type=int, default=100)
    for name, sizes in (("latency", [1, 2, 4, 8, 16, 64]), ("products", [1, 2, 4, 8, 16, 64]), ("rows", [8, 64])):
        p[name].add_argument("--rows", type=_int_list, default=sizes, metavar="N,N")


def _int_list(text: str) -> list[int]:
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", text):
        raise argparse.ArgumentTypeError(f"expected numbers with commas between, not {text!r}")
    return [int(part) for part in text.split(",")]


def run(args: argparse.Namespace) -> None:
    from ..measure import precision

    getattr(precision, args.measure)(args)
