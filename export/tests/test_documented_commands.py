"""The commands that docs/training.md gives for a model of one's own, run as they stand there, at toy size."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from heads_tiny import VICUNA, write_tiny_model  # noqa: E402

import distil  # noqa: E402
import train_heads  # noqa: E402
from medusa_export import prepare  # noqa: E402

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "training.md"
# What the toy model and a CPU need otherwise; of a repeated option the last value counts.
SMALL = {
    "distil.py": "--device cpu --dtype float32 --slots 16 --conversations 80 --max-answer 16 --shard 40",
    "train_heads.py": "--device cpu --batch 128 --steps 20 --draft-vocab 64 --max-overlap 1 --dtype float32",
    "prepare": "--precision int8",
}


def documented(section: str) -> list[list[str]]:
    """The commands of a section, as words: the indented lines, with the broken ones joined."""
    text = DOCUMENT.read_text().split(f"## {section}")[1].split("\n## ")[0]
    lines = re.sub(r"\\\n", " ", text).split("\n")
    return [shlex.split(line) for line in lines if re.match(r"    (python|medusa-plus) ", line)]


def test_the_commands_for_vicuna(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "vicuna", marks=VICUNA, tied=False)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"source": "x", "prompt": f"Say {i}."}) + "\n" for i in range(90)))
    places = {
        "VICUNA": str(model),
        "DATA": str(tmp_path / "data"),
        "RUN": str(tmp_path / "run"),
        "sharegpt_prompts.jsonl": str(prompts),
        "heads/vicuna-7b-v1.5/medusa1.safetensors": str(tmp_path / "medusa1.safetensors"),
    }
    commands = documented("Another model: Vicuna-7B on one GPU")
    assert [Path(words[1]).name for words in commands] == ["distil.py", "train_heads.py", "prepare"]
    for words in commands:
        name = Path(words[1]).name
        arguments = [places.get(word, word) for word in words[2:]] + SMALL[name].split()
        if name == "distil.py":
            distil.distil(distil.parse_arguments(arguments))
        elif name == "train_heads.py":
            train_heads.train(train_heads.parse_arguments(arguments))
        else:
            # The command line passes these on to the exporter as they are; the model's name is the folder's.
            output = ["--output", str(tmp_path / "onnx"), "--id", "vicuna-7b-v1.5"]
            assert prepare.main([*arguments, *output]) == 0
    manifest = json.loads((tmp_path / "onnx" / "manifest.json").read_text())
    assert manifest["heads"][0]["name"] == "medusa1"
    assert {i["name"] for i in manifest["heads"][0]["inputs"]} == {"hidden", "row", "top_m", "token"}
