"""Variants of the conditional joint, trained alike and measured on the same held-out answers: CSV and markdown table.

    python export/ablate_conditional.py --heads heads/NAME/medusa1.safetensors --data DIR --backbone model.gguf \\
        --runs RUNS --out results/FOLDER --trained-shards SHARDS.txt

All rows share the data, which is read once, and the number of steps. `bigrams` needs no training: pointwise mutual
information of neighbours counted in the training answers, smoothed towards the unigrams.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch

import train_conditional
from evaluate_heads import first_tokens, paired_gain
from medusa_export.heads.calibration import propose
from medusa_export.heads.checkpoint import load_heads
from medusa_export.heads.conditional import stored_tensors, tables_of
from medusa_export.heads.conditional_tree import conditional_best_first_tree, conditional_tree
from medusa_export.heads.near_duplicates import load_held_out
from medusa_export.heads.shards import Rollouts, TokenRows, load_tokens
from medusa_export.heads.tree_simulation import Proposals, Tally, depth_within, dynamic_tree, simulate, static_tree
from train_conditional import Material

BIGRAMS = {"bigrams-half": 0.5, "bigrams": 1.0}  # weight of the pointwise mutual information
SMOOTHING = 4.0  # counts' worth of the unigram distribution in each row
VARIANTS: dict[str, str] = {
    "r64-D2-silu": "--no-context",
    "r64-D2-silu-context": "",
    "r64-D2-linear": "--no-context --activation none",
    "r64-D2-linear-context": "--activation none",
    "r64-D2-silu-free": "--no-context --tables free",
    "r64-D2-silu-both": "--no-context --tables both",
    "r64-D1-silu": "--no-context --distances 1",
    "r64-D3-silu": "--no-context --distances 3",
    "r32-D2-silu": "--no-context --rank 32",
    "r128-D2-silu": "--no-context --rank 128",
    "r64-D2-silu-hard": "--no-context --soft 0",
    "r64-D2-silu-m64": "--no-context --top-m 64",
}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--heads", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--backbone", required=True)
    p.add_argument("--trained-shards")
    p.add_argument("--runs", required=True, help="folder for the runs")
    p.add_argument("--out", required=True, help="folder for ablation.csv and ablation.md")
    p.add_argument("--steps", type=int, default=train_conditional.ConditionalRecipe.steps)
    p.add_argument("--nodes", type=int, default=64)
    p.add_argument("--max-new-tokens", type=int, default=128)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--only", nargs="+", choices=[*BIGRAMS, *VARIANTS], default=[*BIGRAMS, *VARIANTS])
    return p.parse_args(argv)


def main(a: argparse.Namespace) -> None:
    torch.set_num_threads(a.threads)
    text = f"--heads {a.heads} --data {a.data} --backbone {a.backbone} --run {a.runs} --top-m 64"
    more = ["--trained-shards", a.trained_shards] if a.trained_shards else []
    base = train_conditional.parse_arguments([*text.split(), *more])
    material, _ = train_conditional.load_material(base)
    validation, overlap = load_held_out(a.data, "validation", base.max_overlap)
    print(overlap, flush=True)
    heads, sidecar = load_heads(a.heads, a.backbone)
    validation = first_tokens(validation, a.max_new_tokens)
    proposals = propose(heads, validation, base.top_m, sidecar["temperatures"])
    ablate(a, material, (validation, proposals), load_tokens(a.data, ("train",)))


def ablate(
    a: argparse.Namespace, m: Material, validation: tuple[Rollouts, Proposals], counted: TokenRows
) -> list[dict[str, str]]:
    """One row for each of a.only. Proposals of both sides hold 64 candidates; the counts are of `counted`."""
    rollouts, wide = validation
    narrow = _first(wide, 32)

    def tally(proposals: Proposals, tree) -> Tally:
        return simulate(proposals, rollouts.tokens, rollouts.offsets, tree, a.max_new_tokens)

    accuracies = np.array(m.heads_sidecar["accuracies"])[:, :32]
    static = tally(narrow, static_tree(accuracies, a.nodes))
    dynamic = tally(narrow, dynamic_tree(narrow, a.nodes))
    rows = [_row("static", static, static, dynamic, rollouts), _row("dynamic", dynamic, static, dynamic, rollouts)]
    for name in a.only:
        started = time.time()
        if name in BIGRAMS:
            tree = bigram_tree(narrow, rollouts.tokens, m, counted, BIGRAMS[name], a.nodes)
            facts, best = {}, tally(narrow, tree)
        else:
            text = f"--heads - --data - --backbone - --run {a.runs}/{name} --steps {a.steps} {VARIANTS[name]}"
            arguments = train_conditional.parse_arguments(text.split())
            model, (loss, product) = train_conditional.train_model(arguments, m)
            top = _first(wide, arguments.top_m)
            tree = conditional_tree(top, rollouts.tokens, rollouts.hidden, tables_of(model, m.token_map), a.nodes)
            size = sum(t.nbytes for t in stored_tensors(model).values())
            facts = {"kilobytes": f"{size / 1e3:.0f}", "held_out_loss": f"{loss:.4f}", "product": f"{product:.4f}"}
            best = tally(top, tree)
        facts["seconds"] = f"{time.time() - started:.0f}"
        rows.append(_row(name, best, static, dynamic, rollouts) | facts)
        print(rows[-1], flush=True)
        write_table(rows, Path(a.out))
    return rows


def _first(proposals: Proposals, width: int) -> Proposals:
    return Proposals(proposals.ids[..., :width], proposals.probabilities[..., :width])


def bigram_tree(proposals: Proposals, roots: np.ndarray, m: Material, counted: TokenRows, weight: float, nodes: int):
    """Trees with s(y) = weight (log b(y | x_{j-1}) - log u(y)), b the smoothed counts of neighbours within answers."""
    vocab = len(m.embeddings)
    unigrams = np.bincount(counted.tokens, minlength=vocab) + 0.5
    u = unigrams[m.token_map] / unigrams.sum()  # [V']
    draft = np.full(vocab, -1, np.int64)
    draft[m.token_map] = np.arange(len(m.token_map))
    inside = np.ones(len(counted.tokens), bool)
    inside[counted.offsets[1:-1] - 1] = False  # an answer's last token has no successor
    followers: dict[int, list[int]] = defaultdict(list)
    for at in np.flatnonzero(inside[:-1]).tolist():
        followers[int(counted.tokens[at])].append(int(counted.tokens[at + 1]))
    known: dict[int, np.ndarray] = {}

    def row(token: int) -> np.ndarray:
        if token not in known:
            after = draft[np.array(followers[token], np.int64)] if followers[token] else np.zeros(0, np.int64)
            counts = np.bincount(after[after >= 0], minlength=len(u))
            known[token] = weight * np.log((counts + SMOOTHING * u) / ((len(after) + SMOOTHING) * u))
        return known[token]

    class Counts:
        """Stands where the rows of B stand: candidates, then a token, give s."""

        def __init__(self, candidates: np.ndarray | None = None) -> None:
            self.candidates = candidates

        def __getitem__(self, candidates: np.ndarray) -> Counts:
            return Counts(candidates)

        def __matmul__(self, token: int) -> np.ndarray:
            return row(token)[self.candidates]

    class Joint:
        b = Counts()

        def state(self, before: list[int], head: int) -> int:
            return before[-1]

    def depth(at: int, ranks: list[int]) -> int:
        if not ranks:
            return 0
        ids, p = proposals.ids[at], proposals.probabilities[at]
        return depth_within(set(conditional_best_first_tree(p, draft[ids], int(roots[at]), ids, Joint(), nodes)), ranks)

    return depth


def _row(name: str, best: Tally, static: Tally, dynamic: Tally, rollouts: Rollouts) -> dict[str, str]:
    row = {"variant": name, "kilobytes": "", "held_out_loss": "", "product": ""}
    row["tokens_per_step"] = f"{best.tokens_per_step:.4f}"
    for base_name, base in (("static", static), ("dynamic", dynamic)):
        gain = paired_gain(base, best, rollouts.sources)
        low, high = gain["interval95"]
        row[f"over_{base_name}"] = f"{gain['percent']:+.2f}% [{low:+.2f}, {high:+.2f}]" if best is not base else ""
    return row | {"seconds": ""}


def write_table(rows: list[dict[str, str]], out: Path) -> None:
    """ablation.csv and ablation.md in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "ablation.csv").open("w", newline="") as f:
        writer = csv.DictWriter(f, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(r[n] for n in names) + " |" for r in rows]
    (out / "ablation.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(parse_arguments())
