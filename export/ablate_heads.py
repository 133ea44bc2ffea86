"""Equal short training runs of head variants, measured on the same held-out answers: a CSV and a markdown table.

    python export/ablate_heads.py --data DIR --backbone model.gguf --runs RUNS --out results/FOLDER

Each row of VARIANTS is one train_heads.py run in RUNS/<name>; a finished run is not repeated, so the table can grow
and be measured again when more held-out data is there (--held-out).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import evaluate_heads
import train_heads

VARIANTS: dict[str, str] = {
    "own-8k-L1": "",
    "shared-8k-L1": "--output shared",
    "shared-8k-L3": "--output shared --layers 3",
    "shared-8k-L3-soft5": "--output shared --layers 3 --soft 0.5",
    "shared-8k-L3-lr2": "--output shared --layers 3 --lr 2e-3",
    "shared-16k-L3": "--output shared --layers 3 --draft-vocab 16384",
    "shared-4k-L3": "--output shared --layers 3 --draft-vocab 4096",
    "own-8k-L3": "--layers 3",
}
COMMON = "--batch 512 --common 1536 --sampled 512 --full-last 0.05"


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="folder of shards to train on (a snapshot: the same for all rows)")
    p.add_argument("--held-out", help="folder whose validation split measures all rows (default: --data)")
    p.add_argument("--backbone", required=True)
    p.add_argument("--runs", required=True, help="folder for the runs")
    p.add_argument("--out", required=True, help="folder for ablation.csv and ablation.md")
    p.add_argument("--steps", type=int, default=300)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    return p.parse_args(argv)


def main(a: argparse.Namespace) -> None:
    rows = []
    for name in a.only:
        run = Path(a.runs) / name
        checkpoint = run / "heads.safetensors"
        if not checkpoint.exists():
            text = f"--data {a.data} --backbone {a.backbone} --run {run} --out {checkpoint} --steps {a.steps}"
            text += f" --threads {a.threads} {COMMON} {VARIANTS[name]}"
            train_heads.train(train_heads.parse_arguments(text.split()))
        text = f"--heads {checkpoint} --data {a.held_out or a.data} --threads {a.threads}"
        rows.append(_row(name, checkpoint, evaluate_heads.evaluate(evaluate_heads.parse_arguments(text.split()))))
        _write(rows, Path(a.out))


def _row(name: str, checkpoint: Path, report: dict) -> dict[str, str]:
    sidecar = json.loads(checkpoint.with_suffix(".json").read_text())
    training, trees = sidecar["training"], report["trees"]["64"]
    row = {
        "variant": name,
        "megabytes": f"{checkpoint.stat().st_size / 1e6:.1f}",
        "positions": str(training["positions_seen"]),
        "seconds": f"{training['seconds']:.0f}",
        "coverage": f"{training['draft_vocab_coverage']:.4f}",
    }
    for k, (first, five) in enumerate(zip(report["top1"], report["top5"], strict=True), start=1):
        row |= {f"top1_{k}": f"{first:.4f}", f"top5_{k}": f"{five:.4f}"}
    row |= {f"tps_{kind}": f"{trees[kind]['tokens_per_step']:.4f}" for kind in trees}
    low, high = trees["dynamic_temperature"]["interval95"]
    return row | {"interval95": f"{low:.3f}-{high:.3f}", "held_out_answers": str(report["answers"])}


def _write(rows: list[dict[str, str]], out: Path) -> None:
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
