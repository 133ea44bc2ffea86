"""What MEDUSA-2's adapter did to the backbone, on the original model's own held-out answers.

    python export/measure_backbone.py --backbone model.gguf --adapter heads/NAME/medusa2.adapter.safetensors --data DIR

For each split, greedy and sampled answers apart: perplexity of the answers under the original and under the merged
backbone, KL(original || merged) per position, and how often both have the same best token. Both backbones run alike (in
fp32 unless --dtype says otherwise), teacher-forced; the adapter is merged as `medusa-plus prepare` does
it, before any quantisation.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch

from medusa_export.heads.fidelity import Fidelity, measure_fidelity
from medusa_export.heads.lora import merged_backbone
from medusa_export.heads.near_duplicates import MAX_OVERLAP, drop_near_duplicates
from medusa_export.heads.run_facts import hardware
from medusa_export.heads.sequences import with_states
from medusa_export.heads.shards import Rollouts, load_rollouts, load_tokens
from medusa_export.weights.adapter import read_adapter_of

COLUMNS = ("rows", "perplexity_original", "perplexity", "kl", "greedy_agreement")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--backbone", required=True, help=".gguf file or HF folder that the adapter was trained on")
    p.add_argument("--adapter", required=True, help="*.adapter.safetensors")
    p.add_argument("--data", required=True, help="folder of shards of the original model's answers")
    p.add_argument("--splits", nargs="+", choices=["validation", "calibration", "train"], default=["validation"])
    p.add_argument("--rows", type=int, default=0, help="positions of each split, whole answers (0: all)")
    p.add_argument("--max-overlap", type=float, default=MAX_OVERLAP, help="of held-out answers, see evaluate_heads.py")
    p.add_argument("--out", help="JSON report to write")
    p.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the products")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--threads", type=int, default=0)
    return p.parse_args(argv)


def measure(a: argparse.Namespace) -> dict:
    if a.threads:
        torch.set_num_threads(a.threads)
    adapter = read_adapter_of(a.adapter, a.backbone)
    dtype = getattr(torch, a.dtype)
    original = merged_backbone(a.backbone, None, dtype, a.device)
    merged = merged_backbone(a.backbone, adapter, dtype, a.device)
    report = {
        "adapter": {"name": adapter.name, "sha256": adapter.sha256, "base_sha256": adapter.base_sha256},
        "precision": f"{a.dtype} products, float32 logits; teacher-forced on the original's stored answers",
        "hardware": hardware(a.device),
        "splits": {},
    }
    for split in a.splits:
        started = time.time()
        rollouts = load_rollouts(a.data, (split,))
        if split != "train":
            rollouts, overlap = drop_near_duplicates(rollouts, load_tokens(a.data, ("train",)), a.max_overlap)
            print(f"{split}: {overlap}", flush=True)
        rollouts = _some_rows(rollouts, a.rows)
        _, before = with_states(rollouts, original)
        _, after = with_states(rollouts, merged)
        fidelity = measure_fidelity(after.hidden, before.hidden, before.tokens, original.lm_head)
        report["splits"][split] = _by_temperature(fidelity, before)
        report["splits"][split]["seconds"] = round(time.time() - started, 1)
        _print(split, report["splits"][split])
    if a.out:
        Path(a.out).parent.mkdir(parents=True, exist_ok=True)
        Path(a.out).write_text(json.dumps(report, indent=1) + "\n")
    return report


def _some_rows(rollouts: Rollouts, rows: int) -> Rollouts:
    """Whole answers, evenly spread over the split (neighbours share their source), of about `rows` positions."""
    if not rows or rows >= len(rollouts.tokens):
        return rollouts
    answers = len(rollouts.sources)
    wanted = max(1, round(answers * rows / len(rollouts.tokens)))
    keep = np.zeros(answers, bool)
    keep[np.linspace(0, answers - 1, wanted).round().astype(int)] = True
    return rollouts.select(keep)


def _by_temperature(fidelity: Fidelity, rollouts: Rollouts) -> dict:
    greedy = np.repeat(rollouts.temperature == 0, np.diff(rollouts.offsets))
    sources = np.repeat(np.array(rollouts.sources), np.diff(rollouts.offsets))
    found = {"all": fidelity.summary()}
    for name, rows in (("greedy", greedy), ("sampled", ~greedy)):
        if rows.any():
            found[name] = fidelity.select(rows).summary()
    found["by_source"] = {str(s): fidelity.select(sources == s).summary() for s in np.unique(sources)}
    return found


def _print(split: str, found: dict) -> None:
    print(f"| {split} | " + " | ".join(COLUMNS) + " |")
    print("|---|" + "---:|" * len(COLUMNS))
    for name in ("all", "greedy", "sampled"):
        if name in found:
            print(f"| {name} | " + " | ".join(str(found[name][c]) for c in COLUMNS) + " |")
    print(flush=True)


if __name__ == "__main__":
    measure(parse_arguments())
