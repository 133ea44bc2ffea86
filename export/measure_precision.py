"""Measures the precisions of a model's CPU backbones: fidelity, step latency, independence of tree rows.

    PYTHONPATH=export python export/measure_precision.py answers  --gguf FILE --folder DIR --output answers.json
    PYTHONPATH=export python export/measure_precision.py fidelity --folder DIR --answers answers.json NAME...
    PYTHONPATH=export python export/measure_precision.py latency  --folder DIR --threads 1 NAME...
    PYTHONPATH=export python export/measure_precision.py rows     --folder DIR --answers answers.json NAME...

`answers` writes the fp32 model's own greedy answers to training prompts (never MT-Bench); the others read them.
NAME is a precision whose `backbone.NAME.onnx` lies in DIR. Every command prints CSV.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from medusa_export.split_runner import SplitRunner

ROW_COUNTS = (1, 2, 4, 8, 16, 64)
EOS = {0, 2}


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
    texts = json.loads(args.answers.read_text())
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


def latency(args: argparse.Namespace) -> None:
    """Median milliseconds of a run of n rows; precisions interleaved, so that slow moments hit all of them."""
    runners = {name: SplitRunner(args.folder / f"backbone.{name}.onnx", args.threads, args.past) for name in args.names}
    random = np.random.default_rng(0)
    times: dict[tuple[str, int], list[float]] = {}
    for runner in runners.values():
        runner.past[:] = random.standard_normal(runner.past.shape).astype(np.float32)
        runner.length = args.past
    for n in args.rows:
        feeds = {}
        for name, runner in runners.items():
            parents = [-1] + [max(0, (i - 1) // 2) for i in range(1, n)]
            feed = runner.feed(random.integers(0, 40000, n), parents, args.past)
            feeds[name] = feed | {"output_rows": np.arange(n), "want_logits": np.array(False)}
        repeats = max(3, args.repeats // (1 + n // 8))
        # Blocks of runs of one precision: its weights are warm in the cache as they are while decoding.
        for _ in range(3):
            for name, runner in runners.items():
                for i in range(repeats + 1):
                    begin = time.perf_counter()
                    runner.session.run(None, feeds[name])
                    if i:
                        times.setdefault((name, n), []).append((time.perf_counter() - begin) * 1000)
    print("precision,threads,past," + ",".join(f"n{n}" for n in args.rows))
    for name in runners:
        medians = ",".join(f"{statistics.median(times[name, n]):.2f}" for n in args.rows)
        print(f"{name},{args.threads},{args.past},{medians}")


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

    make = command("answers", answers, with_names=False)
    make.add_argument("--prompts", type=Path, required=True)
    make.add_argument("--output", type=Path, required=True)
    make.add_argument("--count", type=int, default=32)
    make.add_argument("--new-tokens", type=int, default=128)
    command("fidelity", fidelity).add_argument("--answers", type=Path, required=True)
    timing = command("latency", latency)
    timing.add_argument("--past", type=int, default=256)
    timing.add_argument("--repeats", type=int, default=15)
    timing.add_argument("--rows", type=int, nargs="+", default=list(ROW_COUNTS))
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
