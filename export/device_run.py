"""All that a rented accelerator is for, in one command with a time limit: distil, train, calibrate, measure.

    python export/device_run.py split model.gguf --out PARTS --bytes 50000000
    python export/device_run.py join PARTS --out model.gguf
    python export/device_run.py run --backbone model.gguf --prompts prompts.jsonl --questions question.jsonl \
        --work WORK --results OUT --seconds 560

Stages are the table STAGES below, each a command of this folder that can itself be resumed. A stage that is done is
marked in WORK and skipped when the command is given again; a stage that does not fit into the time left is not begun,
or stopped. What is worth keeping is copied to OUT after every stage, so that whatever ends the machine leaves the
results so far. With --previous FOLDER, what an earlier machine left in its OUT is taken up: its answers are
unpacked (states are computed anew) and its heads kept. See docs/device.md.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
STOPPING = 15  # seconds kept for ending a command and bringing its results home
MEMBERS = ("*.json", "*.csv", "*.png", "*.log", "*.md")  # of WORK, into results.tar


@dataclass(frozen=True)
class Stage:
    """One command. Placeholders in braces come from `_values`; {minutes} is what the stage may take."""

    name: str
    command: str
    share: float  # of the whole time that it may take
    least: float = 20  # seconds without which it is not begun
    needs: tuple[str, ...] = ()  # files of WORK or of this folder without which it is skipped
    keep: tuple[str, ...] = ()  # files of WORK that go to the results as they are
    grace: float = 20  # of its time, seconds for finishing after {minutes}
    bulk: bool = False  # what it keeps takes only the room that the other stages leave


TRAIN = (
    "{python} train_heads.py --data {work}/data --backbone {backbone} --run {work}/{name} "
    "--out {work}/{name}.safetensors --output shared --layers 3 --tokens root --draft-vocab 16384 --soft 0.5 --lr 2e-3 "
    "--batch {batch} --steps 1000000 "
    "--minutes {minutes} --device {device} --backbone-id {backbone_id} {data_options}"
)
EVALUATE = (
    "{python} evaluate_heads.py --heads {work}/{name}.safetensors --data {work}/data --nodes 4 8 16 32 64 "
    "--answers 150 --write held_out --backbone {backbone} --device {device} {data_options}"
)
QUESTIONS = (
    "{python} evaluate_heads.py --heads {work}/{name}.safetensors --questions {questions} --backbone {backbone} "
    "--cache {work}/questions --nodes 1 4 8 16 32 64 --write questions_first_turns --device {device}"
)

UNPACK = "{python} pack_answers.py unpack --parts {work} --backbone {backbone} --out {work}/data --device {device}"


def variant(name: str, options: str) -> tuple[Stage, Stage]:
    """An ablation row: the recipe of `medusa1` with other options (a repeated option's last value counts)."""
    train = TRAIN.replace("{name}", name) + " " + options
    measure = EVALUATE.replace("{name}", name).replace("4 8 16 32 64", "64")
    files = (f"{name}.safetensors",)
    return Stage(name, train, 0.08, 45, ("data",)), Stage(name + "-held-out", measure, 0.04, 20, files)


STAGES: tuple[Stage, ...] = (
    Stage(
        "answers",
        "{python} distil.py --backbone {backbone} --prompts {prompts} --out {work}/data "
        "--conversations {conversations} --slots {slots} --shard {shard} --minutes {minutes} --device {device} "
        "{distil_options}",
        share=0.35,
        least=60,
        grace=45,  # the last conversations run out, the last shard's states are computed
    ),
    Stage(
        "pack",
        "{python} pack_answers.py pack --data {work}/data --out {work} --part-bytes 15500000 --parts 3",
        share=0.1,
        needs=("data",),
        keep=("answers-00.npz", "answers-01.npz", "answers-02.npz"),
        bulk=True,
    ),
    Stage(
        "medusa1",
        TRAIN.replace("{name}", "medusa1"),
        share=0.2,
        least=45,
        needs=("data",),
        keep=("medusa1.safetensors",),
        grace=40,  # data to the device before, calibration after
    ),
    Stage("held-out", EVALUATE.replace("{name}", "medusa1"), 0.1, needs=("medusa1.safetensors", "data")),
    Stage("questions", QUESTIONS.replace("{name}", "medusa1"), 0.1, needs=("medusa1.safetensors", "{questions}")),
    # Heads are surer of answers they were trained on, so the correction learns from others: questions the model writes,
    # with another seed.
    Stage(
        "unseen",
        "{python} distil.py --backbone {backbone} --out {work}/unseen --conversations 1500 --slots 1500 --shard 1500 "
        "--seed 1 --minutes {minutes} --device {device} {distil_options} --magpie 1",
        share=0.06,
        least=40,
        needs=("train_conditional.py", "medusa1.safetensors"),
        grace=25,
    ),
    Stage(
        "conditional",
        "{python} train_conditional.py --heads {work}/medusa1.safetensors --data {work}/unseen --backbone {backbone} "
        "--run {work}/conditional --no-context --levels --dropout 0.5 {data_options}",
        share=0.15,
        least=60,
        needs=("train_conditional.py", "medusa1.safetensors", "unseen"),
        keep=("medusa1.conditional.safetensors",),
    ),
    Stage(
        "conditional-held-out",
        EVALUATE.replace("{name}", "medusa1").replace("4 8 16 32 64", "64").replace("held_out", "held_out_conditional")
        + " --conditional",
        share=0.05,
        needs=("medusa1.conditional.safetensors", "data"),
    ),
    # Nothing of `unseen` was trained on: an empty list of shards says so.
    Stage(
        "lookup",
        "{python} fit_lookup.py --heads {work}/medusa1.safetensors --data {work}/unseen --backbone {backbone} "
        f"--trained-shards {os.devnull} --write --device {{device}} {{data_options}}",
        share=0.05,
        needs=("fit_lookup.py", "medusa1.safetensors", "unseen"),
    ),
    Stage(
        "lookup-held-out",
        EVALUATE.replace("{name}", "medusa1").replace("4 8 16 32 64", "64").replace("held_out", "held_out_lookup")
        + " --lookup",
        share=0.05,
        needs=("medusa1.safetensors", "data"),
    ),
    Stage(
        "repeated",
        "{python} repeat_answers.py --data {work}/data --backbone {backbone} --out {work}/repeated --answers 20000 "
        "--shard 2000 --device {device}",
        share=0.05,
        needs=("repeat_answers.py", "data"),
    ),
    Stage(
        "medusa2",
        "{python} train_medusa2.py --data {work}/data --repeated {work}/repeated --backbone {backbone} "
        "--backbone-id {backbone_id} --heads {work}/medusa1.safetensors --freeze-output --head-ramp 0.1 "
        "--run {work}/medusa2 --out {work}/medusa2-files --device {device} --batch 32768 "
        "--minutes {minutes} --evaluate-every 500 --evaluate-rows 4000",
        share=0.2,
        least=90,
        grace=60,  # loading and the held-out measures during training, the merge and the calibration after
        needs=("train_medusa2.py", "medusa1.safetensors", "data", "repeated"),
        keep=("medusa2-files/medusa2.safetensors", "medusa2-files/medusa2.adapter.safetensors"),
    ),
    *variant("state-only", "--tokens none"),
    *variant("path", "--tokens path"),
    *variant("lr1", "--lr 1e-3"),
    *variant("hard", "--soft 0"),
    *variant("vocab8k", "--draft-vocab 8192"),
    *variant("layers5", "--layers 5"),
    *variant("own", "--output own"),
)


@dataclass
class Limits:
    """What may be brought home: the rented machine's own limits."""

    files: int = 8
    bytes_each: int = 16 << 20
    bytes_all: int = 63 << 20  # of 64 MiB


@dataclass
class Run:
    """One run of the table."""

    arguments: argparse.Namespace
    stages: tuple[Stage, ...] = STAGES
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        a = self.arguments
        self.work, self.results = Path(a.work).resolve(), Path(a.results).resolve()
        self.started = self.clock()
        self.report: list[dict[str, object]] = []

    @property
    def left(self) -> float:
        """Seconds until the results must be home."""
        return self.arguments.seconds - (self.clock() - self.started)

    def run(self) -> list[dict[str, object]]:
        """Every stage that fits; returns what happened to each."""
        self.work.mkdir(parents=True, exist_ok=True)
        self.results.mkdir(parents=True, exist_ok=True)
        if self.arguments.previous:
            self._take_up(Path(self.arguments.previous))
        for stage in self.stages:
            begun = self.clock()
            outcome = self._stage(stage)
            self.report.append({"stage": stage.name, "outcome": outcome, "seconds": round(self.clock() - begun, 1)})
            print(f"== {stage.name}: {outcome} ({self.report[-1]['seconds']} s; {self.left:.0f} s left)", flush=True)
            self._bring_home()
        return self.report

    def _stage(self, stage: Stage) -> str:
        if self._mark(stage).exists():
            return "done before"
        values = self._values(stage)
        for name in stage.needs:
            path = name.format(**values)
            if not path or not any((folder / path).exists() for folder in (self.work, HERE)):
                return f"skipped: no {path or name}"
        allowed = min(self.left, max(stage.least, stage.share * self.arguments.seconds))
        if self.left < stage.least:
            return f"not begun: {self.left:.0f} s left, it needs {stage.least:.0f}"
        values["minutes"] = f"{max(0.05, (allowed - stage.grace) / 60):.3f}"
        command = stage.command.format(**values).split()
        # One that keeps to {minutes} may overrun its share: what it does afterwards is worth waiting for. One that
        # knows of no limit gets twice its share, so that it leaves time for those behind it.
        limit = self.left if "{minutes}" in stage.command else min(self.left, 2 * allowed + STOPPING)
        code = self._execute(stage.name, command, limit)
        if code == 0:
            self._mark(stage).parent.mkdir(exist_ok=True)
            self._mark(stage).write_text(" ".join(command) + "\n")
            return "done"
        if code is None:
            return "stopped: out of time"
        return f"failed with exit code {code}: see {stage.name}.log"

    def _mark(self, stage: Stage) -> Path:
        return self.work / "done" / stage.name

    def _values(self, stage: Stage) -> dict[str, str]:
        a = vars(self.arguments)
        return {k: str(v) for k, v in a.items()} | {
            "python": sys.executable,
            "work": str(self.work),
            "name": stage.name,
            "minutes": "0",
        }

    def _execute(self, name: str, command: list[str], seconds: float) -> int | None:
        """Run a command in this folder, its output shown and in WORK/<name>.log; None when it had to be stopped.

        SIGTERM first: distillation then writes what it has.
        """
        with (self.work / f"{name}.log").open("ab") as log:
            log.write((" ".join(command) + "\n").encode())
            log.flush()
            process = subprocess.Popen(command, cwd=HERE, stdout=log, stderr=subprocess.STDOUT)
            try:
                code = process.wait(max(1.0, seconds - STOPPING))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                code = None
        lines = (self.work / f"{name}.log").read_text(errors="replace").splitlines()
        print("\n".join(lines[-12:]), flush=True)
        return code

    def _take_up(self, previous: Path) -> None:
        """What an earlier run brought home becomes this run's work."""
        if not previous.is_dir():
            raise FileNotFoundError(f"--previous {previous}: no such folder")
        if (self.work / "done").exists():
            return  # the same machine, still with everything
        archive = previous / "results.tar"
        if archive.exists():
            with tarfile.open(archive) as tar:
                tar.extractall(self.work, filter="data")
        (self.work / "done").mkdir(exist_ok=True)
        for stage in self.stages:
            for name in stage.keep:
                found = previous / Path(name).name
                if found.exists():
                    target = self.work / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(found, target)
                    if stage.name != "pack":
                        (self.work / "done" / stage.name).write_text(f"from {previous}\n")
        if list(self.work.glob("answers-*.npz")) and not list(self.work.glob("data/shard-*")):
            command = UNPACK.format(**self._values(self.stages[0])).split()
            code = self._execute("unpack", command, self.left)
            if code != 0:
                raise RuntimeError(f"unpacking the answers of {previous} failed: see {self.work}/unpack.log")
            for name in ("answers", "pack"):
                (self.work / "done" / name).write_text(f"from {previous}\n")

    def _bring_home(self) -> None:
        """Have the results hold what is worth most within the limits; small files go into one archive."""
        (self.work / "device_run.json").write_text(
            json.dumps({"arguments": vars(self.arguments), "device": device_name(), "stages": self.report}, indent=1)
        )
        archive = self._archive()
        self._write("results.tar", archive)
        files, room = self.limits.files - 1, self.limits.bytes_all - len(archive)
        for stage in sorted(self.stages, key=lambda s: s.bulk):
            for name in stage.keep:
                path, target = self.work / name, self.results / Path(name).name
                size = path.stat().st_size if path.exists() else None
                if size is None or size > min(room, self.limits.bytes_each) or files == 0:
                    target.unlink(missing_ok=True)  # brought when there was room for it
                    continue
                files, room = files - 1, room - size
                if not target.exists() or target.stat().st_mtime < path.stat().st_mtime:
                    self._write(target.name, path.read_bytes())

    def _archive(self) -> bytes:
        """Logs, sidecars, loss tables and curves of WORK (not the data's), paths as in WORK."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for pattern in MEMBERS:
                for path in sorted([*self.work.glob(pattern), *self.work.glob("*/" + pattern)]):
                    if path.stat().st_size < 1 << 20:
                        tar.add(path, str(path.relative_to(self.work)))
        return buffer.getvalue()

    def _write(self, name: str, content: bytes) -> None:
        temporary = self.results / (name + ".tmp")
        temporary.write_bytes(content)
        os.replace(temporary, self.results / name)


def device_name() -> str:
    """The accelerator's name, or that there is none."""
    try:
        import torch
    except ImportError:
        return "no torch"
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def split(file: Path, out: Path, size: int) -> list[Path]:
    """Cut a file into parts of at most `size` bytes, with a list of their order and the whole's sha256."""
    if size < 1:
        raise ValueError(f"--bytes {size}: must be at least 1")
    out.mkdir(parents=True, exist_ok=True)
    digest, parts = hashlib.sha256(), []
    with file.open("rb") as source:
        while block := source.read(size):
            digest.update(block)
            parts.append(out / f"{file.name}.part{len(parts):02d}")
            parts[-1].write_bytes(block)
    record = {"file": file.name, "parts": [p.name for p in parts], "sha256": digest.hexdigest()}
    (out / "parts.json").write_text(json.dumps(record, indent=1) + "\n")
    return parts


def join(folder: Path, out: Path) -> None:
    """Put the parts of `split` together and check the whole."""
    record = json.loads((folder / "parts.json").read_text())
    missing = [name for name in record["parts"] if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(f"{folder}: {', '.join(missing)} of {record['file']} missing: bring them here first")
    digest, temporary = hashlib.sha256(), out.with_suffix(out.suffix + ".tmp")
    with temporary.open("wb") as target:
        for name in record["parts"]:
            block = (folder / name).read_bytes()
            digest.update(block)
            target.write(block)
    if digest.hexdigest() != record["sha256"]:
        temporary.unlink()
        raise ValueError(f"{folder}: the joined {record['file']} has another sha256 than the one that was split")
    os.replace(temporary, out)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(dest="command", required=True)
    cut = sub.add_parser("split", help="cut a file that is too large to carry")
    cut.add_argument("file")
    cut.add_argument("--out", required=True)
    cut.add_argument("--bytes", type=int, default=50_000_000)
    whole = sub.add_parser("join", help="put it together again")
    whole.add_argument("folder")
    whole.add_argument("--out", required=True)
    run = sub.add_parser("run", help="all stages, in the time given")
    run.add_argument("--backbone", required=True, help=".gguf file or HF folder")
    run.add_argument("--backbone-id", default="smollm2-135m-instruct")
    run.add_argument("--prompts", required=True, help="JSONL with {source, prompt}")
    run.add_argument("--questions", default="", help="JSONL of questions to measure on, never to train on")
    run.add_argument("--work", required=True, help="folder for data and runs; large, stays on the machine")
    run.add_argument("--results", required=True, help="folder that comes home")
    run.add_argument("--previous", help="results of an earlier run to go on from")
    run.add_argument("--seconds", type=float, default=560, help="for everything (default %(default)s)")
    run.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    run.add_argument("--slots", type=int, default=3072, help="conversations at once (default %(default)s)")
    run.add_argument("--conversations", type=int, default=400_000, help="most of them (default %(default)s)")
    run.add_argument("--shard", type=int, default=4000, help="conversations per shard (default %(default)s)")
    run.add_argument("--batch", type=int, default=4096, help="training positions per step (default %(default)s)")
    run.add_argument("--distil-options", default="", help="further options of distil.py, in one string")
    run.add_argument("--data-options", default="", help="further options of training and evaluation")
    run.add_argument("--only", nargs="+", choices=[s.name for s in STAGES], help="these stages only")
    a = p.parse_args(argv)
    if a.command == "run":
        for name in ("backbone", "prompts", "questions", "previous"):
            value = getattr(a, name)
            if value:
                if not Path(value).exists():
                    p.error(f"--{name} {value}: there is no such file or folder")
                setattr(a, name, str(Path(value).resolve()))
    return a


def main(a: argparse.Namespace) -> int:
    if a.command == "split":
        for part in split(Path(a.file), Path(a.out), a.bytes):
            print(part)
    elif a.command == "join":
        join(Path(a.folder), Path(a.out))
    else:
        stages = tuple(s for s in STAGES if not a.only or s.name in a.only)
        report = Run(a, stages).run()
        return 1 if any(str(r["outcome"]).startswith("failed") for r in report) else 0
    return 0


if __name__ == "__main__":
    sys.exit(main(parse_arguments()))
