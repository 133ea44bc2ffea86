"""How much stored answers repeat their conversation, and what trees take by that share.

    python export/repetition.py --heads heads/NAME/medusa1.safetensors --backbone MODEL --answers STATES --nodes 4 64

STATES: a folder of shards (states_of_run.py, or the --cache of evaluate_heads.py). The share of an answer is that of
its 8-grams that stood in the conversation before. Trees with a conditional joint and with lookup are measured where the
heads come with those.

A token is copied when the 6 before it stood in the conversation already and were followed by it there. The heads'
accuracies are shown at positions whose own next token is copied, and at the others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch

from evaluate_heads import conditional_of, first_tokens
from medusa_export.heads.calibration import propose, rank_accuracies
from medusa_export.heads.checkpoint import load_heads
from medusa_export.heads.conditional_tree import conditional_tree
from medusa_export.heads.context_lookup import ContextIndex, HeadsJoint, lookup_tree, simulate_lookup
from medusa_export.heads.shards import Rollouts, load_all
from medusa_export.heads.tree_simulation import Proposals, Tally, dynamic_tree, simulate, static_tree
from medusa_export.weights.conditional_file import ConditionalTables, conditional_beside

GRAM = 8
BOUNDS = (0.02, 0.1, 0.3, 0.6, 1.0)
LOOP = 128  # tokens at the end that must have a period of at most as many
TOP_M = 32
COPIED_AFTER = 6  # tokens


def repeated_shares(rollouts: Rollouts) -> np.ndarray:
    """[A]: share of each answer's 8-grams that stood before in its context or in itself."""
    shares = []
    for context, start, stop in zip(rollouts.contexts, rollouts.offsets[:-1], rollouts.offsets[1:], strict=True):
        before = np.frombuffer(context, np.int32).tolist()
        text, seen, hits = before + rollouts.tokens[start:stop].tolist(), set(), 0
        for at in range(len(text) - GRAM + 1):
            gram = tuple(text[at : at + GRAM])
            hits += at >= len(before) and gram in seen
            seen.add(gram)
        shares.append(hits / max(1, stop - start - GRAM + 1))
    return np.array(shares)


def copied(rollouts: Rollouts) -> np.ndarray:
    """[N] bool: tokens that follow the most recent earlier occurrence of the COPIED_AFTER tokens before them."""
    marks = np.zeros(len(rollouts.tokens), bool)
    for context, start, stop in zip(rollouts.contexts, rollouts.offsets[:-1], rollouts.offsets[1:], strict=True):
        index = ContextIndex(np.frombuffer(context, np.int32).tolist(), COPIED_AFTER)
        for row, token in enumerate(rollouts.tokens[start:stop].tolist(), start):
            found = index.longest(index.tokens[-COPIED_AFTER:])
            marks[row] = found == (token, COPIED_AFTER)
            index.append(token)
    return marks


def ends_in_loop(tokens: np.ndarray) -> bool:
    """Whether the last LOOP tokens repeat what stands some 1 to LOOP tokens before them."""
    if len(tokens) < 2 * LOOP:
        return False
    return any((tokens[-LOOP:] == tokens[-LOOP - period : -period]).all() for period in range(1, LOOP + 1))


def main(a: argparse.Namespace) -> None:
    torch.set_num_threads(a.threads)
    heads, sidecar = load_heads(a.heads, a.backbone)
    rollouts = first_tokens(load_all(Path(a.answers)), a.max_new_tokens)
    lengths, shares = np.diff(rollouts.offsets), repeated_shares(rollouts)
    answers = np.split(rollouts.tokens, rollouts.offsets[1:-1])
    full = lengths == a.max_new_tokens
    loops = sum(ends_in_loop(tokens) for tokens, f in zip(answers, full, strict=True) if f)
    print(
        f"{full.sum()} of {len(full)} answers have {a.max_new_tokens} tokens, {loops} of them end in a loop", flush=True
    )
    proposals = propose(heads, rollouts, TOP_M, sidecar["temperatures"])
    marks = copied(rollouts)
    print(f"{marks.mean():.3f} of the tokens are copied")
    for name, mask in (("copied", marks), ("others", ~marks)):
        ranks = rank_accuracies(proposals, rollouts, mask)
        shown = " ".join(f"{x:.3f}" for x in ranks[:, 0]), " ".join(f"{x:.3f}" for x in ranks.sum(1))
        print(f"heads at {name}: top-1 {shown[0]}, top-{TOP_M} {shown[1]}", flush=True)
    tables = conditional_of(a) if conditional_beside(Path(a.heads)) else None
    for n in a.nodes:
        tallies = tallies_of(a.max_new_tokens, n, sidecar, tables, rollouts, proposals)
        for low, high in [*zip((-1.0, *BOUNDS), BOUNDS, strict=False), (-1.0, 1.0)]:
            inside = (shares > low) & (shares <= high)
            sums = [np.array(tally.per_answer)[inside].sum(0) for tally in tallies.values()]
            shown = ", ".join(f"{added / max(1, steps):.3f}" for added, steps in sums)
            counts = f"{inside.sum()} answers, {lengths[inside].sum()} tokens"
            print(f"n = {n}, share up to {high}: {counts}: {', '.join(tallies)} {shown}", flush=True)


def tallies_of(
    limit: int,
    nodes: int,
    sidecar: dict,
    tables: ConditionalTables | None,
    rollouts: Rollouts,
    proposals: Proposals,
) -> dict[str, Tally]:
    """What trees of `nodes` nodes take, by name: those that the heads come with the files for."""

    def tally(tree: Callable[[int, list[int]], int]) -> Tally:
        return simulate(proposals, rollouts.tokens, rollouts.offsets, tree, limit)

    accuracies = np.array(sidecar["accuracies"])[:, :TOP_M]
    found = {"static": tally(static_tree(accuracies, nodes)), "dynamic": tally(dynamic_tree(proposals, nodes))}
    if tables is not None:
        tree = conditional_tree(proposals, rollouts.tokens, rollouts.hidden, tables, nodes)
        found["conditional"] = tally(tree)
    if sidecar.get("lookup"):
        joint = HeadsJoint(proposals, tables, rollouts.hidden)
        tree = lookup_tree(joint, sidecar["lookup"]["weights"], nodes)
        found["lookup"] = simulate_lookup(rollouts, tree, limit)
    return found


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--heads", required=True, help="checkpoint (.safetensors)")
    p.add_argument("--backbone", required=True, help=".gguf file or HF folder")
    p.add_argument("--answers", required=True, help="folder of shards with greedy answers")
    p.add_argument("--nodes", type=int, nargs="+", default=[4, 64], help="tree sizes, root included")
    p.add_argument("--max-new-tokens", type=int, default=512)
    p.add_argument("--threads", type=int, default=1)
    return p.parse_args(argv)


if __name__ == "__main__":
    main(parse_arguments())
