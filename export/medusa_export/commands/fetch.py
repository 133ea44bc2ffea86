"""A repository of the Hugging Face hub comes into the hub's cache. Progress, then the folder: JSON lines on stdout."""

from __future__ import annotations

import argparse
import json
import time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repository", metavar="OWNER/NAME")
    parser.add_argument("--revision", help="branch, tag or commit (default: main)")
    parser.add_argument("--wanted", default="model", metavar="model|heads|FILE.gguf", help="default: model")


def run(args: argparse.Namespace) -> None:
    from ..hub import fetch  # what it needs is installed for this command only

    folder = fetch(args.repository, args.revision, args.wanted, _Teller())
    print(json.dumps({"folder": str(folder)}), flush=True)


class _Teller:
    """Writes a line now and then."""

    def __init__(self) -> None:
        self._stage, self._next = "", 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage == self._stage and time.monotonic() < self._next:
            return
        self._stage, self._next = stage, time.monotonic() + 0.2
        print(json.dumps({"stage": stage, "done": done, "total": total}), flush=True)
