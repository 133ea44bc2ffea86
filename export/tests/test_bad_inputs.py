"""What a new user gets wrong ends, in every command, in one line that names the option and what it was given."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from conftest import TorchTwin, command
from heads_tiny import write_tiny_model
from medusa_export.__main__ import COMMANDS, main
from medusa_export.training.checkpoint import save_heads
from medusa_export.training.model import HeadsConfig, MedusaHeads

# MISSING does not exist, PROSE is a text file without JSON, EMPTY an empty folder, BAD a folder whose one shard
# is no shard. HEADS read the chosen token, as the shipped ones do.
TRAIN = "train --backbone MODEL --run OUT"
MEDUSA2 = "train-medusa2 --backbone MODEL --run OUT"
CONDITIONAL = "train-conditional --heads HEADS --backbone MODEL --run OUT"
QUESTIONS = "evaluate --heads HEADS --backbone MODEL --cache OUT"
MEASURE = "measure-precision"
CASES = {
    "prepare --from MISSING --output OUT": "MISSING does not exist",
    "prepare --from MODEL --output OUT --heads MISSING.safetensors": "--heads MISSING.safetensors",
    "distil --backbone MISSING --out OUT": "MISSING does not exist",
    "distil --backbone MODEL --out OUT --prompts MISSING": "--prompts MISSING: No such file",
    "distil --backbone MODEL --out OUT --prompts PROSE": "--prompts PROSE: line 1: expected a JSON object",
    "distil --backbone MODEL --out OUT --prompts QUESTIONS": '"prompt" (text)',
    "distil --backbone MODEL --out OUT --prompts VOID": "--prompts VOID: the file is empty",
    "distil --backbone MODEL --out OUT --prompts BINARY": "--prompts BINARY: expected a text file, UTF-8",
    "distil --backbone MODEL --out OUT --prompts EMPTY": "--prompts EMPTY: Is a directory",
    "distil --backbone MODEL --out PROSE": "PROSE: File exists",
    "distil --backbone MODEL --out BAD": "shard-0.safetensors is damaged",
    "distil --backbone MODEL --out OUT --threads -1": "--threads -1: expected 0",
    "distil --backbone MODEL --out OUT --template vicuna": "no <s> and </s>; choose --template from",
    "distil --backbone MODEL --out OUT --device cuda": "--device cuda: this PyTorch",
    f"{TRAIN} --data MISSING": "--data MISSING holds no shard-*.safetensors: run distil first",
    f"{TRAIN} --data EMPTY": "--data EMPTY holds no shard-*.safetensors: run distil first",
    f"{TRAIN} --data BAD": "shard-0.safetensors is damaged",
    f"{TRAIN} --data DATA --max-overlap 1 --init MISSING.safetensors": "MISSING.safetensors",
    f"{TRAIN} --data DATA --max-overlap 1 --heads 0": "heads: sizes must be positive",
    f"{TRAIN} --data DATA --adapter MISSING": "--adapter MISSING: expected a file named",
    "train --backbone MISSING --run OUT --data DATA --max-overlap 1": "MISSING does not exist",
    f"{TRAIN} --data DATA --device cuda": "--device cuda: this PyTorch",
    f"{MEDUSA2} --heads HEADS --data MISSING": "--data MISSING holds no shard-*.safetensors: run distil first",
    f"{MEDUSA2} --heads MISSING.safetensors --data DATA --max-overlap 1": "MISSING.safetensors",
    f"{MEDUSA2} --heads HEADS --data DATA --max-overlap 1 --rank 0": "adapter: rank must be >= 1",
    f"{MEDUSA2} --heads HEADS --data DATA --device cuda": "--device cuda: this PyTorch",
    f"{CONDITIONAL} --data MISSING": "--data MISSING holds no shard-*.safetensors: run distil first",
    f"{CONDITIONAL} --data DATA --trained-shards MISSING": "--trained-shards MISSING: No such file",
    f"{CONDITIONAL} --data DATA --trained-shards ALL": "no train answers outside the listed shards",
    f"{CONDITIONAL} --data DATA --max-overlap 1 --also HEADS MISSING": "--also MISSING: No such file",
    f"{CONDITIONAL} --data DATA --max-overlap 1 --text EMPTY": "--text EMPTY holds no shard-*.safetensors",
    f"{CONDITIONAL} --data DATA --max-overlap 1 --distances 9": "1 <= distances <= heads",
    f"{TRAIN} --data FEW": "--data FEW holds no train answers: distil more conversations",
    "train --backbone MODEL --run JUNK --data DATA --max-overlap 1": "state.pt is damaged",
    "evaluate --heads HEADS --backbone MODEL --data FEW": "no held-out greedy answers in the data",
    "evaluate --heads HEADS --backbone WIDE --data DATA": "have hidden size 32, --backbone WIDE has 64",
    "evaluate --heads SMALL --data DATA --max-overlap 1": "the heads read states of 8 values, those of",
    "calibrate --heads HEADS --data DATA": "read the chosen token: name the backbone with --backbone",
    "calibrate --heads MISSING.safetensors --data DATA": "MISSING.safetensors",
    "calibrate --heads HEADS --backbone MODEL --data MISSING": "--data MISSING holds no shard",
    "calibrate --heads HEADS --backbone MODEL --data DATA --trained-shards MISSING": "--trained-shards MISSING:",
    "calibrate --heads HEADS --backbone MODEL --data DATA --device cuda": "--device cuda: this PyTorch",
    "calibrate --heads HEADS --backbone MODEL --data DATA --source nowhere": "--source nowhere: no such source",
    "evaluate --heads HEADS --data DATA": "read the chosen token: name the backbone with --backbone",
    "evaluate --heads HEADS --backbone MODEL --data MISSING": "--data MISSING holds no shard",
    "evaluate --heads HEADS --backbone MODEL --data DATA --max-overlap 2": "max_overlap is 2",
    f"{QUESTIONS} --questions MISSING": "--questions MISSING: No such file",
    f"{QUESTIONS} --questions PROSE": "--questions PROSE: line 1: expected a JSON object",
    f"{QUESTIONS} --questions PROMPTS": '"turns" (list of texts)',
    f"{QUESTIONS} --questions QUESTIONS --device cuda": "--device cuda: this PyTorch",
    f"{MEASURE} answers --folder EMPTY --prompts MISSING --output OUT": "--prompts MISSING: No such file",
    f"{MEASURE} answers --folder EMPTY --prompts PROMPTS --output OUT": "tokenizer.json is missing",
    f"{MEASURE} answers --folder MODEL --prompts PROMPTS --output OUT": "--folder MODEL has no backbone.fp32",
    f"{MEASURE} fidelity --folder EMPTY --answers MISSING int8": "--answers MISSING: No such file",
    f"{MEASURE} fidelity --folder EMPTY --answers PROSE int8": "--answers PROSE is not valid JSON",
    f"{MEASURE} fidelity --folder EMPTY --answers PROMPTS int8": "--answers PROMPTS is not valid JSON",
    f"{MEASURE} fidelity --folder EMPTY --answers ANSWERS int8": "has no backbone.fp32.onnx (precisions there: none",
    f"{MEASURE} rows --folder ONNX --answers ANSWERS int8": "has no backbone.int8.onnx (precisions there: fp32)",
    f"{MEASURE} bits --folder ONNX --answers ANSWERS fp32": "backbone.fp32.onnx is damaged",
    f"{MEASURE} latency --folder MISSING int8=u8": "--folder MISSING has no backbone.int8.onnx",
    "fetch no/where": "no/where at revision main is not whole in",
    "fetch a/b/c": "a/b/c is no name on the hub",
    "random-model --layers 1 --hidden-size 128 --vocab-size 300 --output PROSE/model": "Not a directory",
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, llama: TorchTwin) -> dict[str, Path]:
    """What the words in capitals stand for."""
    root = tmp_path_factory.mktemp("bad")
    names = "prose void binary empty bad questions prompts answers onnx all data few junk missing"
    place = {name: root / name for name in names.split()} | {"model": write_tiny_model(root / "model")}
    place |= {"heads": root / "heads.safetensors", "small": root / "small.safetensors", "wide": llama.folder}
    place["prose"].write_text("Say something.\n")
    place["void"].write_text("\n")
    place["binary"].write_bytes(b"\xff\xfe\x00")
    for name in ("empty", "bad", "onnx", "junk"):
        place[name].mkdir()
    (place["bad"] / "shard-0.safetensors").write_text("no shard")
    (place["onnx"] / "backbone.fp32.onnx").write_text("no graph")
    (place["junk"] / "state.pt").write_text("no state")
    place["questions"].write_text(json.dumps({"question_id": 1, "category": "a", "turns": ["Say 1."]}) + "\n")
    prompts = [json.dumps({"source": "ab"[i % 2], "prompt": f"Say {i}."}) for i in range(60)]
    place["prompts"].write_text("\n".join(prompts))
    place["answers"].write_text(json.dumps([{"prompt": [1, 2], "answer": [3]}]))
    made = f"--backbone {place['model']} --prompts {place['prompts']} --out {place['data']} --conversations 60"
    made += " --magpie 0 --max-answer 12 --slots 60 --dtype float32"
    command("distil", *made.split())
    command("distil", *made.split(), "--out", place["few"], "--conversations", "1", "--greedy", "0")
    used = f"--data {place['data']} --backbone {place['model']} --run {root / 'run'} --out {place['heads']}"
    command("train", *f"{used} --tokens root --draft-vocab 128 --steps 2 --max-overlap 1".split())
    save_heads(MedusaHeads(HeadsConfig(4, 8, 1, 60), torch.arange(60)), place["small"], {"temperatures": [1] * 4})
    place["all"].write_text("".join(f"{path}\n" for path in place["data"].glob("shard-*")))
    return place


def placed(text: str, places: dict[str, Path]) -> str:
    """The text with every place for its name in capitals."""
    return re.sub(r"\b[A-Z]+\b", lambda match: str(places.get(match[0].lower(), match[0])), text)


@pytest.mark.parametrize("words", CASES)
def test_bad_input_ends_in_one_line(
    words: str,
    places: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    known = places | {"out": tmp_path / "out"}
    before = {path for path in places["data"].parent.rglob("*")}
    code = main([placed(word, known) for word in words.split()])
    lines = capsys.readouterr().err.splitlines()
    assert (code, len(lines)) == (1, 1), lines
    assert lines[0].startswith("error: ") and placed(CASES[words], known) in lines[0]
    assert {path for path in places["data"].parent.rglob("*")} == before


def test_every_command_is_among_them() -> None:
    assert {words.split()[0] for words in CASES} == set(COMMANDS)


@pytest.mark.parametrize("words", ["evaluate", "calibrate"])
def test_the_shipped_heads_say_that_they_need_the_backbone(
    words: str, places: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    heads = Path(__file__).resolve().parents[2] / "heads" / "smollm2-135m-instruct" / "medusa1.safetensors"
    assert main([*words.split(), "--heads", str(heads), "--data", str(places["data"])]) == 1
    assert "name the backbone with --backbone" in capsys.readouterr().err
