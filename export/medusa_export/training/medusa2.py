"""The run of `train-medusa2`: heads and a low-rank adapter of the backbone together."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..errors import ExportError
from ..weights.adapter import SUFFIX, Adapter, read_adapter, read_adapter_of
from ..weights.hashing import sha256_of
from .backbone import load_backbone
from .calibration import calibrate
from .checkpoint import load_heads, owner_of_output, save_heads
from .lora import Lora, save_adapter
from .machine import set_up
from .medusa2_trainer import Medusa2Trainer
from .model import MedusaHeads
from .near_duplicates import load_held_out
from .recipes import LoraConfig, Medusa2Recipe, recipe_of
from .run_facts import check_made_with, command_line, distil_record, hardware
from .sequences import with_states
from .shards import Rollouts, load_rollouts

NO_LIMIT = 1_000_000_000  # steps, when the clock decides


def train(a: argparse.Namespace) -> None:
    """See commands/train_medusa2.py for the options."""
    set_up(a)
    if a.device == "cuda":
        torch.set_float32_matmul_precision("high")  # the heads' blocks stay fp32; TF32 is near enough for them
    torch.manual_seed(a.seed)
    start = Path(a.heads)
    adapter = read_adapter_of(a.adapter, a.backbone) if a.adapter else None
    check_made_with(Path(a.data), None, f"--data {a.data}")  # the KL is taken to these states
    training = load_rollouts(a.data, ("train",), a.limit_shards)
    calibration, overlap = load_held_out(a.data, "calibration", a.max_overlap, a.limit_shards)
    backbone = load_backbone(a.backbone, getattr(torch, a.dtype), a.device)
    heads = _start_heads(start, a.backbone, adapter)
    lora = Lora(LoraConfig(a.rank, a.alpha, a.first_layer), backbone.config, a.seed)
    if adapter is not None:
        lora.copy_from(adapter)
    recipe = recipe_of(Medusa2Recipe, a, steps=a.steps or (NO_LIMIT if a.minutes else Medusa2Recipe.steps),
                       micro_tokens=a.micro_tokens or a.batch)  # fmt: skip
    trainer = Medusa2Trainer(
        backbone, lora.to(a.device), heads.to(a.device), training, recipe, Path(a.run), calibration
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
        _save(a, trainer, calibration, facts, owner_of_output(start) if a.freeze_output else None)


def _start_heads(path: Path, backbone: str, adapter: Adapter | None) -> MedusaHeads:
    heads, sidecar = load_heads(path, backbone)
    belongs = sidecar.get("backbone") or {}
    trained_on, digest = belongs.get("gguf_sha256"), sha256_of(Path(backbone))
    if trained_on not in (None, digest):
        raise ExportError(f"--heads {path} belong to a backbone with sha256 {trained_on[:12]}..., not {digest[:12]}...")
    # Heads of an adapted backbone read its states; on the original's they would start from nearly nothing.
    theirs, ours = belongs.get("adapter_sha256"), adapter.sha256 if adapter else None
    if theirs != ours:
        named = [f"adapter {sha[:12]}..." if sha else "no adapter" for sha in (theirs, ours)]
        raise ExportError(f"--heads {path} belong to {named[0]}, --adapter names {named[1]}: give the two of one run")
    return heads


def _save(
    a: argparse.Namespace, trainer: Medusa2Trainer, calibration: Rollouts, facts: dict[str, Any], output_of: Path | None
) -> None:
    """The adapter first; the heads are calibrated on the states of the backbone that is merged from the file."""
    folder, digest = Path(a.out), sha256_of(Path(a.backbone))
    path = folder / (a.name + SUFFIX)
    save_adapter(trainer.lora, path, {"base": {"id": a.backbone_id, "sha256": digest}, **facts})
    adapter = read_adapter(path)
    merged = load_backbone(a.backbone, getattr(torch, a.dtype), a.device, adapter)
    _, adapted = with_states(calibration, merged)
    belongs = {
        "id": f"{a.backbone_id}-{a.name}",
        "gguf_sha256": digest,
        "adapter_sha256": adapter.sha256,
    }
    sidecar: dict[str, Any] = {"kind": "medusa-2", "backbone": belongs, **facts}
    sidecar |= calibrate(trainer.heads, adapted, a.device)
    save_heads(trainer.heads, folder / f"{a.name}.safetensors", sidecar, output_of=output_of)
    for file in (path, folder / f"{a.name}.safetensors"):
        print(f"wrote {file} ({os.path.getsize(file) / 1e6:.1f} MB)", flush=True)


def _facts(a: argparse.Namespace, trainer: Medusa2Trainer, start: Path, adapter: Adapter | None) -> dict[str, Any]:
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
            "command": command_line(),
            "distil": distil_record(Path(a.data)),
        }
    }
