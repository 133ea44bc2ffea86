"""The run of `train-conditional`: the conditional joint of finished heads."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..errors import ExportError
from ..weights import open_source
from ..weights.conditional_file import embedding_rows, output_rows
from .calibration import propose
from .checkpoint import load_heads
from .conditional import ConditionalConfig, ConditionalJoint, averaged, round_to_stored, save_conditional
from .conditional_data import Examples, Text, load_text, make_examples, pooled
from .conditional_trainer import evaluate, fit, pretrain
from .machine import set_up
from .near_duplicates import OverlapReport, load_held_out
from .recipes import ConditionalRecipe, recipe_of
from .run_facts import check_states_of, command_line
from .shards import Rollouts, load_rollouts, shard_names
from .trees import Proposals


@dataclass
class Material:
    """What a training needs of the heads, the backbone and the data."""

    heads_sidecar: dict
    token_map: np.ndarray  # int64 [V']
    embeddings: np.ndarray  # float32 [V, H]
    outputs: np.ndarray  # float32 [V', H]
    text: Text  # all training answers, for the n-gram start
    training: list[tuple[Rollouts, Proposals]]  # answers, and proposals of heads that never saw them
    calibration: tuple[Rollouts, Proposals]  # held out, greedy


def load_material(a: argparse.Namespace) -> tuple[Material, OverlapReport]:
    """Read all of it; proposals are the heads' with their temperatures, as decoding gets them."""
    heads, sidecar = load_heads(a.heads, a.backbone)
    check_states_of(sidecar, Path(a.data))
    source, token_map = open_source(Path(a.backbone)), heads.token_map.numpy()
    if heads.config.hidden_size != source.config.hidden_size:
        raise ExportError(
            f"--heads {a.heads} have hidden size {heads.config.hidden_size}, --backbone {a.backbone} has "
            f"{source.config.hidden_size}"
        )
    seen = shard_names("--trained-shards", a.trained_shards) if a.trained_shards else frozenset()
    training = load_rollouts(a.data, ("train",), without=seen)
    calibration, overlap = load_held_out(a.data, "calibration", a.max_overlap)

    def proposed(rollouts: Rollouts) -> tuple[Rollouts, Proposals]:
        return rollouts, propose(heads, rollouts, a.top_m, sidecar["temperatures"])

    unseen = [proposed(training)]
    if a.also:
        unseen.append(_with_other_heads(a, heads.config.heads))
    embeddings, outputs = embedding_rows(source), output_rows(source, token_map)
    text = load_text([a.data, *a.text], ("train",))
    return Material(sidecar, token_map, embeddings, outputs, text, unseen, proposed(calibration)), overlap


def _with_other_heads(a: argparse.Namespace, count: int) -> tuple[Rollouts, Proposals]:
    """The answers of --also with its heads' proposals."""
    heads, sidecar = load_heads(a.also[0], a.backbone)
    check_states_of(sidecar, Path(a.data))
    if heads.config.heads != count:
        raise ExportError(f"--also {a.also[0]} holds {heads.config.heads} heads, --heads {a.heads} {count}")
    rollouts = load_rollouts(a.data, ("train",), only=shard_names("--also", a.also[1]))
    return rollouts, propose(heads, rollouts, a.top_m, sidecar["temperatures"])


def train_model(a: argparse.Namespace, m: Material) -> tuple[ConditionalJoint, tuple[float, float]]:
    """A trained correction (the mean of its members), rounded as its file will be, and the held-out cross entropies of
    q and of the product.
    """
    heads = m.calibration[1].ids.shape[1]
    config = ConditionalConfig(
        rank=a.rank,
        distances=a.distances,
        activation=a.activation,
        context=not a.no_context,
        heads=heads,
        hidden_size=m.embeddings.shape[1],
        vocab_size=len(m.embeddings),
        draft_vocab_size=len(m.token_map),
        levels=a.levels,
    )
    recipe, vocab = recipe_of(ConditionalRecipe, a), len(m.embeddings)

    def examples(of: tuple[Rollouts, Proposals], soft: float) -> Examples:
        return make_examples(*of, m.token_map, vocab, a.distances, soft, recipe.head_decay)

    training = pooled([examples(part, recipe.soft) for part in m.training])
    # Held out, the share of soft targets is fixed, so that runs with different ones can be compared.
    held_out = examples(m.calibration, ConditionalRecipe.soft)

    def member(number: int) -> ConditionalJoint:
        own = replace(recipe, seed=recipe.seed + number)
        torch.manual_seed(own.seed)
        model = ConditionalJoint(config, torch.tensor(m.embeddings), torch.tensor(m.outputs))
        if own.pretrain_steps:
            pretrain(model, m.text, m.token_map, own)
        folder = Path(a.run) if a.members == 1 else Path(a.run) / f"member-{number + 1}"
        fit(model, training, held_out, own, folder)
        return model

    model = averaged([member(number) for number in range(a.members)])
    round_to_stored(model)
    return model, evaluate(model, held_out)


def train(a: argparse.Namespace) -> Path:
    """Returns the file that was written; see commands/train_conditional.py for the options."""
    set_up(a)
    material, overlap = load_material(a)
    answers = [len(rollouts.sources) for rollouts, _ in material.training]
    tokens = [len(rollouts.tokens) for rollouts, _ in material.training]
    print(f"{' + '.join(map(str, tokens))} training positions in {' + '.join(map(str, answers))} answers", flush=True)
    print(overlap, flush=True)
    started = time.time()
    model, (loss, product) = train_model(a, material)
    facts = {
        "top_m": a.top_m,
        "temperatures": material.heads_sidecar["temperatures"],
        "training": {
            "answers": sum(answers),
            "tokens": sum(tokens),
            "text_tokens": len(material.text.tokens),
            "with_other_heads": {"answers": sum(answers[1:]), "tokens": sum(tokens[1:])},
            "recipe": asdict(recipe_of(ConditionalRecipe, a)),
            "members": a.members,
            "seconds": round(time.time() - started, 1),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "held_out_loss": round(loss, 5),
            "held_out_loss_product": round(product, 5),
            "overlap": overlap.facts(),
            "command": command_line(),
        },
    }
    path = save_conditional(model, Path(a.heads), facts)
    print(
        f"wrote {path} ({path.stat().st_size / 1e6:.2f} MB); held-out cross entropy {loss:.4f}, product {product:.4f}"
    )
    return path
