"""A bench run's greedy answers with the backbone's states, for trees to be simulated on (evaluate_heads.py --cache).

    medusa-plus bench --tree none --questions mt-bench --output runs/none
    python export/states_of_run.py --run runs/none --model onnx/smollm2-135m-instruct --out STATES
    python export/evaluate_heads.py --heads ... --questions Q --backbone MODEL --cache STATES --max-new-tokens 512

The states come out of the exported CPU graph that the run used, read over each conversation's own tokens (teacher
forced), both turns: what the heads would have seen at every step, whatever the tree. Greedy text does not depend on
the tree, so one `none` run serves all trees. Every stored token is held against the graph's own choice.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np

from medusa_export.heads.conversations import Answer
from medusa_export.heads.shards import TOP, write_shard
from medusa_export.split_runner import SplitRunner


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--run", type=Path, required=True, help="folder of a finished bench run")
    p.add_argument("--model", type=Path, required=True, help="prepared model folder (manifest.json)")
    p.add_argument("--out", type=Path, required=True, help="folder for the shard")
    p.add_argument("--rows", type=int, default=128, help="tokens in one run of the graph (default %(default)s)")
    p.add_argument("--threads", type=int, default=1)
    return p.parse_args(argv)


def find_graph(folder: Path, precision: str) -> tuple[Path, str, int]:
    """Path, sha256 (of all its files, as run.json has them) and hidden size of the CPU graph of a prepared model."""
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = next((b for b in manifest["backbones"] if (b["precision"], b["layout"]) == (precision, "split")), None)
    if entry is None:
        raise SystemExit(f"error: {folder} has no CPU graph of precision {precision}: medusa-plus prepare makes it")
    sha256 = "+".join(f["sha256"] for f in entry["files"])
    return folder / entry["file"], sha256, manifest["model"]["hidden_size"]


def answers_of_run(run: Path, runner: SplitRunner, rows: int) -> Iterator[tuple[Answer, int]]:
    """Each turn's answer with its states, and how many of its tokens the graph would not have chosen."""
    for line in (run / "records.jsonl").read_text().split("\n"):
        if not line.strip():
            continue
        record = json.loads(line)
        for repeat in record["repeats"]:
            if repeat["temperature"] != 0:
                raise SystemExit(f"error: question {record['question_id']} was sampled: give a run at temperature 0")
            for turn, each in enumerate(repeat["turns"]):
                context, tokens = each["prompt_token_ids"], each["token_ids"]
                answer = Answer(record["question_id"], record["category"], 0.0, turn, context, tokens)
                yield answer, fill(answer, runner, rows)


def fill(answer: Answer, runner: SplitRunner, rows: int) -> int:
    """Reads context and answer, less its last token, which no state follows. Returns the tokens chosen otherwise."""
    runner.reset()
    text, first = answer.context + answer.tokens[:-1], len(answer.context) - 1
    for start in range(0, len(text), rows):
        part = text[start : start + rows]
        if start + len(part) <= first:  # context alone: only its keys and values are wanted
            runner.append(runner.run(part, rows=[0]))
            continue
        step = runner.run(part, rows=np.arange(max(0, first - start), len(part)), want_logits=True)
        runner.append(step)
        top = np.argsort(-step.logits, axis=1, kind="stable")[:, :TOP]
        normaliser = np.logaddexp.reduce(step.logits.astype(np.float64), axis=1)
        answer.hidden += list(step.hidden.astype(np.float16))
        answer.top_ids += list(top.astype(np.int32))
        chosen = np.take_along_axis(step.logits, top, axis=1) - normaliser[:, None]
        answer.top_logprobs += list(chosen.astype(np.float16))
    return sum(int(best[0]) != token for best, token in zip(answer.top_ids, answer.tokens, strict=True))


def main(a: argparse.Namespace) -> None:
    info = json.loads((a.run / "run.json").read_text())
    graph, sha256, hidden_size = find_graph(a.model, info["model"]["precision"])
    if info["model"]["backbone_sha256"] != sha256:
        raise SystemExit(f"error: {a.run} was made with another graph than that of {a.model}: prepare that one again")
    runner = SplitRunner(graph, a.threads)
    a.out.mkdir(parents=True, exist_ok=True)
    answers: list[Answer] = []
    others, started = 0, time.time()
    for answer, other in answers_of_run(a.run, runner, a.rows):
        answers.append(answer)
        others += other
        if len(answers) % 20 == 0:
            print(f"{len(answers)} answers, {time.time() - started:.0f} s", flush=True)
    if not answers:
        raise SystemExit(f"error: {a.run} holds no finished question")
    ids = sorted({answer.conversation for answer in answers})
    write_shard(a.out / "shard-run.safetensors", answers, ids, hidden_size)
    tokens = sum(len(answer.tokens) for answer in answers)
    print(f"{len(answers)} answers, {tokens} tokens; {others} are not the graph's own choice (0 expected)")
    if others:
        raise SystemExit(1)


if __name__ == "__main__":
    main(parse_arguments())
