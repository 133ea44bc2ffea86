"""The run of `fit-lookup`: the weights of lookup."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..weights.conditional_file import conditional_beside
from .calibration import propose
from .checkpoint import conditional_of, load_heads, write_sidecar
from .context_lookup import LENGTHS
from .lookup_weights import Observations, fit_weights, observe
from .machine import set_up
from .recalibration import unseen_answers
from .run_facts import check_states_of, command_line
from .trees import HeadsJoint

TOP_M = 32  # of the heads' lists, as in decoding


def fit_lookup(a: argparse.Namespace) -> list[list[float]]:
    """Fit, print and, with --write, store; returns the weights [K + 1][8]. See commands/fit_lookup.py."""
    set_up(a)
    heads, sidecar = load_heads(a.heads, a.backbone)
    check_states_of(sidecar, Path(a.data))
    heads.to(a.device)
    tables = conditional_of(a.heads, a.backbone) if conditional_beside(Path(a.heads)) else None
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
            "command": command_line(),
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
