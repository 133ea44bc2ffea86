"""Calibrate trained heads on answers they never saw: accuracies by rank, temperatures, static trees. Weights stay.

    python export/calibrate_heads.py --heads heads/NAME/medusa1.safetensors --data DIR --trained-shards SHARDS.txt \
        --compare --write

A calibration split made of the training prompts' kin flatters the heads: it says 95% where new text gives 81%. Here the
answers are those of shards distilled after the training (and of the calibration split), without near-copies of
training answers; --trained-shards names the shards of DIR that the heads were trained on, one path or file name a line.

--compare asks what a temperature is worth on prompts of another origin than those it was fitted on: every source of
prompts is left out once, temperatures are fitted on the others' answers, and measured on those of the one left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch

from evaluate_heads import bootstrap, first_tokens
from medusa_export.heads.calibration import calibration_error, fit_temperatures, propose_each
from medusa_export.heads.checkpoint import load_heads, write_sidecar
from medusa_export.heads.model import MedusaHeads
from medusa_export.heads.near_duplicates import MAX_OVERLAP, OverlapReport, drop_near_duplicates
from medusa_export.heads.run_facts import check_states_of
from medusa_export.heads.shards import Rollouts, load_rollouts, load_tokens, shard_names
from medusa_export.heads.tree_simulation import dynamic_tree, simulate
from train_heads import calibrate

NODES, TOP_M, TOKENS = 64, 32, 128  # of the trees and the answers that --compare measures
FIT_POSITIONS = 5000  # positions that --compare fits a temperature on


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--heads", required=True, help="checkpoint (.safetensors); its sidecar is what changes")
    p.add_argument("--data", required=True, help="folder of shards")
    p.add_argument("--backbone", help="for heads that read tokens: .gguf file or HF folder")
    p.add_argument("--trained-shards", help="text file: the shards the heads were trained on (default: all of them)")
    p.add_argument(
        "--source",
        nargs="+",
        help="answers to prompts of these sources only (default: all; see --prompts of distil.py)",
    )
    p.add_argument("--max-overlap", type=float, default=MAX_OVERLAP, help="as in train_heads.py (default %(default)s)")
    p.add_argument("--positions", type=int, default=0, help="most positions to calibrate on, whole answers (0: all)")
    p.add_argument("--compare", action="store_true", help="also measure, with each source of prompts left out once")
    p.add_argument("--compare-answers", type=int, default=40, help="of each source (default %(default)s)")
    p.add_argument("--write", action="store_true", help="store the result in the sidecar")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's default)")
    return p.parse_args(argv)


def main(a: argparse.Namespace) -> dict:
    """Fit, print and, with --write, store; returns what was fitted."""
    if a.threads:
        torch.set_num_threads(a.threads)
    heads, sidecar = load_heads(a.heads, a.backbone)
    check_states_of(sidecar, Path(a.data))
    heads.to(a.device)
    unseen, overlap = unseen_answers(a)
    counts = ", ".join(f"{s}: {unseen.sources.count(s)}" for s in sorted(set(unseen.sources)))
    print(f"{overlap}\n{len(unseen.tokens)} tokens in {len(unseen.sources)} answers ({counts})", flush=True)
    if a.compare:
        compare(heads, sidecar["temperatures"], unseen, a)
    if a.positions:
        unseen = unseen.select(_some(unseen, a.positions))
        print(f"calibrated on {len(unseen.tokens)} tokens in {len(unseen.sources)} answers", flush=True)
    fitted = calibrate(heads, unseen, a.device)
    print(f"temperatures {sidecar['temperatures']} -> {fitted['temperatures']}", flush=True)
    print(
        "top-1 "
        + " ".join(
            f"{old[0]:.3f} -> {new[0]:.3f}"
            for old, new in zip(sidecar["accuracies"], fitted["accuracies"], strict=True)
        )
    )
    if a.write:
        record = {
            **overlap.facts(),
            "calibrated_on_tokens": len(unseen.tokens),
            "sources": {s: unseen.sources.count(s) for s in sorted(set(unseen.sources))},
            "command": "python export/calibrate_heads.py " + " ".join(sys.argv[1:]),
        }
        # Measurements of the tree with the old calibration are no longer of these heads.
        kept = {k: v for k, v in sidecar.items() if k != "evaluation"}
        write_sidecar(Path(a.heads), kept | fitted | {"calibration": record})
        print(f"wrote {Path(a.heads).with_suffix('.json')}", flush=True)
    return fitted


def unseen_answers(a: argparse.Namespace) -> tuple[Rollouts, OverlapReport]:
    """Greedy answers that the heads were not trained on and that are no near-copies of those they were. The validation
    split stays out of it, to be measured on."""
    seen = shard_names(Path(a.trained_shards)) if a.trained_shards else None
    splits = ("calibration",) if seen is None else ("train", "calibration")
    rollouts = load_rollouts(a.data, splits, without=seen or frozenset())
    wanted = rollouts.temperature == 0
    if a.source:
        missing = sorted(set(a.source) - set(rollouts.sources))
        if missing:
            known = ", ".join(sorted(set(rollouts.sources)))
            raise ValueError(f"--source {', '.join(missing)}: no such source among the unseen answers ({known})")
        wanted = wanted & np.isin(rollouts.sources, a.source)
    return drop_near_duplicates(rollouts.select(wanted), load_tokens(a.data, ("train",), only=seen), a.max_overlap)


def _some(rollouts: Rollouts, positions: int) -> np.ndarray:
    """[A] a seeded draw of whole answers of at most `positions` positions together."""
    order = np.random.default_rng(0).permutation(len(rollouts.sources))
    keep = np.zeros(len(order), bool)
    keep[order[np.cumsum(np.diff(rollouts.offsets)[order]) <= positions]] = True
    return keep


def compare(heads: MedusaHeads, stored: list[float], unseen: Rollouts, a: argparse.Namespace) -> None:
    """A table: for every source with answers enough, the stored temperatures, some fitted without and some with it."""
    sources = [s for s in sorted(set(unseen.sources)) if unseen.sources.count(s) >= a.compare_answers]
    if len(sources) < 2:
        raise ValueError(
            f"--compare needs two sources with {a.compare_answers} answers or more, found {len(sources)}: "
            "distil more or lower --compare-answers"
        )
    print(f"| source | temperatures of | | calibration error by head | tokens per step, dynamic, n = {NODES} | 95% |")
    print("|---|---|---|---|---|---|", flush=True)
    for source in sources:
        own = np.array([s == source for s in unseen.sources])
        fits = {
            "stored": stored,
            "other sources": fit_temperatures(heads, unseen.select(~own), a.device, FIT_POSITIONS),
            "itself": fit_temperatures(heads, unseen.select(own), a.device, FIT_POSITIONS),
        }
        measured = unseen.select(own)
        measured = first_tokens(measured.select(np.arange(own.sum()) < a.compare_answers), TOKENS)
        for row in _measure(heads, fits, measured, a.device):
            print(f"| {source} | {row}", flush=True)


def _measure(heads: MedusaHeads, fits: dict[str, list[float]], answers: Rollouts, device: str) -> Iterator[str]:
    for (name, temperatures), proposals in zip(
        fits.items(), propose_each(heads, answers, TOP_M, list(fits.values()), device), strict=True
    ):
        tally = simulate(proposals, answers.tokens, answers.offsets, dynamic_tree(proposals, NODES), TOKENS)
        low, high = bootstrap(tally)
        shown = " ".join(f"{t:.2f}" for t in temperatures)
        errors = " ".join(f"{e:.3f}" for e in calibration_error(proposals, answers))
        yield f"{name} | {shown} | {errors} | {tally.tokens_per_step:.3f} | {low:.3f} to {high:.3f} |"


if __name__ == "__main__":
    main(parse_arguments())
