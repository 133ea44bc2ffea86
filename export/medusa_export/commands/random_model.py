"""Make a float16 model of Llama-2-7B's shape with random weights and heads: what a step costs without the real model.

    python -m medusa_export random-model --output onnx/llama-7b-shaped

Its tokens mean nothing; its steps cost what those of the real model cost. The default shape takes 14.7 GB, written as
fast as memory and disk take them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

HEAD_SIZE = 128


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("--output", type=Path, required=True, metavar="DIR", help="model folder to write")
    p.add_argument("--capacity", type=int, default=4608, help="positions of the context (default %(default)s)")
    p.add_argument("--layers", type=int, default=32, help="default %(default)s")
    p.add_argument("--hidden-size", type=int, default=4096, help="a multiple of 128 (default %(default)s)")
    p.add_argument("--vocab-size", type=int, default=32000, help="default %(default)s")


def check(args: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    if args.hidden_size < HEAD_SIZE or args.hidden_size % HEAD_SIZE:
        error(f"--hidden-size {args.hidden_size}: must be a multiple of {HEAD_SIZE}, the size of an attention head")


def run(args: argparse.Namespace) -> None:
    from ..measure.random_llama import write_random
    from ..weights import ModelConfig

    size = args.hidden_size
    config = ModelConfig(
        family="llama", layers=args.layers, hidden_size=size, query_heads=size // HEAD_SIZE,
        kv_heads=size // HEAD_SIZE, head_dim=HEAD_SIZE, intermediate_size=size * 43 // 16, vocab_size=args.vocab_size,
        context_length=args.capacity, rope_theta=10000.0, rms_norm_eps=1e-5, tied_embeddings=False,
    )  # fmt: skip
    write_random(config, args.output, args.capacity)
