"""Measure trained heads on held-out answers, or on a question file (a final check: never tune on a benchmark).

    python export/evaluate_heads.py --heads heads/NAME/medusa1.safetensors --data DIR
    python export/evaluate_heads.py --heads ... --questions question.jsonl --backbone model.gguf --cache DIR

--adapter (MEDUSA-2) merges the adapter into the backbone. On --data the answers stay the original's and only the states
are the merged backbone's: MEDUSA-1 (with --recompute: computed alike) and MEDUSA-2 are measured on the same text.

Prints and writes (--out) head accuracies and tokens per step of the static and the dynamic tree, simulated
exactly from greedy answers (see tree_simulation.py for the counting). --write puts the numbers into the sidecar.
--conditional adds the dynamic tree under the conditional joint that lies beside the heads, and paired gains. --lookup
adds the one with context lookup (fit_lookup.py), under the conditional joint too if that is asked for.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch

from medusa_export.heads.calibration import propose, propose_each, rank_accuracies, reliability
from medusa_export.heads.chat_tokens import TEMPLATES, load_chat_tokens
from medusa_export.heads.checkpoint import load_heads, write_sidecar
from medusa_export.heads.conditional_tree import conditional_tree
from medusa_export.heads.context_lookup import HeadsJoint, lookup_tree, simulate_lookup
from medusa_export.heads.conversations import Answer, Conversation, Mix
from medusa_export.heads.generation import Generator
from medusa_export.heads.lora import merged_backbone
from medusa_export.heads.model import MedusaHeads
from medusa_export.heads.near_duplicates import MAX_OVERLAP, load_held_out
from medusa_export.heads.sequences import with_states
from medusa_export.heads.sequential_tree import sequential_tree
from medusa_export.heads.shards import Rollouts, load_all, write_shard
from medusa_export.heads.tree_simulation import (
    Proposals,
    Tally,
    dynamic_tree,
    fixed_tree,
    oracle,
    simulate,
    static_tree,
)
from medusa_export.weights import open_source
from medusa_export.weights.adapter import Adapter, read_adapter_of
from medusa_export.weights.conditional_file import ConditionalTables, conditional_beside, read_conditional
from medusa_export.weights.heads_file import lookup_weights, read_own_heads


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--heads", required=True, help="checkpoint (.safetensors)")
    p.add_argument("--data", help="folder of shards: the validation split's greedy answers are used")
    p.add_argument("--questions", help="JSONL with {question_id, category, turns}: first turns, answered greedily")
    p.add_argument("--backbone", help="with --questions, --conditional or --recompute: .gguf file or HF folder")
    p.add_argument("--adapter", help="MEDUSA-2 adapter to merge into the backbone; with --data implies --recompute")
    p.add_argument("--recompute", action="store_true", help="with --data: the backbone's states, not the stored ones")
    p.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of --recompute and --adapter")
    p.add_argument("--cache", help="with --questions: folder for the answers, made once")
    p.add_argument(
        "--max-overlap",
        type=float,
        default=MAX_OVERLAP,
        help="with --data: answers that share more of their 8-grams with one training answer are left out, 0..1 "
        "(default %(default)s; 1: none)",
    )
    p.add_argument("--max-new-tokens", type=int, default=128)
    p.add_argument("--answers", type=int, help="with --data: at most so many answers (default: all)")
    p.add_argument("--nodes", type=int, nargs="+", default=[64], help="tree sizes, root included")
    p.add_argument("--top-m", type=int, default=32)
    p.add_argument(
        "--against", help="with --data: paired gains over these heads on the stored states of the same answers"
    )
    p.add_argument("--conditional", action="store_true", help="also the conditional joint beside --heads")
    p.add_argument("--lookup", action="store_true", help="also context lookup, with the weights in the sidecar")
    p.add_argument(
        "--choices",
        nargs=2,
        metavar=("FILE", "NAME"),
        help="also the fixed tree NAME of a JSON file {name: [paths of ranks]}, Medusa's published ones, as it is, "
        "whatever --nodes; with the gains of the other trees over it",
    )
    p.add_argument("--out", help="JSON report to write")
    p.add_argument("--write", metavar="NAME", help="store the report in the heads' sidecar as evaluation.NAME")
    p.add_argument("--template", choices=TEMPLATES, default="chatml")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--threads", type=int, default=0)
    a = p.parse_args(argv)
    if bool(a.data) == bool(a.questions):
        p.error("give either --data or --questions")
    if a.questions and not (a.backbone and a.cache):
        p.error("--questions needs --backbone and --cache")
    if a.against and not a.data:
        p.error("--against needs --data")
    if (a.conditional or a.adapter or a.recompute) and not a.backbone:
        p.error("--conditional, --adapter and --recompute need --backbone")
    return a


def evaluate(a: argparse.Namespace) -> dict:
    if a.threads:
        torch.set_num_threads(a.threads)
    heads, sidecar = load_heads(a.heads, a.backbone)
    heads.to(a.device)
    lookup = _lookup_of(a, sidecar) if a.lookup else None
    overlap = None
    adapter = read_adapter_of(a.adapter, a.backbone) if a.adapter else None
    _check_belongs(a, sidecar, adapter)
    if a.questions:
        answer_questions(a, adapter)
        rollouts = load_all(Path(a.cache))
    else:
        rollouts, overlap = load_held_out(a.data, "validation", a.max_overlap)
        print(overlap, flush=True)
        if a.answers:
            rollouts = rollouts.select(np.arange(len(rollouts.sources)) < a.answers)
        if a.recompute or adapter:
            backbone = merged_backbone(a.backbone, adapter, getattr(torch, a.dtype), a.device)
            stored, rollouts = with_states(rollouts, backbone)
        else:
            stored = rollouts
    tables = conditional_of(a) if a.conditional else None
    choices = read_choices(Path(a.choices[0]), a.choices[1]) if a.choices else None
    measured = a.max_new_tokens, a.nodes, a.top_m, a.device
    report = report_on(heads, sidecar, rollouts, *measured, tables, lookup, choices)
    if overlap:
        report["overlap"] = overlap.facts()
    if a.against:
        report["against"] = {"heads": a.against, "gains": gains_over(a, stored, heads, sidecar, rollouts)}
    print_report(report)
    if a.out:
        Path(a.out).parent.mkdir(parents=True, exist_ok=True)
        Path(a.out).write_text(json.dumps(report, indent=1) + "\n")
    if a.write:
        sidecar.setdefault("evaluation", {})[a.write] = {k: v for k, v in report.items() if k != "reliability"}
        write_sidecar(Path(a.heads), sidecar)
    return report


def conditional_of(a: argparse.Namespace) -> ConditionalTables:
    """The tables of the conditional joint beside --heads, as preparation makes them."""
    path = conditional_beside(Path(a.heads))
    if path is None:
        raise SystemExit(f"error: --conditional: no {Path(a.heads).stem}.conditional.safetensors beside {a.heads}")
    heads = read_own_heads(Path(a.heads))
    source = open_source(Path(a.backbone))
    return read_conditional(path, source, heads.name, heads.source_sha256, heads.count, heads.token_map)


def _lookup_of(a: argparse.Namespace, sidecar: dict) -> list[list[float]]:
    """The weights of context lookup in the sidecar, checked."""
    if sidecar.get("tokens") == "path":
        raise SystemExit(f"error: --lookup: {a.heads} read the path (tokens: path): no lookup is made for such heads")
    name = Path(a.heads).with_suffix(".json").name
    weights = lookup_weights(sidecar, sidecar["heads"], name)
    if weights is None:
        raise SystemExit(f"error: --lookup: {name} has no weights for it: run export/fit_lookup.py --write first")
    return weights


def read_choices(path: Path, name: str) -> list[tuple[int, ...]]:
    """A named tree of a file {name: [paths of ranks]}, the root left out: every prefix of a path is a path of it."""
    trees = json.loads(path.read_text())
    if not isinstance(trees, dict) or name not in trees:
        known = ", ".join(trees) if isinstance(trees, dict) else f"a {type(trees).__name__}, not names and trees"
        raise ValueError(f"--choices {path}: no tree {name!r} (it holds {known})")
    paths = [tuple(path) for path in trees[name]]
    there = {(), *paths}
    for each in paths:
        if not all(isinstance(rank, int) and rank >= 0 for rank in each) or each[:-1] not in there or not each:
            raise ValueError(
                f"--choices {path}: {name} has the path {list(each)}; expected ranks from 0 and every path's parent"
            )
    return paths


def _check_belongs(a: argparse.Namespace, sidecar: dict, adapter: Adapter | None) -> None:
    """Refuse to measure MEDUSA-2 heads on states that are not their backbone's; MEDUSA-1 heads may be tried on any."""
    wanted = (sidecar.get("backbone") or {}).get("adapter_sha256")
    if wanted is not None and (adapter is None or adapter.sha256 != wanted):
        given = f"--adapter {a.adapter} has sha256 {adapter.sha256[:12]}..." if adapter else "no --adapter is given"
        raise ValueError(f"--heads {a.heads} were trained with the adapter of sha256 {wanted[:12]}..., but {given}")


def report_on(
    heads: MedusaHeads,
    sidecar: dict,
    rollouts: Rollouts,
    limit: int,
    sizes: list[int],
    width: int,
    device: str,
    conditional: ConditionalTables | None = None,
    lookup: list[list[float]] | None = None,
    choices: list[tuple[int, ...]] | None = None,
) -> dict:
    """Everything measured on one set of greedy answers."""
    rollouts = first_tokens(rollouts, limit)
    as_trained = [1.0] * heads.config.heads
    plain, tempered = propose_each(heads, rollouts, width, [as_trained, sidecar["temperatures"]], device)
    accuracy = rank_accuracies(plain, rollouts)
    calibrated = np.array(sidecar["accuracies"])[:, :width]

    def tally(proposals: Proposals, tree: Callable[[int, list[int]], int]) -> Tally:
        return simulate(proposals, rollouts.tokens, rollouts.offsets, tree, limit)

    fixed = tally(plain, fixed_tree(choices)) if choices is not None else None
    trees, gains, lookup_gains, choices_gains = {}, {}, {}, {}
    for n in sizes:
        tallies = {"static": tally(plain, static_tree(calibrated, n))}
        if heads.config.tokens == "path":
            tree = sequential_tree(heads, rollouts, sidecar["temperatures"], n, width)
            tallies["dynamic_temperature"] = tally(tempered, tree)
        else:
            tallies |= {
                "dynamic": tally(plain, dynamic_tree(plain, n)),
                "dynamic_temperature": tally(tempered, dynamic_tree(tempered, n)),
                "dynamic_renormalised": tally(plain, dynamic_tree(plain.renormalised(), n)),
            }
        if conditional is not None:
            if heads.config.tokens == "path":
                raise ValueError("--conditional: heads that read the path are conditional themselves")
            tree = conditional_tree(tempered, rollouts.tokens, rollouts.hidden, conditional, n)
            best = tallies["dynamic_conditional"] = tally(tempered, tree)
            gains[str(n)] = {
                f"over_{base}": paired_gain(tallies[base], best, rollouts.sources)
                for base in ("static", "dynamic_temperature")
            }
        if lookup is not None:
            tree = lookup_tree(HeadsJoint(tempered, conditional, rollouts.hidden), lookup, n)
            best = tallies["dynamic_lookup"] = simulate_lookup(rollouts, tree, limit, len(lookup[0]))
            lookup_gains[str(n)] = {
                f"over_{base}": paired_gain(tallies[base], best, rollouts.sources)
                for base in ("static", "dynamic_temperature", "dynamic_conditional")
                if base in tallies
            }
        if fixed is not None:
            choices_gains[str(n)] = {
                f"{name}_over_choices": paired_gain(fixed, each, rollouts.sources) for name, each in tallies.items()
            }
            tallies["choices"] = fixed
        trees[str(n)] = {name: _summary(each, rollouts.sources) for name, each in tallies.items()}
    report = {
        "answers": len(rollouts.sources),
        "tokens": len(rollouts.tokens),
        "max_new_tokens": limit,
        "top_m": width,
        "counting": "tokens added by verification steps / steps; the prefill's token excluded; pooled",
        "top1": [round(float(r[0]), 4) for r in accuracy],
        "top5": [round(float(r[:5].sum()), 4) for r in accuracy],
        "top10": [round(float(r[:10].sum()), 4) for r in accuracy],
        "top32": [round(float(r.sum()), 4) for r in accuracy],
        "oracle_top_m": _summary(tally(plain, oracle), rollouts.sources),
        "trees": trees,
        "reliability": reliability(tempered, rollouts),
    }
    found = {"gains": gains, "lookup_gains": lookup_gains, "choices_gains": choices_gains}
    return report | {name: each for name, each in found.items() if each}


def first_tokens(rollouts: Rollouts, limit: int) -> Rollouts:
    """Each answer cut to its first `limit` tokens."""
    lengths = np.diff(rollouts.offsets)
    within = np.arange(len(rollouts.tokens)) - np.repeat(rollouts.offsets[:-1], lengths)
    rows = within < limit
    return Rollouts(
        rollouts.hidden[rows],
        rollouts.tokens[rows],
        rollouts.top_ids[rows],
        rollouts.top_logprobs[rows],
        np.concatenate(([0], np.cumsum(np.minimum(lengths, limit)))),
        rollouts.temperature,
        rollouts.sources,
        rollouts.contexts,
    )


def _summary(tally: Tally, sources: list[str]) -> dict:
    return {
        "tokens_per_step": round(tally.tokens_per_step, 4),
        "interval95": [round(x, 4) for x in bootstrap(tally)],
        "accepted_by_depth": [round(float(x), 4) for x in tally.accepted_by_depth / max(1, tally.steps)],
        "by_source": _by_source(tally, sources),
    }


def _by_source(tally: Tally, sources: list[str]) -> dict[str, float]:
    totals: dict[str, np.ndarray] = {}
    for source, pair in zip(sources, tally.per_answer, strict=True):
        totals[source] = totals.get(source, np.zeros(2)) + np.array(pair)
    return {s: round(float(t[0] / max(1, t[1])), 4) for s, t in sorted(totals.items())}


def bootstrap(tally: Tally, draws: int = 1000) -> tuple[float, float]:
    """95% percentile interval of tokens per step, answers resampled."""
    pairs = np.array(tally.per_answer)
    picks = np.random.default_rng(0).integers(len(pairs), size=(draws, len(pairs)))
    sums = pairs[picks].sum(1)
    low, high = np.percentile(sums[:, 0] / np.maximum(1, sums[:, 1]), [2.5, 97.5])
    return float(low), float(high)


def paired_gain(base: Tally, other: Tally, sources: list[str], draws: int = 2000) -> dict:
    """Gain of `other` over `base` in tokens per step, percent, with a 95% interval of a bootstrap over answers in which
    both use the same draw; also by source, where no interval would mean much."""
    before, after = np.array(base.per_answer), np.array(other.per_answer)  # [A, 2]: added, steps

    def gain(b: np.ndarray, o: np.ndarray) -> np.ndarray:
        return 100 * ((o[..., 0] / o[..., 1]) / (b[..., 0] / b[..., 1]) - 1)

    picks = np.random.default_rng(0).integers(len(before), size=(draws, len(before)))
    low, high = np.percentile(gain(before[picks].sum(1), after[picks].sum(1)), [2.5, 97.5])
    names = np.array(sources)
    each = {s: gain(before[names == s].sum(0), after[names == s].sum(0)) for s in sorted(set(sources))}
    return {
        "percent": round(float(gain(before.sum(0), after.sum(0))), 2),
        "interval95": [round(float(low), 2), round(float(high), 2)],
        "by_source": {s: round(float(g), 2) for s, g in each.items()},
    }


def gains_over(
    a: argparse.Namespace, stored: Rollouts, heads: MedusaHeads, sidecar: dict, rollouts: Rollouts
) -> dict[str, dict]:
    """`paired_gain` of `heads` on `rollouts` over the heads --against on `stored`: the same answers, by tree size."""
    other, facts = load_heads(a.against, a.backbone)

    def tally(each: MedusaHeads, its: dict, on: Rollouts, tree: str, n: int) -> Tally:
        on = first_tokens(on, a.max_new_tokens)
        proposals = propose(each, on, a.top_m, its["temperatures"], a.device)
        accuracies = np.array(its["accuracies"])[:, : a.top_m]
        made = static_tree(accuracies, n) if tree == "static" else dynamic_tree(proposals, n)
        if tree != "static" and each.config.tokens == "path":
            made = sequential_tree(each, on, its["temperatures"], n, a.top_m)
        return simulate(proposals, on.tokens, on.offsets, made, a.max_new_tokens)

    other.to(a.device)
    return {
        str(n): {
            tree: paired_gain(
                tally(other, facts, stored, tree, n), tally(heads, sidecar, rollouts, tree, n), rollouts.sources
            )
            for tree in ("static", "dynamic_temperature")
        }
        for n in a.nodes
    }


def answer_questions(a: argparse.Namespace, adapter: Adapter | None = None) -> None:
    """Greedy fp32 answers to the first turns, with their states, into --cache (once)."""
    cache = Path(a.cache)
    if list(cache.glob("shard-*.safetensors")):
        return
    cache.mkdir(parents=True, exist_ok=True)
    questions = [json.loads(line) for line in Path(a.questions).read_text().split("\n") if line.strip()]
    backbone, chat = (
        merged_backbone(a.backbone, adapter, torch.float32, a.device),
        load_chat_tokens(a.backbone, template=a.template),
    )
    mix = Mix(greedy_share=1.0, second_turn_share=0.0, max_answer=a.max_new_tokens)
    # `question_id` becomes the conversation's number, the category its source.
    conversations = [Conversation(q["question_id"], q["category"], q["turns"][0], chat, mix, 0) for q in questions]
    longest = max(len(c.forced) for c in conversations)
    generator = Generator(backbone, len(questions), longest + a.max_new_tokens + 2, chat.opening)
    answers: list[Answer] = []
    started = time.time()
    generator.run(iter(conversations), lambda c: answers.extend(c.answers))
    answers.sort(key=lambda x: x.conversation)
    indices = [q["question_id"] for q in questions]
    write_shard(cache / "shard-questions.safetensors", answers, indices, backbone.config.hidden)
    print(f"answered {len(questions)} questions in {time.time() - started:.0f} s", flush=True)


def print_report(report: dict) -> None:
    print(f"{report['answers']} answers, {report['tokens']} tokens, first {report['max_new_tokens']} of each")
    for name in ("top1", "top5", "top10", "top32"):
        print(f"  {name:6s}" + " ".join(f"{x:.3f}" for x in report[name]))
    print(f"  oracle (any path in the top-{report['top_m']} lists): {report['oracle_top_m']['tokens_per_step']:.3f}")
    for nodes, trees in report["trees"].items():
        for name, row in trees.items():
            low, high = row["interval95"]
            print(
                f"  n={nodes:>3} {name:22s}{row['tokens_per_step']:.3f} [{low:.3f}, {high:.3f}]",
                row["accepted_by_depth"],
            )
        for which, tree in (("gains", "dynamic_conditional"), ("lookup_gains", "dynamic_lookup")):
            for base, gain in report.get(which, {}).get(nodes, {}).items():
                low, high = gain["interval95"]
                print(f"  n={nodes:>3} {tree} {base}: {gain['percent']:+.2f}% [{low:+.2f}, {high:+.2f}]")
        for pair, gain in report.get("choices_gains", {}).get(nodes, {}).items():
            low, high = gain["interval95"]
            print(f"  n={nodes:>3} {pair}: {gain['percent']:+.2f}% [{low:+.2f}, {high:+.2f}]")
    name = report.get("against", {}).get("heads")
    for nodes, trees in report.get("against", {}).get("gains", {}).items():
        for tree, gain in trees.items():
            low, high = gain["interval95"]
            print(f"  n={nodes:>3} {tree} over {name}: {gain['percent']:+.2f}% [{low:+.2f}, {high:+.2f}]")


if __name__ == "__main__":
    evaluate(parse_arguments())
