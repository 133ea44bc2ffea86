"""Train the conditional correction of finished heads' joint (heads/conditional.py) on distilled shards.

    python export/train_conditional.py --heads heads/NAME/medusa1.safetensors --data DIR --backbone model.gguf \\
        --run RUN --trained-shards SHARDS.txt

Heads are surer of answers they were trained on than of new ones, so the correction must learn from answers that the
heads never saw: --trained-shards names the shards of DIR that the heads were trained on, one path or file name a line.
--also HEADS SHARDS adds answers that those heads did see, with the marginals of other heads of the same backbone that
did not (an earlier or smaller run): a stand-in where unseen answers are few.
--members N averages N trainings, which guesses better than one of N times the rank.
Writes <heads>.conditional.safetensors and .json beside the heads. Seeded. Takes minutes on one core, so it does not
resume: start it again.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch

from medusa_export.heads.calibration import propose
from medusa_export.heads.checkpoint import load_heads
from medusa_export.heads.conditional import (
    TABLES,
    ConditionalConfig,
    ConditionalJoint,
    averaged,
    round_to_stored,
    save_conditional,
)
from medusa_export.heads.conditional_data import Examples, Text, load_text, make_examples, pooled
from medusa_export.heads.conditional_trainer import ConditionalRecipe, evaluate, fit, pretrain
from medusa_export.heads.near_duplicates import MAX_OVERLAP, OverlapReport, load_held_out
from medusa_export.heads.run_facts import check_states_of
from medusa_export.heads.shards import Rollouts, load_rollouts, shard_names
from medusa_export.heads.tree_simulation import Proposals
from medusa_export.weights import open_source
from medusa_export.weights.conditional_file import ACTIVATIONS, embedding_rows, output_rows


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    d = ConditionalRecipe()
    p.add_argument("--heads", required=True, help="heads checkpoint (.safetensors); the result goes beside it")
    p.add_argument("--data", required=True, help="folder of shards")
    p.add_argument("--backbone", required=True, help=".gguf file or HF folder, as given to distil.py")
    p.add_argument("--run", required=True, help="folder for losses.csv and losses.png")
    p.add_argument("--trained-shards", help="text file: the shards that the heads were trained on, left out here")
    p.add_argument(
        "--also",
        nargs=2,
        metavar=("HEADS", "SHARDS"),
        help="also train on the shards listed in SHARDS with the marginals of HEADS, which never saw them",
    )
    p.add_argument(
        "--text",
        nargs="+",
        default=[],
        help="folders of more answers for the n-gram start, which needs no states: any model's of the same tokens",
    )
    p.add_argument("--rank", type=int, default=64)
    p.add_argument("--distances", type=int, default=2, help="how many tokens back (default %(default)s)")
    p.add_argument("--activation", choices=ACTIVATIONS, default="silu")
    p.add_argument("--no-context", action="store_true", help="leave the hidden state out: a plain low-rank n-gram term")
    p.add_argument("--levels", action="store_true", help="a bias and a gain of c for each head")
    p.add_argument("--tables", choices=TABLES, default="projected")
    p.add_argument("--top-m", type=int, default=32, help="candidates of each head (default %(default)s)")
    p.add_argument("--steps", type=int, default=d.steps)
    p.add_argument("--batch", type=int, default=d.batch, help="positions per step, of all heads (default %(default)s)")
    p.add_argument("--pretrain-steps", type=int, default=d.pretrain_steps, help="of the n-gram start on all answers")
    p.add_argument("--pretrained-share", type=float, default=d.pretrained_share, help="how much of it is kept, 0..1")
    p.add_argument("--lr", type=float, default=d.lr)
    p.add_argument("--weight-decay", type=float, default=d.weight_decay)
    p.add_argument("--dropout", type=float, default=d.dropout, help="of c while training (default %(default)s)")
    p.add_argument("--soft", type=float, default=d.soft, help="share of soft targets, 0..1 (default %(default)s)")
    p.add_argument(
        "--members",
        type=int,
        default=1,
        help="trainings, of the seeds --seed, --seed + 1, ..., whose scores are averaged; the file holds all of them: "
        "its rank is N times --rank (default %(default)s)",
    )
    p.add_argument("--max-overlap", type=float, default=MAX_OVERLAP, help="as in train_heads.py (default %(default)s)")
    p.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's default)")
    p.add_argument("--seed", type=int, default=d.seed)
    a = p.parse_args(argv)
    if a.members < 1:
        p.error(f"--members {a.members}: must be at least 1")
    return a


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
        raise ValueError(
            f"--heads {a.heads} have hidden size {heads.config.hidden_size}, --backbone {a.backbone} has "
            f"{source.config.hidden_size}"
        )
    seen = shard_names(Path(a.trained_shards)) if a.trained_shards else frozenset()
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
        raise ValueError(f"--also {a.also[0]} holds {heads.config.heads} heads, --heads {a.heads} {count}")
    rollouts = load_rollouts(a.data, ("train",), only=shard_names(Path(a.also[1])))
    return rollouts, propose(heads, rollouts, a.top_m, sidecar["temperatures"])


def recipe_of(a: argparse.Namespace) -> ConditionalRecipe:
    return ConditionalRecipe(
        steps=a.steps,
        batch=a.batch,
        lr=a.lr,
        weight_decay=a.weight_decay,
        dropout=a.dropout,
        soft=a.soft,
        seed=a.seed,
        pretrain_steps=a.pretrain_steps,
        pretrained_share=a.pretrained_share,
    )


def train_model(a: argparse.Namespace, m: Material) -> tuple[ConditionalJoint, tuple[float, float]]:
    """A trained correction (the mean of its members), rounded as its file will be, and the held-out cross entropies of
    q and of the product."""
    heads = m.calibration[1].ids.shape[1]
    config = ConditionalConfig(
        rank=a.rank,
        distances=a.distances,
        activation=a.activation,
        context=not a.no_context,
        tables=a.tables,
        heads=heads,
        hidden_size=m.embeddings.shape[1],
        vocab_size=len(m.embeddings),
        draft_vocab_size=len(m.token_map),
        levels=a.levels,
    )
    recipe, vocab = recipe_of(a), len(m.embeddings)

    def examples(of: tuple[Rollouts, Proposals], soft: float) -> Examples:
        top = Proposals(of[1].ids[..., : a.top_m], of[1].probabilities[..., : a.top_m])
        return make_examples(of[0], top, m.token_map, vocab, a.distances, soft, recipe.head_decay)

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
    if a.threads:
        torch.set_num_threads(a.threads)
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
            "recipe": asdict(recipe_of(a)),
            "tables": a.tables,
            "members": a.members,
            "seconds": round(time.time() - started, 1),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "held_out_loss": round(loss, 5),
            "held_out_loss_product": round(product, 5),
            "overlap": overlap.facts(),
            "command": "python export/train_conditional.py " + " ".join(sys.argv[1:]),
        },
    }
    path = save_conditional(model, Path(a.heads), facts)
    print(
        f"wrote {path} ({path.stat().st_size / 1e6:.2f} MB); held-out cross entropy {loss:.4f}, product {product:.4f}"
    )
    return path


if __name__ == "__main__":
    train(parse_arguments())
