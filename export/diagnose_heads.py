"""Why do heads do better on held-out answers than on other questions? Diagnosis only: nothing here changes the heads.

    python export/diagnose_heads.py --heads heads/NAME/medusa1.safetensors --data DIR --answers CACHE
    python export/diagnose_heads.py ... --recompute --backbone model.gguf

--answers is the folder that `evaluate_heads.py --questions ... --cache` filled. For the validation split's greedy
answers and for those, prints tokens per step of both trees with the paired gain of the dynamic one, the share of
8-grams that training answers contain, each answer's repetition of itself, and tokens per step by that share; then
some trained answers for reference. --recompute reads the same texts again with states of the other precision.
The dynamic tree uses the fitted temperatures; counting as in tree_simulation.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch

from evaluate_heads import first_tokens, paired_gain
from medusa_export.heads.backbone_torch import load_backbone
from medusa_export.heads.calibration import propose, rank_accuracies
from medusa_export.heads.checkpoint import load_heads
from medusa_export.heads.model import MedusaHeads
from medusa_export.heads.near_duplicates import shared_shares
from medusa_export.heads.shards import Rollouts, TokenRows, load_all, load_rollouts
from medusa_export.heads.tree_simulation import Tally, dynamic_tree, simulate, static_tree

REPETITION_GRAM = 4  # tokens; repeated within one answer
BUCKETS = ((-1.0, 0.02), (0.02, 0.1), (0.1, 0.3), (0.3, 1.0))  # of the shared 8-grams' share, (low, high]


@dataclass(frozen=True)
class Subject:
    """The heads and the trees they are measured with."""

    heads: MedusaHeads
    temperatures: list[float]  # [K]
    accuracies: np.ndarray  # [K, m], share of positions at which each rank was right
    nodes: int  # tree size, root included
    limit: int  # tokens of each answer


@dataclass(frozen=True)
class Measured:
    """One set of answers, decoded with both trees."""

    static: Tally
    dynamic: Tally
    top1: np.ndarray  # [K], share of positions at which a head's best token is right


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--heads", required=True, help="checkpoint (.safetensors)")
    p.add_argument("--data", required=True, help="folder of distilled shards the heads were trained on")
    p.add_argument("--answers", required=True, help="folder of shards with answers to other questions")
    p.add_argument("--recompute", action="store_true", help="also with states recomputed by --backbone (slow)")
    p.add_argument("--backbone", help="with --recompute: .gguf file or HF folder")
    p.add_argument("--max-new-tokens", type=int, default=128)
    p.add_argument("--nodes", type=int, default=64, help="tree size, root included")
    p.add_argument("--top-m", type=int, default=32)
    p.add_argument("--trained-every", type=int, default=16, help="trained answers: the greedy ones of every n-th")
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args(argv)
    if a.recompute and not a.backbone:
        p.error("--recompute needs --backbone")
    return a


def diagnose(a: argparse.Namespace) -> None:
    """Load everything, print every section."""
    torch.set_num_threads(a.threads)
    heads, sidecar = load_heads(a.heads, a.backbone)
    accuracies = np.array(sidecar["accuracies"])[:, : a.top_m]
    subject = Subject(heads, sidecar["temperatures"], accuracies, a.nodes, a.max_new_tokens)
    validation = load_rollouts(a.data, ("validation",))
    validation = first_tokens(validation.select(validation.temperature == 0), a.max_new_tokens)
    questions = first_tokens(load_all(Path(a.answers)), a.max_new_tokens)
    training, trained = read_training(a.data, a.trained_every, a.max_new_tokens)
    print_overlap("validation", subject, validation, training)
    print_overlap("questions", subject, questions, training)
    print_measured(f"trained on ({len(trained.sources)} answers)", measure(subject, trained))
    if a.recompute:
        # Distillation used bf16 products, the questions were answered in fp32: each is read in the other precision.
        print_recomputed("validation, fp32 states", subject, validation, a.backbone, torch.float32)
        print_recomputed("questions, bf16 states", subject, questions, a.backbone, torch.bfloat16)


def read_training(folder: str, every: int, limit: int) -> tuple[TokenRows, Rollouts]:
    """The training answers' tokens, and a sample: the greedy ones among every `every`-th answer, first `limit`
    tokens."""
    train = load_rollouts(folder, ("train",))
    picked = (train.temperature == 0) & (np.arange(len(train.sources)) % every == 0)
    return train.token_rows, first_tokens(train.select(picked), limit)


def answers_of(rollouts: Rollouts) -> Iterator[np.ndarray]:
    """The token ids, int32 [T], of each answer."""
    for start, stop in zip(rollouts.offsets[:-1].tolist(), rollouts.offsets[1:].tolist(), strict=True):
        yield rollouts.tokens[start:stop].astype(np.int32)


def grams(tokens: np.ndarray, size: int) -> list[bytes]:
    """Every run of `size` tokens of an answer, int32 [T], as bytes; none if it is shorter."""
    return [tokens[i : i + size].tobytes() for i in range(len(tokens) - size + 1)]


def repeated_shares(rollouts: Rollouts) -> np.ndarray:
    """[A]: share, 0 to 1, of each answer's 4-grams that already occurred in it; an answer too short for one counts
    as 0."""
    lists = [grams(tokens, REPETITION_GRAM) for tokens in answers_of(rollouts)]
    return np.array([(len(own) - len(set(own))) / max(1, len(own)) for own in lists])


def measure(subject: Subject, rollouts: Rollouts) -> Measured:
    """Both trees on the answers."""
    width = subject.accuracies.shape[1]
    plain = propose(subject.heads, rollouts, width)
    tempered = propose(subject.heads, rollouts, width, subject.temperatures)
    static = static_tree(subject.accuracies, subject.nodes)
    dynamic = dynamic_tree(tempered, subject.nodes)
    return Measured(
        simulate(plain, rollouts.tokens, rollouts.offsets, static, subject.limit),
        simulate(tempered, rollouts.tokens, rollouts.offsets, dynamic, subject.limit),
        rank_accuracies(plain, rollouts)[:, 0],
    )


def recomputed_states(rollouts: Rollouts, backbone_path: str, precision: torch.dtype) -> np.ndarray:
    """The backbone's states of the stored texts, float16 [N, H], in `precision`; all answers as slots of one batch."""
    backbone = load_backbone(backbone_path, precision)
    contexts = [np.frombuffer(c, np.int32) for c in rollouts.contexts]
    texts = [np.concatenate(pair) for pair in zip(contexts, answers_of(rollouts), strict=True)]
    slots, longest = len(texts), max(map(len, texts))
    padded = torch.zeros((slots, longest), dtype=torch.int64)
    for slot, text in enumerate(texts):
        padded[slot, : len(text)] = torch.from_numpy(text.astype(np.int64))
    # The context's last position produced the answer's first token.
    first = np.array([len(c) - 1 for c in contexts])
    lengths = np.diff(rollouts.offsets)
    cache, hidden = backbone.new_cache(slots, longest), np.zeros(rollouts.hidden.shape, np.float16)
    for position in range(longest):
        states = backbone.step(padded[:, position], torch.full((slots,), position), cache).numpy()
        inside = (position >= first) & (position < first + lengths)
        hidden[(rollouts.offsets[:-1] + position - first)[inside]] = states[inside]
    return hidden


def print_measured(name: str, measured: Measured) -> None:
    top1 = " ".join(f"{x:.4f}" for x in measured.top1)
    print(
        f"{name}: tokens per step static {measured.static.tokens_per_step:.4f}, "
        f"dynamic {measured.dynamic.tokens_per_step:.4f}; top-1 {top1}",
        flush=True,
    )


def print_overlap(name: str, subject: Subject, rollouts: Rollouts, training: TokenRows) -> None:
    """Tokens per step of the answers, their overlap with the training answers, and one by the other."""
    measured = measure(subject, rollouts)
    shared, repeated = shared_shares(rollouts.token_rows, training), repeated_shares(rollouts)
    print_measured(f"{name} ({len(rollouts.sources)} answers)", measured)
    gain = paired_gain(measured.static, measured.dynamic, rollouts.sources)
    low, high = gain["interval95"]
    print(f"  dynamic over static: {gain['percent']:+.2f}%; paired bootstrap [{low:.2f}, {high:.2f}]")
    quantiles = " ".join(f"{x:.3f}" for x in np.percentile(shared, [25, 50, 75, 90]))
    print(f"  share of 8-grams in training answers: mean {shared.mean():.4f}; 25, 50, 75, 90%: {quantiles}")
    print(f"  share of 4-grams repeated within the answer: mean {repeated.mean():.4f}")
    pairs = np.array(measured.dynamic.per_answer)  # [A, 2]: added, steps
    for above, upto in BUCKETS:
        inside = (shared > above) & (shared <= upto)
        if not inside.any():
            continue
        added, steps = pairs[inside].sum(0)
        bounds = f"({above:.2f}, {upto:.2f}]" if above >= 0 else f"[0.00, {upto:.2f}]"
        speed = f"dynamic {added / max(1, steps):.3f}"
        print(f"  share in {bounds}: {inside.sum()} answers, {speed}, repeated {repeated[inside].mean():.3f}")


def print_recomputed(
    name: str, subject: Subject, rollouts: Rollouts, backbone_path: str, precision: torch.dtype
) -> None:
    """The same texts with recomputed states, and how far these are from the stored ones (root mean square)."""
    hidden = recomputed_states(rollouts, backbone_path, precision)
    print_measured(name, measure(subject, replace(rollouts, hidden=hidden)))
    stored = rollouts.hidden.astype(np.float32)
    difference = np.sqrt(((hidden.astype(np.float32) - stored) ** 2).mean())
    print(f"  states: rms {np.sqrt((stored**2).mean()):.4f}, rms of the difference {difference:.4f}", flush=True)


if __name__ == "__main__":
    diagnose(parse_arguments())
