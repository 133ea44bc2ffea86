"""Fit the weights of context lookup on answers the heads never saw. Heads and conditional joint stay as they are.

    python export/fit_lookup.py --heads heads/NAME/medusa1.safetensors --data DATA --backbone MODEL \
        --trained-shards SHARDS.txt --write

The answers are chosen as calibrate_heads.py does. Where a conditional joint lies beside the heads, the weights are
fitted beside it, else beside the heads' own probabilities. Prints one row for each level and match length.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch

from calibrate_heads import unseen_answers
from evaluate_heads import conditional_of
from medusa_export.heads.calibration import propose
from medusa_export.heads.checkpoint import load_heads, write_sidecar
from medusa_export.heads.context_lookup import LENGTHS, HeadsJoint, Observations, fit_weights, observe
from medusa_export.heads.near_duplicates import MAX_OVERLAP
from medusa_export.heads.run_facts import check_states_of
from medusa_export.weights.conditional_file import conditional_beside

TOP_M = 32  # of the heads' lists, as in decoding


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--heads", required=True, help="checkpoint (.safetensors); its sidecar is what changes")
    p.add_argument("--data", required=True, help="folder of shards")
    p.add_argument("--backbone", required=True, help=".gguf file or HF folder")
    p.add_argument("--trained-shards", help="text file: the shards the heads were trained on (default: all of them)")
    p.add_argument("--source", nargs="+", help="answers to prompts of these sources only (default: all)")
    p.add_argument("--max-overlap", type=float, default=MAX_OVERLAP, help="as in train_heads.py (default %(default)s)")
    p.add_argument("--answers", type=int, default=300, help="fit on so many, drawn (0: all; default %(default)s)")
    p.add_argument("--write", action="store_true", help="store the weights in the sidecar")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="of the heads")
    p.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's default)")
    return p.parse_args(argv)


def main(a: argparse.Namespace) -> list[list[float]]:
    """Fit, print and, with --write, store; returns the weights [K + 1][8]."""
    if a.threads:
        torch.set_num_threads(a.threads)
    heads, sidecar = load_heads(a.heads, a.backbone)
    check_states_of(sidecar, Path(a.data))
    if heads.config.tokens == "path":
        raise SystemExit(f"error: --heads {a.heads} read the path (tokens: path): no lookup is made for such heads")
    heads.to(a.device)
    tables = conditional_of(a) if conditional_beside(Path(a.heads)) else None
    unseen, overlap = unseen_answers(a)
    if a.answers and a.answers < len(unseen.sources):
        unseen = unseen.select(_drawn(len(unseen.sources), a.answers))
    kind = "product" if tables is None else "conditional"
    print(f"{overlap}\n{len(unseen.tokens)} tokens in {len(unseen.sources)} answers; joint: {kind}", flush=True)
    proposals = propose(heads, unseen, TOP_M, sidecar["temperatures"], a.device)
    cells = observe(unseen, HeadsJoint(proposals, tables, unseen.hidden))
    weights = fit_weights(cells, heads.config.heads)
    print_table(cells, weights)
    if a.write:
        record = {
            "answers": len(unseen.sources),
            "tokens": len(unseen.tokens),
            "joint": kind,
            "conditional_sha256": None if tables is None else tables.source_sha256,
            "temperatures": sidecar["temperatures"],
            "command": "python export/fit_lookup.py " + " ".join(sys.argv[1:]),
        }
        sidecar["lookup"] = {"lengths": LENGTHS, "weights": weights, "fitted_on": record}
        write_sidecar(Path(a.heads), sidecar)
        print(f"wrote {Path(a.heads).with_suffix('.json')}", flush=True)
    return weights


def _drawn(answers: int, wanted: int) -> np.ndarray:
    """[A] a seeded draw of whole answers."""
    keep = np.zeros(answers, bool)
    keep[np.random.default_rng(0).permutation(answers)[:wanted]] = True
    return keep


def print_table(cells: dict[tuple[int, int], Observations], weights: list[list[float]]) -> None:
    print("| level | length | count | share right | weight |")
    print("|---|---|---|---|---|")
    for level, row in enumerate(weights):
        for length, weight in enumerate(row, 1):
            hits = cells.get((level, length), Observations()).hit
            share = f"{np.mean(hits):.3f}" if hits else ""
            print(f"| {level} | {length} | {len(hits)} | {share} | {weight:.4f} |", flush=True)


if __name__ == "__main__":
    main(parse_arguments())
