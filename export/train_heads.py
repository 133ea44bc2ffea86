"""Train MEDUSA-1 heads on distilled shards (distil.py); the backbone stays frozen and is only read for its
output layer.

    python export/train_heads.py --data DIR --backbone model.gguf --run RUN --out heads/NAME/medusa1.safetensors

Stop and start at will: RUN/state.pt is resumed when the recipe is the same.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch

from medusa_export.heads.backbone_torch import load_embedding, load_lm_head
from medusa_export.heads.calibration import fit_temperatures, propose, rank_accuracies
from medusa_export.heads.chat_tokens import TEMPLATES, load_chat_tokens
from medusa_export.heads.checkpoint import load_heads, owner_of_output, save_heads
from medusa_export.heads.device_batches import DeviceBatches
from medusa_export.heads.model import TOKEN_INPUTS, HeadsConfig, MedusaHeads
from medusa_export.heads.near_duplicates import MAX_OVERLAP, OverlapReport, drop_near_duplicates, load_held_out
from medusa_export.heads.run_facts import check_made_with, distil_record, hardware
from medusa_export.heads.shards import Rollouts, load_rollouts
from medusa_export.heads.trainer import Recipe, Trainer
from medusa_export.heads.training_data import Batches, coverage, frequent_tokens
from medusa_export.heads.tree_simulation import nested_tree
from medusa_export.weights.adapter import Adapter, read_adapter_of
from medusa_export.weights.hashing import sha256_of

RANKS = 64  # accuracies kept per head, for the static tree
TREE_NODES = 64  # of the largest static tree that is stored


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    d = Recipe()
    p.add_argument("--data", required=True, help="folder of shards")
    p.add_argument("--backbone", required=True, help=".gguf file or HF folder, as given to distil.py")
    p.add_argument("--backbone-id", default="smollm2-135m-instruct")
    p.add_argument("--adapter", help="MEDUSA-2 adapter that --data was made with: the heads are of the merged model")
    p.add_argument("--run", required=True, help="folder for state.pt, losses.csv, losses.png")
    p.add_argument("--out", help="checkpoint to write (.safetensors; a .json goes beside it)")
    p.add_argument("--heads", type=int, default=4)
    p.add_argument("--layers", type=int, default=1, help="residual blocks per head (default %(default)s)")
    p.add_argument("--draft-vocab", type=int, default=8192, help="draft vocabulary size (default %(default)s)")
    p.add_argument(
        "--output", choices=["own", "shared"], default="own", help="one output layer per head, or one for all"
    )
    p.add_argument(
        "--tokens",
        choices=TOKEN_INPUTS,
        default="none",
        help="what the heads read besides the state: nothing (Medusa), the token the backbone has just chosen, or "
        "every token between it and their own target (Hydra; measured only, no graph is made of them)",
    )
    p.add_argument("--init", help="start from this checkpoint's weights (same sizes) instead of the tied embedding")
    p.add_argument("--steps", type=int, default=d.steps)
    p.add_argument("--minutes", type=float, default=0, help="end after this long; --steps is then only a cap")
    p.add_argument("--batch", type=int, default=d.batch, help="positions per step (default %(default)s)")
    p.add_argument("--lr", type=float, default=d.lr)
    p.add_argument("--output-lr-scale", type=float, default=d.output_lr_scale)
    p.add_argument(
        "--freeze-output",
        action="store_true",
        help="with --init: its output layers stay, and the checkpoint names the file that holds them",
    )
    p.add_argument(
        "--head-decay",
        type=float,
        default=d.head_decay,
        help="head k's loss counts this^k (default %(default)s)",
    )
    p.add_argument("--soft", type=float, default=d.soft, help="share of soft targets, 0..1 (default %(default)s)")
    p.add_argument("--weight-decay", type=float, default=d.weight_decay)
    p.add_argument("--common", type=int, default=d.common, help="draft tokens scored in every batch (0: all)")
    p.add_argument("--sampled", type=int, default=d.sampled, help="with --common: how many of the others are scored")
    p.add_argument("--full-last", type=float, default=d.full_last, help="last share of the steps that scores all")
    p.add_argument("--limit-shards", type=int)
    p.add_argument(
        "--calibration-source",
        nargs="+",
        help="keep the answers to prompts of these sources out of training and calibrate on them, instead of on the "
        "calibration split: what the heads then say of text of another origin is measured, not hoped",
    )
    p.add_argument(
        "--max-overlap",
        type=float,
        default=MAX_OVERLAP,
        help="held-out answers that share more of their 8-grams with one training answer are left out, 0..1 "
        "(default %(default)s; 1: none)",
    )
    p.add_argument("--template", choices=TEMPLATES, default="chatml")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--dtype", choices=["float32", "bfloat16"], default=d.dtype)
    p.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's default)")
    p.add_argument("--seed", type=int, default=d.seed)
    p.add_argument("--float-output", action="store_true", help="keep matrices float16 instead of int8 rows")
    a = p.parse_args(argv)
    if a.freeze_output and not a.init:
        p.error("--freeze-output keeps the output layers of --init: name it")
    return a


def train(a: argparse.Namespace) -> None:
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    adapter = _adapter_of_data(a)
    torch.set_float32_matmul_precision("high")  # TF32 for fp32 products on CUDA; nothing changes on a CPU
    training, calibration, overlap = _split_data(a)
    print(f"calibration: {overlap}", flush=True)
    lm_head = load_lm_head(a.backbone)
    end = load_chat_tokens(a.backbone, template=a.template).end
    token_map = _draft_vocabulary(a, training, len(lm_head), end)
    config = HeadsConfig(a.heads, training.hidden.shape[1], a.layers, len(token_map), a.output, a.tokens)
    heads = MedusaHeads(config, torch.from_numpy(token_map))
    if a.init:
        heads, _ = load_heads(a.init, a.backbone)
        if heads.config != config:
            raise ValueError(f"--init {a.init} holds {heads.config}, this run needs {config}")
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
    batches = _batches(a, training, token_map, len(lm_head))
    recipe = Recipe(
        steps=a.steps,
        batch=min(a.batch, len(batches)),
        lr=a.lr,
        output_lr_scale=a.output_lr_scale,
        head_decay=a.head_decay,
        soft=a.soft,
        weight_decay=a.weight_decay,
        common=a.common,
        sampled=a.sampled,
        full_last=a.full_last,
        minutes=a.minutes,
        seed=a.seed,
        dtype=a.dtype,
    )
    trainer = Trainer(heads, batches, recipe, Path(a.run), calibration)
    # An accelerator does a hundred steps a second: looking and saving as often as on a CPU would take most of its time.
    pace = (100, 1000, 4000) if a.device == "cuda" else (20, 200, 200)
    trainer.run(*pace)
    if a.out:
        facts = _facts(a, recipe, trainer, training, covered)
        if adapter is not None:
            facts["kind"] = "medusa-2"
            facts["backbone"] |= {"id": f"{a.backbone_id}-{adapter.name}", "adapter_sha256": adapter.sha256}
        facts["training"]["calibration"] = overlap.facts() | {"sources": a.calibration_source}
        facts |= calibrate(heads, calibration, a.device)
        owner = owner_of_output(Path(a.init)) if a.freeze_output else None
        save_heads(heads, a.out, facts, quantise=not a.float_output, output_of=owner)
        print(f"wrote {a.out} ({os.path.getsize(a.out) / 1e6:.1f} MB)", flush=True)


def _split_data(a: argparse.Namespace) -> tuple[Rollouts, Rollouts, OverlapReport]:
    """Training answers, greedy answers for calibration, and what was left out of these as near-copies."""
    training = load_rollouts(a.data, ("train",), a.limit_shards)
    if not a.calibration_source:
        return training, *load_held_out(a.data, "calibration", a.max_overlap, a.limit_shards)
    everything = load_rollouts(a.data, ("train", "calibration"), a.limit_shards)
    held_out = np.isin(everything.sources, a.calibration_source)
    missing = sorted(set(a.calibration_source) - set(everything.sources))
    if missing:
        known = ", ".join(sorted(set(everything.sources)))
        raise ValueError(f"--calibration-source {', '.join(missing)}: the data has no such source (it has: {known})")
    training = training.select(~np.isin(training.sources, a.calibration_source))
    if not len(training.tokens):
        raise ValueError("--calibration-source holds out every source: nothing is left to train on")
    greedy = everything.select(held_out & (everything.temperature == 0))
    return training, *drop_near_duplicates(greedy, training.token_rows, a.max_overlap)


def _adapter_of_data(a: argparse.Namespace) -> Adapter | None:
    """--adapter, read; refused where it is not the one that the answers and states of --data were made with."""
    adapter = read_adapter_of(a.adapter, a.backbone) if a.adapter else None
    check_made_with(Path(a.data), adapter.sha256 if adapter else None, f"--data {a.data}")
    return adapter


def _batches(a: argparse.Namespace, training: Rollouts, token_map: np.ndarray, vocab: int) -> Batches | DeviceBatches:
    """Data on the host, with a sampled softmax if asked for; on CUDA all on the device."""
    if a.device == "cuda":
        if a.common:
            raise ValueError("--common saves nothing on CUDA, where all draft tokens are scored: leave it out")
        return DeviceBatches(training, a.heads, token_map, vocab, a.soft, a.seed, a.device)
    return Batches(training, a.heads, token_map, vocab, a.soft, a.seed, a.device, a.common, a.sampled)


def token_scale(rollouts: Rollouts, embedding: torch.Tensor) -> float:
    """What makes rows of the embedding [V, H] as large as hidden states (root mean square), four digits: the first
    block's weights for both then learn at one rate."""
    states = rollouts.hidden[:20_000].astype(np.float32)
    return float(f"{np.sqrt((states**2).mean()) / embedding.square().mean().sqrt().item():.4g}")


def calibrate(heads: MedusaHeads, greedy: Rollouts, device: str) -> dict:
    """Accuracies by rank, temperatures and static trees, on held-out greedy answers."""
    if not len(greedy.tokens):
        raise ValueError("no held-out greedy answers in the data: distil more conversations")
    width = min(RANKS, heads.config.draft_vocab_size)
    accuracies = rank_accuracies(propose(heads, greedy, width, device=device), greedy)
    temperatures = fit_temperatures(heads, greedy, device)
    rounded = [[round(float(x), 6) for x in row] for row in accuracies]
    return {
        "accuracies": rounded,
        "temperatures": [round(t, 4) for t in temperatures],
        "static_tree": [list(path) for path in nested_tree(rounded, TREE_NODES)],
    }


def _draft_vocabulary(a: argparse.Namespace, training: Rollouts, vocab: int, end: int) -> np.ndarray:
    """Token ids of the draft vocabulary; a resumed run keeps its own, also when more data has come since."""
    state = Path(a.run) / "state.pt"
    if state.exists():
        return torch.load(state, weights_only=True)["heads"]["token_map"].cpu().numpy()
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
            "command": "python export/train_heads.py " + " ".join(sys.argv[1:]),
            "distil": distil_record(Path(a.data)),
        },
    }


if __name__ == "__main__":
    train(parse_arguments())
