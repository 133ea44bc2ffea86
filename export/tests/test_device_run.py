"""The one command for a rented machine, on a tiny model and a CPU: stages, limits, interruption, taking up again."""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tokenizers")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from heads_tiny import write_tiny_model  # noqa: E402

import device_run  # noqa: E402
import pack_answers  # noqa: E402
from device_run import Limits, Run, Stage, join, split  # noqa: E402
from medusa_export.heads.checkpoint import load_heads  # noqa: E402
from medusa_export.heads.shards import load_rollouts  # noqa: E402

SPLITS = ("train", "validation", "calibration")


def write_inputs(folder: Path) -> list[str]:
    model = write_tiny_model(folder / "model")
    prompts, questions = folder / "prompts.jsonl", folder / "questions.jsonl"
    prompts.write_text("".join(json.dumps({"source": "ab"[i % 2], "prompt": f"Say {i}."}) + "\n" for i in range(99)))
    rows = [{"question_id": i, "category": "c", "turns": [f"Ask {i}?"]} for i in range(3)]
    questions.write_text("".join(json.dumps(r) + "\n" for r in rows))
    fixed = f"run --backbone {model} --prompts {prompts} --questions {questions} --device cpu --seconds 300 "
    fixed += "--conversations 80 --slots 16 --shard 30 --batch 64"
    distil = "--generator batched --dtype float32 --max-answer 20 --magpie 0 --system s --threads 1"
    return [*fixed.split(), "--distil-options", distil, "--data-options=--max-overlap 1"]


def quick(stage: Stage) -> Stage:
    """The stage with hardly any time for training."""
    return Stage(**{**vars(stage), "share": 0.001, "least": 3, "grace": 0})


def test_all_stages_then_a_fresh_machine_goes_on_with_what_came_home(tmp_path: Path) -> None:
    arguments = write_inputs(tmp_path)
    table = {s.name: quick(s) if s.name == "medusa1" else s for s in device_run.STAGES}
    first = device_run.parse_arguments([*arguments, "--work", str(tmp_path / "w1"), "--results", str(tmp_path / "r1")])
    report = Run(first, (table["answers"], table["pack"])).run()
    assert [r["outcome"] for r in report] == ["done", "done"], (tmp_path / "w1" / "answers.log").read_text()
    assert {p.name for p in (tmp_path / "r1").iterdir()} == {"results.tar", "answers-00.npz"}
    data = load_rollouts(tmp_path / "w1" / "data", SPLITS)
    shutil.move(tmp_path / "w1", tmp_path / "gone")

    second = device_run.parse_arguments(
        [
            *arguments,
            "--work",
            str(tmp_path / "w2"),
            "--results",
            str(tmp_path / "r2"),
            "--previous",
            str(tmp_path / "r1"),
        ]
    )
    stages = tuple(table[n] for n in ("answers", "pack", "medusa1", "held-out", "questions"))
    report = Run(second, stages).run()
    assert [r["outcome"] for r in report] == ["done before", "done before", "done", "done", "done"], report
    again = load_rollouts(tmp_path / "w2" / "data", SPLITS)
    assert again.tokens.tolist() == data.tokens.tolist() and again.contexts == data.contexts
    np.testing.assert_allclose(again.hidden, data.hidden, atol=4e-3)
    _, sidecar = load_heads(tmp_path / "w2" / "medusa1.safetensors", second.backbone)
    assert {"held_out", "questions_first_turns"} == set(sidecar["evaluation"])
    assert sidecar["training"]["distil"]["arguments"]["conversations"] == 80  # went home and came back
    with tarfile.open(tmp_path / "r2" / "results.tar") as tar:
        assert {"medusa1.json", "medusa1/losses.csv", "device_run.json", "held-out.log"} <= set(tar.getnames())

    # The same machine asked again does nothing; a fresh one with these results has the heads too.
    assert {r["outcome"] for r in Run(second, stages).run()} == {"done before"}
    third = device_run.parse_arguments(
        [
            *arguments,
            "--work",
            str(tmp_path / "w3"),
            "--results",
            str(tmp_path / "r3"),
            "--previous",
            str(tmp_path / "r2"),
        ]
    )
    assert Run(third, stages[:3]).run()[2]["outcome"] == "done before"
    assert (tmp_path / "r3" / "medusa1.safetensors").read_bytes() == (
        tmp_path / "r2" / "medusa1.safetensors"
    ).read_bytes()


def test_lookups_are_fitted_on_answers_made_for_it(tmp_path: Path) -> None:
    arguments = write_inputs(tmp_path)
    a = device_run.parse_arguments([*arguments, "--work", str(tmp_path / "w"), "--results", str(tmp_path / "r")])
    table = {s.name: s for s in device_run.STAGES}
    few = table["unseen"].command.replace("1500", "40")
    unseen = Stage(**{**vars(table["unseen"]), "command": few, "least": 5, "grace": 0})
    stages = (table["answers"], quick(table["medusa1"]), unseen, table["lookup"], table["lookup-held-out"])
    report = Run(a, stages).run()
    assert {r["outcome"] for r in report} == {"done"}, report
    sidecar = json.loads((tmp_path / "w" / "medusa1.json").read_text())
    assert len(sidecar["lookup"]["weights"]) == 5 and sidecar["lookup"]["fitted_on"]["tokens"] > 0
    assert "dynamic_lookup" in sidecar["evaluation"]["held_out_lookup"]["trees"]["64"]


def small_run(tmp_path: Path, stages: tuple[Stage, ...], seconds: float = 60, limits: Limits | None = None) -> Run:
    arguments = write_inputs(tmp_path)
    a = device_run.parse_arguments([*arguments, "--work", str(tmp_path / "w"), "--results", str(tmp_path / "r")])
    a.seconds = seconds
    return Run(a, stages, limits or Limits())


def test_time_failure_and_missing_needs_are_said(tmp_path: Path) -> None:
    stages = (
        Stage("fails", "{python} -c import(nothing)", 0.1, 1),
        Stage("absent", "{python} --version", 0.1, 1, needs=("train_nothing.py",)),
        Stage("long", "{python} -c __import__('time').sleep(60)", 0.1, 1),
        Stage("late", "{python} --version", 0.1, 50),
        Stage("fine", "{python} --version", 0.1, 0.1),
    )
    run = small_run(tmp_path, stages, seconds=22)
    outcomes = {str(r["stage"]): str(r["outcome"]) for r in run.run()}
    assert outcomes["fails"].startswith("failed with exit code 1: see fails.log")
    assert outcomes["absent"] == "skipped: no train_nothing.py"
    assert outcomes["long"] == "stopped: out of time" and not (tmp_path / "w" / "done" / "long").exists()
    assert outcomes["late"].startswith("not begun") and outcomes["fine"] == "done"
    assert "SyntaxError" in (tmp_path / "w" / "fails.log").read_text()


def test_a_command_that_knows_no_limit_leaves_time_for_the_next(tmp_path: Path) -> None:
    sleeps = "{python} -c __import__('time').sleep(60)"
    stages = (Stage("endless", sleeps, 0.01, 1), Stage("next", "{python} --version", 0.1, 1))
    run = small_run(tmp_path, stages, seconds=90)
    outcomes = [str(r["outcome"]) for r in run.run()]
    assert outcomes == ["stopped: out of time", "done"] and run.left > 50


def test_results_keep_to_the_limits_and_bulk_gives_way(tmp_path: Path) -> None:
    bulk = Stage("bulk", "{python} --version", 0.1, 0, keep=("b0", "b1"), bulk=True)
    heads = Stage("heads", "{python} --version", 0.1, 0, keep=("h",))
    run = small_run(tmp_path, (bulk, heads), limits=Limits(files=4, bytes_each=4_000_000, bytes_all=9_000_000))
    run.work.mkdir()
    for name, size in (("b0", 3_900_000), ("b1", 3_900_000)):
        (run.work / name).write_bytes(bytes(size))
    run.run()
    assert {p.name for p in run.results.iterdir()} == {"results.tar", "b0", "b1"}
    (run.work / "h").write_bytes(bytes(3_900_000))
    run.run()
    assert {p.name for p in run.results.iterdir()} == {"results.tar", "h", "b0"}


def test_a_file_is_cut_joined_and_checked(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(100_001)
    (tmp_path / "m.gguf").write_bytes(content)
    parts = split(tmp_path / "m.gguf", tmp_path / "parts", 40_000)
    assert [p.stat().st_size for p in parts] == [40_000, 40_000, 20_001]
    join(tmp_path / "parts", tmp_path / "whole.gguf")
    assert (tmp_path / "whole.gguf").read_bytes() == content
    parts[1].write_bytes(content[:40_000])
    with pytest.raises(ValueError, match="another sha256"):
        join(tmp_path / "parts", tmp_path / "other.gguf")
    parts[2].unlink()
    with pytest.raises(FileNotFoundError, match=r"m\.gguf\.part02 of m\.gguf missing"):
        join(tmp_path / "parts", tmp_path / "other.gguf")
    assert not (tmp_path / "other.gguf").exists()


def test_parts_hold_whole_shards_within_their_size(tmp_path: Path) -> None:
    arguments = write_inputs(tmp_path)
    a = device_run.parse_arguments([*arguments, "--work", str(tmp_path / "w"), "--results", str(tmp_path / "r")])
    Run(a, device_run.STAGES[:1]).run()
    data = tmp_path / "w" / "data"
    size = max(len(pack_answers._compressed({"s": pack_answers._arrays(p)})) for p in data.glob("shard-*"))
    assert pack_answers.pack(data, tmp_path / "one", int(1.2 * size), 1) == (1, len(list(data.glob("shard-*"))))
    packed, there = pack_answers.pack(data, tmp_path / "all", int(1.2 * size), 10)
    assert packed == there == len(list((tmp_path / "all").iterdir()))
    with pytest.raises(ValueError, match="raise --part-bytes"):
        pack_answers.pack(data, tmp_path / "none", 100, 10)


def test_the_table_names_only_what_is_there() -> None:
    names = [s.name for s in device_run.STAGES]
    assert len(set(names)) == len(names) and sum(s.share for s in device_run.STAGES[:5]) <= 1
    a = device_run.parse_arguments(["run", "--backbone", ".", "--prompts", ".", "--work", "w", "--results", "r"])
    run = Run(a)
    for stage in device_run.STAGES:
        command = stage.command.format(**run._values(stage)).split()
        assert "{" not in " ".join(command) and command[0] == sys.executable
