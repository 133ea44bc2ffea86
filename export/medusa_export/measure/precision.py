"""The measurements of `measure-precision`; every one prints CSV. See commands/measure_precision.py for the options."""

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

from ..errors import ExportError
from ..training.inputs import json_lines_of, json_list_of
from ..weights.checked import check_regular, reading
from .session import int8_product, open_session
from .split_runner import SplitRunner, Step

EOS = {0, 2}


def open_backbone(
    folder: Path, precision: str, threads: int, capacity: int = 256, unsigned_weights: bool | None = None
) -> SplitRunner:
    """A precision of a prepared folder; one that is not there is refused with those that are."""
    path = folder / f"backbone.{precision}.onnx"
    if not path.is_file():
        there = sorted(p.name.removeprefix("backbone.").removesuffix(".onnx") for p in folder.glob("backbone.*.onnx"))
        raise ExportError(f"--folder {folder} has no {path.name} (precisions there: {', '.join(there) or 'none'})")
    with reading(path):
        return SplitRunner(path, threads, capacity, unsigned_weights)


def read_answers(args: argparse.Namespace) -> list[dict[str, list[int]]]:
    """What `answers` wrote."""
    return json_list_of("--answers", args.answers, {"prompt": list[int], "answer": list[int]})


def answers(args: argparse.Namespace) -> None:
    """Greedy answers of the fp32 backbone, as token ids."""
    from tokenizers import Tokenizer

    lines = json_lines_of("--prompts", args.prompts, {"prompt": str})
    vocabulary = args.folder / "tokenizer.json"
    with reading(vocabulary):
        check_regular(vocabulary)
        tokenizer = Tokenizer.from_file(str(vocabulary))
    chosen = [lines[i]["prompt"] for i in np.random.default_rng(1).permutation(len(lines))]
    runner = open_backbone(args.folder, "fp32", args.threads)
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
    texts = in_groups(read_answers(args), args.group)
    reference = open_backbone(args.folder, "fp32", args.threads)
    runners = {name: open_backbone(args.folder, name, args.threads) for name in args.names}
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
        unsigned = {"s8": False, "u8": True}.get(kind)
        runners[name] = open_backbone(args.folder, precision, args.threads, args.past, unsigned)
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


def rows(args: argparse.Namespace) -> None:
    """Rows of the answers run one by one, against the same rows inside trees among random siblings.

    A tree holds 4 true tokens on a path and n - 4 random nodes; only the true ones are kept, as after a real step.
    """
    texts = read_answers(args)[: args.texts]
    print("precision,n,rows,equal_to_the_bit,max_logit_difference,argmax_flips,largest_gap_of_a_flip")
    for name in args.names:
        plain, trees = (open_backbone(args.folder, name, args.threads, 512) for _ in range(2))
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
    texts = read_answers(args)
    print("precision,weights,rows,sha256_of_logits")
    for name, kind in itertools.product(args.names, ("s8", "u8")):
        runner = open_backbone(args.folder, name, args.threads, unsigned_weights=kind == "u8")
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
