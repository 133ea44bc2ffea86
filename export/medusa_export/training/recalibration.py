"""The run of `calibrate`: calibration.py once more, for finished heads, on answers that they never saw."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..errors import ExportError
from .calibration import calibrate
from .checkpoint import load_heads, write_sidecar
from .machine import set_up
from .near_duplicates import OverlapReport, drop_near_duplicates
from .run_facts import check_states_of, command_line
from .shards import Rollouts, load_rollouts, load_tokens, shard_names


def recalibrate(a: argparse.Namespace) -> dict:
    """Fit, print and, with --write, store; returns what was fitted. See commands/calibrate.py for the options."""
    set_up(a)
    heads, sidecar = load_heads(a.heads, a.backbone)
    check_states_of(sidecar, Path(a.data))
    heads.to(a.device)
    unseen, overlap = unseen_answers(a)
    sources = {s: unseen.sources.count(s) for s in sorted(set(unseen.sources))}
    print(f"{overlap}\n{len(unseen.tokens)} tokens in {len(unseen.sources)} answers ({sources})", flush=True)
    if a.positions:
        unseen = unseen.select(_some(unseen, a.positions))
        print(f"calibrated on {len(unseen.tokens)} tokens in {len(unseen.sources)} answers", flush=True)
    fitted = calibrate(heads, unseen, a.device)
    print(f"temperatures {sidecar['temperatures']} -> {fitted['temperatures']}", flush=True)
    pairs = zip(sidecar["accuracies"], fitted["accuracies"], strict=True)
    print("top-1 " + " ".join(f"{old[0]:.3f} -> {new[0]:.3f}" for old, new in pairs))
    if a.write:
        record = overlap.facts() | {
            "calibrated_on_tokens": len(unseen.tokens),
            "sources": {s: unseen.sources.count(s) for s in sorted(set(unseen.sources))},
            "command": command_line(),
        }
        # Measurements of the tree with the old calibration are no longer of these heads.
        kept = {k: v for k, v in sidecar.items() if k != "evaluation"}
        write_sidecar(Path(a.heads), kept | fitted | {"calibration": record})
        print(f"wrote {Path(a.heads).with_suffix('.json')}", flush=True)
    return fitted


def unseen_answers(a: argparse.Namespace) -> tuple[Rollouts, OverlapReport]:
    """Greedy answers that the heads were not trained on and that are no near-copies of those they were. The validation
    split stays out of it, to be measured on.
    """
    seen = shard_names("--trained-shards", a.trained_shards) if a.trained_shards else None
    splits = ("calibration",) if seen is None else ("train", "calibration")
    rollouts = load_rollouts(a.data, splits, without=seen or frozenset())
    wanted = rollouts.temperature == 0
    if a.source:
        missing = sorted(set(a.source) - set(rollouts.sources))
        if missing:
            known = ", ".join(sorted(set(rollouts.sources)))
            raise ExportError(f"--source {', '.join(missing)}: no such source among the unseen answers ({known})")
        wanted = wanted & np.isin(rollouts.sources, a.source)
    return drop_near_duplicates(rollouts.select(wanted), load_tokens(a.data, ("train",), only=seen), a.max_overlap)


def _some(rollouts: Rollouts, positions: int) -> np.ndarray:
    """[A] a seeded draw of whole answers of at most `positions` positions together."""
    order = np.random.default_rng(0).permutation(len(rollouts.sources))
    keep = np.zeros(len(order), bool)
    keep[order[np.cumsum(np.diff(rollouts.offsets)[order]) <= positions]] = True
    return keep
