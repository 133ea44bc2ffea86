"""The commands of docs/training.md: all are understood, and those for a model of one's own run as they stand there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from conftest import command
from heads_tiny import VICUNA, write_tiny_model
from medusa_export.__main__ import COMMANDS, parse

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "training.md"
# What the toy model and a CPU need otherwise; of a repeated option the last value counts.
SMALL = {
    "distil": "--device cpu --dtype float32 --slots 16 --conversations 80 --max-answer 16 --shard 40",
    "train": "--device cpu --batch 128 --steps 20 --draft-vocab 64 --max-overlap 1 --dtype float32",
    "prepare": "--precision int8",
}


def documented(section: str = "") -> list[tuple[str, list[str]]]:
    """The commands of a section (of all), as name and words: the indented lines, with the broken ones joined."""
    text = DOCUMENT.read_text()
    text = text.split(f"## {section}")[1].split("\n## ")[0] if section else text
    lines = re.sub(r"\\\n", " ", text).split("\n")
    found = [re.match(r"    (?:python -m medusa_export|medusa-plus) ([a-z0-9-]+) (.*)", line) for line in lines]
    return [(match[1], shlex.split(match[2])) for match in found if match]


def test_every_documented_command_is_understood() -> None:
    names = set()
    for name, words in documented():
        if name != "prepare":  # the program's own, which takes other options
            parse([name, *words])
            names.add(name)
    assert names == set(COMMANDS) - {"prepare", "fetch", "measure-precision", "random-model"}


def test_the_commands_for_vicuna(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "vicuna", marks=VICUNA, tied=False)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"source": "x", "prompt": f"Say {i}."}) + "\n" for i in range(90)))
    places = {
        "VICUNA": str(model),
        "DATA": str(tmp_path / "data"),
        "RUN": str(tmp_path / "run"),
        "prompts.jsonl": str(prompts),
        "heads/vicuna-7b-v1.5/medusa1.safetensors": str(tmp_path / "medusa1.safetensors"),
    }
    commands = documented("Another model: Vicuna-7B on one GPU")
    assert [name for name, _ in commands] == ["distil", "train", "prepare"]
    for name, words in commands:
        arguments = [places.get(word, word) for word in words] + SMALL[name].split()
        if name == "prepare":
            # The command line passes these on to the exporter as they are; the model's name is the folder's.
            arguments += ["--output", str(tmp_path / "onnx"), "--id", "vicuna-7b-v1.5"]
        command(name, *arguments)
    manifest = json.loads((tmp_path / "onnx" / "manifest.json").read_text())
    assert manifest["heads"][0]["name"] == "medusa1"
    assert {i["name"] for i in manifest["heads"][0]["inputs"]} == {"hidden", "row", "top_m", "token"}


def test_files_that_the_code_names_are_there() -> None:
    root = DOCUMENT.parents[1]
    named = re.compile(r"(?<![\w/.-])((?:docs|export|heads|scripts|src)/[\w./-]*\w\.(?:md|py|ts|txt))\b")
    found = [(path, name) for path in (root / "export").rglob("*.py") for name in named.findall(path.read_text())]
    assert len(found) > 10
    assert [each for each in found if not (root / each[1]).exists()] == []
