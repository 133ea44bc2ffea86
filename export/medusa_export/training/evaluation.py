"""The run of `evaluate`: accuracies of heads and tokens per step of trees, on greedy answers."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from ..errors import ExportError
from ..weights.adapter import Adapter, read_adapter_of
from ..weights.conditional_file import ConditionalTables
from .backbone import load_backbone
from .calibration import propose_each, rank_accuracies
from .chat_tokens import load_chat_tokens
from .checkpoint import conditional_of, load_heads, write_sidecar
from .conversations import Answer, Conversation
from .generation import Generator
from .inputs import json_lines_of
from .machine import set_up
from .model import MedusaHeads
from .near_duplicates import load_held_out
from .recipes import Mix
from .sequences import with_states
from .shards import Rollouts, load_all, write_shard
from .simulation import Tally, bootstrap, dynamic_trees, oracle, paired_gain, simulate, static_trees
from .trees import HeadsJoint


def evaluate(a: argparse.Namespace) -> dict:
    """The report, printed and stored where that is asked for; see commands/evaluate.py for the options."""
    set_up(a)
    heads, sidecar = load_heads(a.heads, a.backbone)
    heads.to(a.device)
    adapter = read_adapter_of(a.adapter, a.backbone) if a.adapter else None
    _check_belongs(a, sidecar, adapter)
    overlap = None
    if a.questions:
        answer_questions(a, adapter)
        rollouts = load_all(Path(a.cache))
    else:
        rollouts, overlap = load_held_out(a.data, "validation", a.max_overlap)
        print(overlap, flush=True)
        if a.answers:
            rollouts = rollouts.select(np.arange(len(rollouts.sources)) < a.answers)
        if adapter is not None:
            _, rollouts = with_states(rollouts, load_backbone(a.backbone, torch.float32, a.device, adapter))
    tables = conditional_of(a.heads, a.backbone) if a.conditional else None
    report = report_on(heads, sidecar, rollouts.first_tokens(a.max_new_tokens), a, tables)
    if overlap:
        report["overlap"] = overlap.facts()
    print_report(report)
    if a.out:
        Path(a.out).parent.mkdir(parents=True, exist_ok=True)
        Path(a.out).write_text(json.dumps(report, indent=1) + "\n")
    if a.write:
        sidecar.setdefault("evaluation", {})[a.write] = report
        write_sidecar(Path(a.heads), sidecar)
    return report


def _check_belongs(a: argparse.Namespace, sidecar: dict, adapter: Adapter | None) -> None:
    """Refuse to measure MEDUSA-2 heads on states that are not their backbone's; MEDUSA-1 heads may be tried on any."""
    wanted = (sidecar.get("backbone") or {}).get("adapter_sha256")
    if wanted is not None and (adapter is None or adapter.sha256 != wanted):
        given = f"--adapter {a.adapter} has sha256 {adapter.sha256[:12]}..." if adapter else "no --adapter is given"
        raise ExportError(f"--heads {a.heads} were trained with the adapter of sha256 {wanted[:12]}..., but {given}")


def report_on(
    heads: MedusaHeads,
    sidecar: dict,
    rollouts: Rollouts,
    a: argparse.Namespace,
    tables: ConditionalTables | None,
) -> dict:
    """Everything measured on one set of greedy answers."""
    temperatures = [[1.0] * heads.config.heads, sidecar["temperatures"]]
    plain, tempered = propose_each(heads, rollouts, a.top_m, temperatures, a.device)
    accuracy, calibrated = rank_accuracies(plain, rollouts), np.array(sidecar["accuracies"])[:, : a.top_m]
    joint = HeadsJoint(tempered, tables, rollouts.hidden)
    trees, gains = {}, {}
    for n in a.nodes:
        made = {
            "static": static_trees(plain.ids, calibrated, n),
            "dynamic": dynamic_trees(HeadsJoint(plain), n),
            "dynamic_temperature": dynamic_trees(HeadsJoint(tempered), n),
            "dynamic_renormalised": dynamic_trees(HeadsJoint(plain.renormalised()), n),
        }
        made |= {} if tables is None else {"dynamic_conditional": dynamic_trees(joint, n)}
        tallies = {name: simulate(rollouts, each, a.max_new_tokens) for name, each in made.items()}
        trees[str(n)] = {name: _summary(each, rollouts.sources) for name, each in tallies.items()}
        gains[str(n)] = {
            f"dynamic_conditional_over_{base}": paired_gain(tallies[base], tallies["dynamic_conditional"])
            for base in ("static", "dynamic_temperature")
            if "dynamic_conditional" in tallies
        }
    return {
        "answers": len(rollouts.sources),
        "tokens": len(rollouts.tokens),
        "max_new_tokens": a.max_new_tokens,
        "top_m": a.top_m,
        "counting": "tokens added by verification steps / steps; the prefill's token excluded; pooled",
        **{f"top{m}": [round(float(row[:m].sum()), 4) for row in accuracy] for m in (1, 5, 10, 32)},
        "oracle_top_m": _summary(simulate(rollouts, oracle(plain.ids), a.max_new_tokens), rollouts.sources),
        "trees": trees,
        "gains": gains,
    }


def _summary(tally: Tally, sources: list[str]) -> dict:
    shares = np.array(tally.accepted_by_depth) / max(1, tally.steps)
    return {
        "tokens_per_step": round(tally.tokens_per_step, 4),
        "interval95": [round(x, 4) for x in bootstrap(tally)],
        "accepted_by_depth": [round(float(x), 4) for x in shares],
        "by_source": _by_source(tally, sources),
    }


def _by_source(tally: Tally, sources: list[str]) -> dict[str, float]:
    totals: dict[str, np.ndarray] = {}
    for source, pair in zip(sources, tally.per_answer, strict=True):
        totals[source] = totals.get(source, np.zeros(2)) + np.array(pair)
    return {s: round(float(t[0] / max(1, t[1])), 4) for s, t in sorted(totals.items())}


def answer_questions(a: argparse.Namespace, adapter: Adapter | None = None) -> None:
    """Greedy fp32 answers to the first turns, with their states, into --cache (once)."""
    cache = Path(a.cache)
    if list(cache.glob("shard-*.safetensors")):
        return
    questions = json_lines_of("--questions", a.questions, {"question_id": int, "category": str, "turns": list[str]})
    backbone = load_backbone(a.backbone, torch.float32, a.device, adapter)
    cache.mkdir(parents=True, exist_ok=True)
    chat = load_chat_tokens(a.backbone, template=a.template)
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
    write_shard(cache / "shard-questions.safetensors", answers, indices, backbone.config.hidden_size)
    print(f"answered {len(questions)} questions in {time.time() - started:.0f} s", flush=True)


def print_report(report: dict) -> None:
    print(f"{report['answers']} answers, {report['tokens']} tokens, first {report['max_new_tokens']} of each")
    for name in ("top1", "top5", "top10", "top32"):
        print(f"  {name:6s}" + " ".join(f"{x:.3f}" for x in report[name]))
    print(f"  oracle (any path in the top-{report['top_m']} lists): {report['oracle_top_m']['tokens_per_step']:.3f}")
    for nodes, trees in report["trees"].items():
        for name, row in trees.items():
            low, high = row["interval95"]
            shares = " ".join(f"{x:.3f}" for x in row["accepted_by_depth"])
            print(f"  n={nodes:>3} {name:22s}{row['tokens_per_step']:.3f} [{low:.3f}, {high:.3f}]  by depth {shares}")
        for name, gain in report["gains"][nodes].items():
            low, high = gain["interval95"]
            print(f"  n={nodes:>3} {name}: {gain['percent']:+.2f}% [{low:+.2f}, {high:+.2f}]")
