"""The run of `train`: MEDUSA-1 heads from distilled shards."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ..errors import ExportError
from ..weights.adapter import read_adapter_of
from ..weights.hashing import sha256_of
from .backbone import load_embedding, load_lm_head
from .calibration import calibrate
from .chat_tokens import load_chat_tokens
from .checkpoint import load_heads, owner_of_output, save_heads
from .machine import set_up
from .model import HeadsConfig, MedusaHeads
from .near_duplicates import load_held_out
from .recipes import Recipe, recipe_of
from .run_facts import check_made_with, command_line, distil_record, hardware
from .run_state import load_state
from .shards import Rollouts, load_rollouts
from .trainer import Trainer
from .training_data import Batches, coverage, frequent_tokens


def train(a: argparse.Namespace) -> None:
    """See commands/train.py for the options."""
    set_up(a)
    torch.manual_seed(a.seed)
    adapter = read_adapter_of(a.adapter, a.backbone) if a.adapter else None
    check_made_with(Path(a.data), adapter.sha256 if adapter else None, f"--data {a.data}")
    torch.set_float32_matmul_precision("high")  # TF32 for fp32 products on CUDA; nothing changes on a CPU
    training = load_rollouts(a.data, ("train",), a.limit_shards)
    calibration, overlap = load_held_out(a.data, "calibration", a.max_overlap, a.limit_shards)
    print(f"calibration: {overlap}", flush=True)
    lm_head = load_lm_head(a.backbone)
    end = load_chat_tokens(a.backbone, template=a.template).end
    token_map = _draft_vocabulary(a, training, len(lm_head), end)
    config = HeadsConfig(a.heads, training.hidden.shape[1], a.layers, len(token_map), a.output, a.tokens)
    heads = MedusaHeads(config, torch.from_numpy(token_map))
    if a.init:
        heads, _ = load_heads(a.init, a.backbone)
        if heads.config != config:
            raise ExportError(f"--init {a.init} holds {heads.config}, this run needs {config}")
        token_map = heads.token_map.numpy()
        heads.output_weight.requires_grad_(not a.freeze_output)
    else:
        heads.initialise_output(lm_head)
        if a.tokens != "none":
            embedding = load_embedding(a.backbone)
            heads.attach_embedding(embedding, token_scale(training, embedding))
    heads.to(a.device)
    covered = coverage(calibration.tokens, token_map)
    print(
        f"{len(training.tokens)} training positions in {len(training.sources)} answers; "
        f"draft vocabulary {len(token_map)} holds {covered:.4f} of calibration tokens; {config}",
        flush=True,
    )
    batches = Batches(training, a.heads, token_map, len(lm_head), a.soft, a.seed, a.device, a.common, a.sampled)
    recipe = recipe_of(Recipe, a, batch=min(a.batch, len(batches)))
    trainer = Trainer(heads, batches, recipe, Path(a.run), calibration)
    # An accelerator does a hundred steps a second: looking and saving as often as on a CPU would take most of its time.
    pace = (100, 1000, 4000) if a.device == "cuda" else (20, 200, 200)
    trainer.run(*pace)
    if a.out:
        facts = _facts(a, recipe, trainer, training, covered)
        if adapter is not None:
            facts["kind"] = "medusa-2"
            facts["backbone"] |= {"id": f"{a.backbone_id}-{adapter.name}", "adapter_sha256": adapter.sha256}
        facts["training"]["calibration"] = overlap.facts()
        facts |= calibrate(heads, calibration, a.device)
        owner = owner_of_output(Path(a.init)) if a.freeze_output else None
        save_heads(heads, a.out, facts, quantise=not a.float_output, output_of=owner)
        print(f"wrote {a.out} ({os.path.getsize(a.out) / 1e6:.1f} MB)", flush=True)


def token_scale(rollouts: Rollouts, embedding: torch.Tensor) -> float:
    """What makes rows of the embedding [V, H] as large as hidden states (root mean square), four digits: the first
    block's weights for both then learn at one rate.
    """
    states = rollouts.hidden[:20_000].astype(np.float32)
    return float(f"{np.sqrt((states**2).mean()) / embedding.square().mean().sqrt().item():.4g}")


def _draft_vocabulary(a: argparse.Namespace, training: Rollouts, vocab: int, end: int) -> np.ndarray:
    """Token ids of the draft vocabulary; a resumed run keeps its own, also when more data has come since."""
    state = Path(a.run) / "state.pt"
    if state.exists():
        return load_state(state)["heads"]["token_map"].cpu().numpy()
    return frequent_tokens(training.tokens, vocab, min(a.draft_vocab, vocab), (end,))


def _facts(a: argparse.Namespace, recipe: Recipe, trainer: Trainer, training: Rollouts, covered: float) -> dict:
    sha = sha256_of(Path(a.backbone)) if Path(a.backbone).is_file() else None
    return {
        "backbone": {"id": a.backbone_id, "gguf_sha256": sha},
        "training": {
            "answers": len(training.sources),
            "tokens": len(training.tokens),
            "draft_vocab_coverage": round(covered, 5),
            "recipe": asdict(recipe),
            "started_from": {"name": Path(a.init).stem, "sha256": sha256_of(Path(a.init))} if a.init else None,
            "steps": trainer.step,
            "positions_seen": trainer.step * recipe.batch,
            "seconds": round(trainer.seconds, 1),
            "hardware": hardware(a.device),
            "torch": torch.__version__,
            "command": command_line(),
            "distil": distil_record(Path(a.data)),
        },
    }
