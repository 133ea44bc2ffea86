"""Measures the precisions of a model's CPU backbones: fidelity, step latency, independence of tree rows.

    PYTHONPATH=export python export/measure_precision.py variants --folder DIR --gguf FILE
    PYTHONPATH=export python export/measure_precision.py answers  --folder DIR --prompts FILE --output answers.json
    PYTHONPATH=export python export/measure_precision.py fidelity --folder DIR --answers answers.json NAME...
    PYTHONPATH=export python export/measure_precision.py latency  --folder DIR --threads 1 NAME...
    PYTHONPATH=export python export/measure_precision.py heads    --folder DIR NAME
    PYTHONPATH=export python export/measure_precision.py rows     --folder DIR --answers answers.json NAME...
    PYTHONPATH=export python export/measure_precision.py bits     --folder DIR --answers answers.json NAME...
    PYTHONPATH=export python export/measure_precision.py products

`answers` writes the fp32 model's own greedy answers to training prompts (never MT-Bench); the others read them.
NAME is a precision whose `backbone.NAME.onnx` lies in DIR; `latency` also takes NAME=s8 and NAME=u8, whose int8 weights
stay as they are or become uint8 (by default they do where products saturate). Every command prints CSV.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from medusa_export.graph.backbone import build_split
from medusa_export.graph.builder import GraphBuilder
from medusa_export.graph.linear import FloatLinear, Int8RowLinear, Linear, quantise_rows, stack
from medusa_export.graph.linear_nbits import ExactQ4Linear, NBitsLinear
from medusa_export.session import int8_product, open_session
from medusa_export.split_runner import SplitRunner, Step
from medusa_export.weights import WeightSource, WeightTensor, open_source
from medusa_export.weights.rotation import RotatedSource
from medusa_export.weights.source import Array

EOS = {0, 2}


def variants(args: argparse.Namespace) -> None:
    """Write the backbones that are measured but not offered, to show what each idea is worth."""
    source = open_source(args.gguf)
    kinds: dict[str, tuple[WeightSource, Linear, str]] = {
        "int8-plain": (source, Int8RowLinear(), "float"),
        "int8-seven-bits": (RotatedSource(source), Int8RowLinear(7), "whole"),
        "fp32-float": (source, FloatLinear(), "float"),
        "int8-turned": (RotatedSource(source), Int8RowLinear(), "float"),
        "int8-turned-double": (RotatedSource(source), Int8RowLinear(), "double"),
        "int4-anew": (source, NBitsLinear(4, 32), "double"),
        "int4-float": (source, ExactQ4Linear(), "float"),
        "int8-weights-only": (source, Int8WeightsLinear(), "float"),
    }
    for name, (weights, linear, sums) in kinds.items():
        path = args.folder / f"backbone.{name}.onnx"
        build_split(weights, linear, path, True, lambda done, total: None, sums).finish()


class Int8WeightsLinear(FloatLinear):
    """Int8 weights, float32 activations: what the activations alone cost is the rest."""

    def apply(self, b: GraphBuilder, name: str, x: str, parts: list[WeightTensor], bias: Array | None = None) -> str:
        codes, scale = quantise_rows(stack(parts))
        weight = (codes * scale[:, None]).T.astype(np.float32)
        return b.node("MatMul", [x, b.weight(name + ".weight", weight)], name)


def answers(args: argparse.Namespace) -> None:
    """Greedy answers of the fp32 backbone, as token ids."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(args.folder / "tokenizer.json"))
    with args.prompts.open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    chosen = [lines[i]["prompt"] for i in np.random.default_rng(1).permutation(len(lines))]
    runner = SplitRunner(args.folder / "backbone.fp32.onnx", threads=args.threads)
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    made: list[dict[str, Any]] = []
    for prompt in chosen:
        text = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        ids = tokenizer.encode(text).ids
        if len(ids) > 300:
            continue
        made.append({"prompt": ids, "answer": greedy(runner, ids, args.new_tokens)})
        args.output.write_text(json.dumps(made))
        if len(made) == args.count:
            break
    print(f"{len(made)} answers, {sum(len(a['answer']) for a in made)} tokens")


def greedy(runner: SplitRunner, ids: list[int], limit: int) -> list[int]:
    runner.reset()
    step = runner.run(np.asarray(ids), rows=np.array([len(ids) - 1]))
    out: list[int] = []
    while True:
        runner.append(step)
        out.append(int(step.next_tokens[0]))
        if out[-1] in EOS or len(out) == limit:
            return out
        step = runner.run(np.array([out[-1]]))


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64) - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def fidelity(args: argparse.Namespace) -> None:
    """Teacher-forced over the answers: greedy agreement and KL(fp32 || precision) of the next token."""
    texts = in_groups(json.loads(args.answers.read_text()), args.group)
    reference = SplitRunner(args.folder / "backbone.fp32.onnx", threads=args.threads)
    runners = {name: SplitRunner(args.folder / f"backbone.{name}.onnx", threads=args.threads) for name in args.names}
    agree: dict[str, list[float]] = {name: [] for name in runners}
    kl: dict[str, list[float]] = {name: [] for name in runners}
    for text in texts:
        ids = np.asarray(text["prompt"] + text["answer"][:-1])
        rows = np.arange(len(text["prompt"]) - 1, len(ids))
        true = log_softmax(reference.run(ids, rows=rows, want_logits=True).logits)
        for name, runner in runners.items():
            other = log_softmax(runner.run(ids, rows=rows, want_logits=True).logits)
            agree[name] += list(other.argmax(-1) == true.argmax(-1))
            kl[name] += list((np.exp(true) * (true - other)).sum(-1))
    print("precision,tokens,greedy_agreement,mean_kl,p99_kl,bytes")
    for name in runners:
        size = sum(p.stat().st_size for p in args.folder.glob(f"backbone.{name}.onnx*"))
        p99 = np.percentile(kl[name], 99)
        print(f"{name},{len(kl[name])},{np.mean(agree[name]):.4f},{np.mean(kl[name]):.5f},{p99:.4f},{size}")


def in_groups(texts: list[dict[str, list[int]]], size: int) -> list[dict[str, list[int]]]:
    """Longer contexts: `size` conversations in a row become one prompt, up to the answer of the last."""
    groups = [texts[i : i + size] for i in range(0, len(texts) - size + 1, size)]
    before = [[token for text in group[:-1] for part in text.values() for token in part] for group in groups]
    return [
        {"prompt": context + group[-1]["prompt"], "answer": group[-1]["answer"]}
        for context, group in zip(before, groups, strict=True)
    ]


def latency(args: argparse.Namespace) -> None:
    """Milliseconds of a run of n rows, p10 and median; precisions interleaved, so that slow moments hit all of them."""
    runners = {}
    for name in args.names:
        precision, _, kind = name.partition("=")
        path = args.folder / f"backbone.{precision}.onnx"
        runners[name] = SplitRunner(path, args.threads, args.past, {"s8": False, "u8": True}.get(kind))
    random = np.random.default_rng(0)
    times: dict[tuple[str, int], list[float]] = {(name, n): [] for name in runners for n in args.rows}
    feeds = {}
    for runner in runners.values():
        runner.past[:] = np.rint(50 * random.standard_normal(runner.past.shape))
        runner.length = args.past
    for name, n in times:
        parents = [-1] + [max(0, (i - 1) // 2) for i in range(1, n)]
        feed = runners[name].feed(random.integers(0, 40000, n), parents, args.past)
        feeds[name, n] = feed | {"output_rows": np.arange(n), "want_logits": np.array(False)}
    end = time.perf_counter() + args.seconds
    while time.perf_counter() < end:
        for name, n in times:
            # Runs of one precision in a row, the first not counted: its weights are as warm as they are while decoding.
            for i in range(5 if n < 16 else 3):
                begin = time.perf_counter()
                runners[name].session.run(None, feeds[name, n])
                if i:
                    times[name, n].append((time.perf_counter() - begin) * 1000)
    print("precision,threads,past,statistic,runs," + ",".join(f"n{n}" for n in args.rows))
    for name in runners:
        for label, share in (("p10", 10), ("median", 50)):
            values = ",".join(f"{np.percentile(times[name, n], share):.2f}" for n in args.rows)
            print(f"{name},{args.threads},{args.past},{label},{len(times[name, args.rows[0]])},{values}")


def heads(args: argparse.Namespace) -> None:
    """Milliseconds of a heads graph, run after a backbone step each time (cold, as while decoding) and alone (warm)."""
    runner = SplitRunner(args.folder / f"backbone.{args.names[0]}.onnx", args.threads, 256)
    runner.length = 256
    hidden = runner.run(np.arange(8)).hidden
    print("graph,top_m,cold_p10,cold_median,warm_p10,warm_median")
    for path in sorted(args.folder.glob("heads.*.onnx")):
        session = open_session(path)
        feed = {"hidden": hidden, "row": np.array([5]), "top_m": np.array([32])}
        times: dict[bool, list[float]] = {True: [], False: []}
        for i in range(2 * args.repeats):
            is_cold = i % 2 == 0
            if is_cold:
                runner.run(np.arange(8))
            begin = time.perf_counter()
            session.run(None, feed)
            times[is_cold].append((time.perf_counter() - begin) * 1000)
        values = [f"{np.percentile(times[k], q):.3f}" for k in (True, False) for q in (10, 50)]
        print(f"{path.name},32,{','.join(values)}")


def rows(args: argparse.Namespace) -> None:
    """Rows of the answers run one by one, against the same rows inside trees among random siblings.

    A tree holds 4 true tokens on a path and n - 4 random nodes; only the true ones are kept, as after a real step.
    """
    texts = json.loads(args.answers.read_text())[: args.texts]
    print("precision,n,rows,equal_to_the_bit,max_logit_difference,argmax_flips,largest_gap_of_a_flip")
    for name in args.names:
        path = args.folder / f"backbone.{name}.onnx"
        plain, trees = SplitRunner(path, args.threads, 512), SplitRunner(path, args.threads, 512)
        single = [run_singly(plain, text) for text in texts]
        for n in args.rows:
            random, equal, worst, gaps, total = np.random.default_rng(0), 0, 0.0, [], 0
            for text, steps in zip(texts, single, strict=True):
                for step, logits in zip(steps, run_in_trees(trees, text, n, random), strict=False):
                    difference = float(np.abs(step.logits[0] - logits).max())
                    total, equal, worst = total + 1, equal + (difference == 0), max(worst, difference)
                    if logits.argmax() != step.logits[0].argmax():
                        best = np.sort(step.logits[0])[-2:]
                        gaps.append(float(best[1] - best[0]))
            largest = f"{max(gaps):.4f}" if gaps else ""
            print(f"{name},{n},{total},{equal / total:.4f},{worst:.2e},{len(gaps)},{largest}", flush=True)


def run_singly(runner: SplitRunner, text: dict[str, list[int]]) -> list[Step]:
    runner.reset()
    runner.append(runner.run(np.asarray(text["prompt"])))
    steps = []
    for token in text["answer"]:
        steps.append(runner.run(np.array([token]), want_logits=True))
        runner.append(steps[-1])
    return steps


def run_in_trees(
    runner: SplitRunner, text: dict[str, list[int]], n: int, random: np.random.Generator
) -> Iterator[np.ndarray]:
    """The logits [V] of each token of the answer, in order, from trees of n nodes."""
    runner.reset()
    runner.append(runner.run(np.asarray(text["prompt"])))
    answer = text["answer"]
    for begin in range(0, len(answer) - 3, 4):
        places = [0, *sorted(random.choice(np.arange(1, n), 3, replace=False))]
        ids, parents = random.integers(3, 40000, n), [-1] + [int(random.integers(0, i)) for i in range(1, n)]
        ids[places] = answer[begin : begin + 4]
        for above, below in itertools.pairwise(places):
            parents[below] = int(above)
        step = runner.run(ids, parents=parents, rows=np.array(places), want_logits=True)
        yield from step.logits
        runner.append(step, np.array(places))


def bits(args: argparse.Namespace) -> None:
    """A hash of the logits of the answers' first rows, with int8 weights as they are (s8) and as uint8 (u8)."""
    texts = json.loads(args.answers.read_text())
    print("precision,weights,rows,sha256_of_logits")
    for name, kind in itertools.product(args.names, ("s8", "u8")):
        runner = SplitRunner(args.folder / f"backbone.{name}.onnx", args.threads, unsigned_weights=kind == "u8")
        digest, left = hashlib.sha256(), args.count
        for text in texts:
            ids = np.asarray(text["prompt"] + text["answer"][:-1])
            wanted = np.arange(len(text["prompt"]) - 1, len(ids))[:left]
            if left > 0:
                digest.update(runner.run(ids, rows=wanted, want_logits=True).logits.tobytes())
            left -= len(wanted)
        print(f"{name},{kind},{args.count - max(left, 0)},{digest.hexdigest()}", flush=True)


def products(args: argparse.Namespace) -> None:
    """Milliseconds of one int8 product [n, K] x [K, N], weights as they are (s8) and as uint8 (u8), by turns."""
    random = np.random.default_rng(0)
    print("K,N,weights,threads," + ",".join(f"n{n}" for n in args.rows))
    for k, columns in ((576, 3072), (1536, 576), (576, 49152)):
        graph = int8_product(random.integers(-127, 128, (k, columns)).astype(np.int8))
        times: dict[tuple[bool, int], list[float]] = {}
        sessions = {unsigned: open_session(graph, args.threads, unsigned) for unsigned in (False, True)}
        for _, n, unsigned in itertools.product(range(args.rounds), args.rows, sessions):
            feed = {"x": random.integers(0, 256, (n, k)).astype(np.uint8)}
            begin = time.perf_counter()
            sessions[unsigned].run(None, feed)
            times.setdefault((unsigned, n), []).append((time.perf_counter() - begin) * 1000)
        for unsigned in sessions:
            values = ",".join(f"{np.median(times[unsigned, n]):.3f}" for n in args.rows)
            print(f"{k},{columns},{'u8' if unsigned else 's8'},{args.threads},{values}", flush=True)


def int_list(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    def command(name: str, run: Any, with_names: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=(run.__doc__ or "").splitlines()[0])
        sub.set_defaults(run=run)
        sub.add_argument("--folder", type=Path, required=True)
        sub.add_argument("--threads", type=int, default=1)
        if with_names:
            sub.add_argument("names", nargs="+", metavar="NAME")
        return sub

    command("variants", variants, with_names=False).add_argument("--gguf", type=Path, required=True)
    make = command("answers", answers, with_names=False)
    make.add_argument("--prompts", type=Path, required=True)
    make.add_argument("--output", type=Path, required=True)
    make.add_argument("--count", type=int, default=32)
    make.add_argument("--new-tokens", type=int, default=128)
    faithful = command("fidelity", fidelity)
    faithful.add_argument("--answers", type=Path, required=True)
    faithful.add_argument("--group", type=int, default=1, help="conversations joined into one context")
    timing = command("latency", latency)
    timing.add_argument("--past", type=int, default=256)
    timing.add_argument("--seconds", type=float, default=45)
    timing.add_argument("--rows", type=int_list, default=[1, 2, 4, 8, 16, 64], metavar="N,N")
    command("heads", heads).add_argument("--repeats", type=int, default=150)
    same = command("bits", bits)
    same.add_argument("--answers", type=Path, required=True)
    same.add_argument("--count", type=int, default=1000, help="rows")
    alone = commands.add_parser("products", help=(products.__doc__ or "").splitlines()[0])
    alone.set_defaults(run=products)
    alone.add_argument("--threads", type=int, default=1)
    alone.add_argument("--rounds", type=int, default=100)
    alone.add_argument("--rows", type=int_list, default=[1, 2, 4, 8, 16, 64], metavar="N,N")
    independence = command("rows", rows)
    independence.add_argument("--answers", type=Path, required=True)
    independence.add_argument("--texts", type=int, default=16)
    independence.add_argument("--rows", type=int_list, default=[8, 64], metavar="N,N")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
