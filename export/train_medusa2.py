"""MEDUSA-2: train the heads and a low-rank adapter of the backbone together, on distilled shards (distil.py).

    python export/train_medusa2.py --data DIR --backbone model.gguf --heads heads/NAME/medusa1.safetensors \\
        --run RUN --out heads/NAME-medusa2

Stage 1 are trained MEDUSA-1 heads (--heads); without, heads are warmed up first (--stage1-steps, train_heads.py).
--adapter, with its own --heads, goes on from an earlier result instead.
Stage 2 trains both; writes medusa2.adapter.safetensors and medusa2.safetensors into --out, which
`medusa-plus prepare --adapter` merges. The greedy text of the merged model is not the original's any more: the KL term
holds it near, measure_backbone.py shows how near.

Stop and start at will: RUN/state.pt is resumed when the recipe is the same.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch

import train_heads
from medusa_export.heads.backbone_torch import load_backbone
from medusa_export.heads.checkpoint import load_heads, owner_of_output, save_heads
from medusa_export.heads.joint_trainer import JointRecipe, JointTrainer
from medusa_export.heads.lora import Lora, LoraConfig, merged_backbone, save_adapter
from medusa_export.heads.model import TOKEN_INPUTS, MedusaHeads
from medusa_export.heads.near_duplicates import MAX_OVERLAP, load_held_out
from medusa_export.heads.run_facts import check_made_with, distil_record, hardware
from medusa_export.heads.sequences import with_states
from medusa_export.heads.shards import Rollouts, load_rollouts, pooled
from medusa_export.weights.adapter import SUFFIX, Adapter, read_adapter, read_adapter_of
from medusa_export.weights.hashing import sha256_of

NO_LIMIT = 1_000_000_000  # steps, when the clock decides


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    d, lora = JointRecipe(), LoraConfig()
    p.add_argument("--data", required=True, help="folder of shards")
    p.add_argument("--repeated", help="more training answers: a folder that repeat_answers.py made")
    p.add_argument("--backbone", required=True, help=".gguf file or HF folder, as given to distil.py")
    p.add_argument("--backbone-id", default="smollm2-135m-instruct")
    p.add_argument("--heads", help="trained MEDUSA-1 heads to start from; without, stage 1 trains some")
    p.add_argument("--adapter", help="go on from this adapter (of the same rank) and the --heads that belong to it")
    p.add_argument("--run", required=True, help="folder for state.pt, losses.csv, losses.png")
    p.add_argument("--out", help="folder for the adapter and the heads")
    p.add_argument("--name", default="medusa2", help="of the files and of the heads (default %(default)s)")
    p.add_argument("--rank", type=int, default=lora.rank, help="of the adapter (default %(default)s)")
    p.add_argument("--alpha", type=float, default=lora.alpha, help="its scale is alpha / rank (default %(default)s)")
    p.add_argument(
        "--first-layer", type=int, default=0, help="adapt this layer and those after it (default %(default)s)"
    )
    p.add_argument("--steps", type=int, help=f"default {d.steps}; with --minutes: no limit")
    p.add_argument("--minutes", type=float, default=0, help="end after this long, the held-out measures not counted")
    p.add_argument("--batch", type=int, default=d.batch, help="tokens per step, padding included (default %(default)s)")
    p.add_argument("--micro-tokens", type=int, help="tokens at once, gradients add up to --batch (default: --batch)")
    p.add_argument("--lr", type=float, default=d.lr, help="of the adapter (default %(default)s)")
    p.add_argument("--heads-lr-scale", type=float, default=d.heads_lr_scale, help="default %(default)s")
    p.add_argument("--warmup", type=int, default=d.warmup, help="steps of rising lr (default %(default)s)")
    p.add_argument("--head-weight", type=float, default=d.head_weight, help="c of the loss (default %(default)s)")
    p.add_argument(
        "--head-ramp",
        type=float,
        default=d.head_ramp,
        help="share of the run in which c rises to all of --head-weight, above 0 (default %(default)s, the paper's)",
    )
    p.add_argument("--freeze-output", action="store_true", help="train the heads' blocks only")
    p.add_argument("--kl-weight", type=float, default=d.kl_weight, help="default %(default)s")
    p.add_argument("--kl-share", type=float, default=d.kl_share, help="positions with a KL term (default %(default)s)")
    p.add_argument("--head-decay", type=float, default=d.head_decay, help="head k's loss counts this^k")
    p.add_argument("--soft", type=float, default=0.5, help="share of soft targets, 0..1 (default %(default)s)")
    p.add_argument("--common", type=int, default=d.common, help="draft tokens scored in every batch (0: all)")
    p.add_argument("--sampled", type=int, default=d.sampled, help="with --common: how many of the others are scored")
    p.add_argument("--full-last", type=float, default=d.full_last, help="last share of the steps that scores all")
    p.add_argument("--evaluate-every", type=int, default=50, help="steps between held-out measures")
    p.add_argument("--evaluate-rows", type=int, default=2000, help="held-out positions of each measure")
    p.add_argument("--stage1-steps", type=int, default=2000, help="without --heads: steps of the head warm-up")
    p.add_argument("--stage1-layers", type=int, default=1, help="without --heads: residual blocks per head")
    p.add_argument("--stage1-output", choices=["own", "shared"], default="shared")
    p.add_argument("--stage1-tokens", choices=TOKEN_INPUTS, default="none", help="as train_heads.py --tokens")
    p.add_argument("--stage1-draft-vocab", type=int, default=8192)
    p.add_argument("--max-overlap", type=float, default=MAX_OVERLAP, help="of held-out answers, see train_heads.py")
    p.add_argument("--limit-shards", type=int)
    p.add_argument("--template", default="chatml")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    p.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's default)")
    p.add_argument("--seed", type=int, default=d.seed)
    a = p.parse_args(argv)
    if not 0 < a.head_ramp <= 1:
        p.error(f"--head-ramp {a.head_ramp}: must be above 0 and at most 1")
    if a.adapter and not a.heads:
        p.error("--adapter goes on with the heads of its run: name them with --heads")
    a.steps = a.steps or (NO_LIMIT if a.minutes else d.steps)
    return a


def train(a: argparse.Namespace) -> None:
    if a.threads:
        torch.set_num_threads(a.threads)
    if a.device == "cuda":
        torch.set_float32_matmul_precision("high")  # the heads' blocks stay fp32; TF32 is near enough for them
    torch.manual_seed(a.seed)
    start = Path(a.heads) if a.heads else stage_1(a)
    adapter = read_adapter_of(a.adapter, a.backbone) if a.adapter else None
    check_made_with(Path(a.data), None, f"--data {a.data}")  # the KL is taken to these states
    training = load_rollouts(a.data, ("train",), a.limit_shards)
    if a.repeated:
        training = pooled([training, load_rollouts(a.repeated, ("train",))])
    calibration, overlap = load_held_out(a.data, "calibration", a.max_overlap, a.limit_shards)
    backbone = load_backbone(a.backbone, getattr(torch, a.dtype), a.device)
    heads = _start_heads(start, a.backbone, adapter)
    lora = Lora(LoraConfig(a.rank, a.alpha, a.first_layer), backbone.config, a.seed)
    if adapter is not None:
        lora.copy_from(adapter)
    trainer = JointTrainer(
        backbone, lora.to(a.device), heads.to(a.device), training, _recipe(a), Path(a.run), calibration
    )
    adapted = sum(p.numel() for p in lora.parameters())
    print(
        f"{len(training.tokens)} training positions in {len(training.sources)} answers"
        f" ({trainer.sequences.left_out} longer than {trainer.recipe.micro_tokens} tokens left out);"
        f" adapter of {adapted / 1e6:.2f} million values; heads from {start}",
        flush=True,
    )
    print(overlap, flush=True)
    trainer.run(evaluate_every=a.evaluate_every, evaluate_rows=a.evaluate_rows)
    if a.out:
        facts = _facts(a, trainer, start, adapter)
        facts["training"]["calibration"] = overlap.facts()
        # The first stage's own heads lie in --run, which need not stay.
        _save(a, trainer, calibration, facts, owner_of_output(start) if a.heads and a.freeze_output else None)


def stage_1(a: argparse.Namespace) -> Path:
    """MEDUSA-1 heads in RUN/stage1, trained unless they are there."""
    out = Path(a.run) / "stage1" / "medusa1.safetensors"
    if not out.exists():
        text = ["--data", a.data, "--backbone", a.backbone, "--backbone-id", a.backbone_id, "--run", str(out.parent)]
        text += ["--out", str(out), "--layers", str(a.stage1_layers), "--output", a.stage1_output]
        text += ["--tokens", a.stage1_tokens]
        text += ["--draft-vocab", str(a.stage1_draft_vocab), "--steps", str(a.stage1_steps), "--soft", str(a.soft)]
        text += ["--common", str(a.common), "--sampled", str(a.sampled), "--template", a.template]
        text += [
            "--max-overlap",
            str(a.max_overlap),
            "--device",
            a.device,
            "--dtype",
            a.dtype,
            "--seed",
            str(a.seed),
            "--float-output",
        ]
        text += ["--limit-shards", str(a.limit_shards)] if a.limit_shards else []
        train_heads.train(train_heads.parse_arguments(text))
    return out


def _start_heads(path: Path, backbone: str, adapter: Adapter | None) -> MedusaHeads:
    heads, sidecar = load_heads(path, backbone)
    belongs = sidecar.get("backbone") or {}
    trained_on, digest = belongs.get("gguf_sha256"), sha256_of(Path(backbone))
    if trained_on not in (None, digest):
        raise ValueError(f"--heads {path} belong to a backbone with sha256 {trained_on[:12]}..., not {digest[:12]}...")
    # Heads of an adapted backbone read its states; on the original's they would start from nearly nothing.
    theirs, ours = belongs.get("adapter_sha256"), adapter.sha256 if adapter else None
    if theirs != ours:
        named = [f"adapter {sha[:12]}..." if sha else "no adapter" for sha in (theirs, ours)]
        raise ValueError(f"--heads {path} belong to {named[0]}, --adapter names {named[1]}: give the two of one run")
    return heads


def _recipe(a: argparse.Namespace) -> JointRecipe:
    # An argument that the recipe does not know is a mistake here, not the user's: replace() refuses it.
    shared = ("steps", "minutes", "batch", "lr", "heads_lr_scale", "warmup", "head_weight", "kl_weight", "kl_share")
    shared += ("head_ramp", "freeze_output")
    shared += ("head_decay", "soft", "common", "sampled", "full_last", "seed", "dtype")
    values = {name: getattr(a, name) for name in shared}
    return replace(JointRecipe(), **values, micro_tokens=a.micro_tokens or a.batch)


def _save(
    a: argparse.Namespace, trainer: JointTrainer, calibration: Rollouts, facts: dict[str, Any], output_of: Path | None
) -> None:
    """The adapter first; the heads are calibrated on the states of the backbone that is merged from the file."""
    folder, digest = Path(a.out), sha256_of(Path(a.backbone))
    path = folder / (a.name + SUFFIX)
    save_adapter(trainer.lora, path, {"base": {"id": a.backbone_id, "sha256": digest}, **facts})
    adapter = read_adapter(path)
    merged = merged_backbone(a.backbone, adapter, getattr(torch, a.dtype), a.device)
    _, adapted = with_states(calibration, merged)
    belongs = {
        "id": f"{a.backbone_id}-{a.name}",
        "gguf_sha256": digest,
        "adapter_sha256": adapter.sha256,
    }
    sidecar: dict[str, Any] = {"kind": "medusa-2", "backbone": belongs, **facts}
    sidecar |= train_heads.calibrate(trainer.heads, adapted, a.device)
    save_heads(trainer.heads, folder / f"{a.name}.safetensors", sidecar, output_of=output_of)
    for file in (path, folder / f"{a.name}.safetensors"):
        print(f"wrote {file} ({os.path.getsize(file) / 1e6:.1f} MB)", flush=True)


def _facts(a: argparse.Namespace, trainer: JointTrainer, start: Path, adapter: Adapter | None) -> dict[str, Any]:
    """`start`, `adapter`: the heads and the adapter that the run began with."""
    began_with = {"name": start.stem, "sha256": sha256_of(start), "adapter_sha256": adapter.sha256 if adapter else None}
    return {
        "training": {
            "answers": len(trainer.sequences.usable),
            "tokens": len(trainer.training.tokens),
            "recipe": asdict(trainer.recipe),
            "adapter": asdict(trainer.lora.config),
            "started_from": began_with,
            "steps": trainer.step,
            "epochs": trainer.epoch,
            "positions_seen": trainer.positions,
            "tokens_seen": trainer.tokens,
            "seconds": round(trainer.seconds, 1),
            "tokens_per_second": round(trainer.tokens / max(1e-9, trainer.seconds), 1),
            "hardware": hardware(a.device),
            "torch": torch.__version__,
            "command": "python export/train_medusa2.py " + " ".join(sys.argv[1:]),
            "distil": distil_record(Path(a.data)),
            "repeated": distil_record(Path(a.repeated)) if a.repeated else None,
        }
    }


if __name__ == "__main__":
    train(parse_arguments())
