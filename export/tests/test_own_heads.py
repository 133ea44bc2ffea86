"""Heads that a model folder holds itself, and heads given as a folder: `prepare` must bring them, and say so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import TorchTwin, make_twin
from medusa_export.__main__ import main
from medusa_export.measure.session import open_session
from medusa_export.tokenizer_files.write import write_tokenizer_files
from medusa_export.weights.heads_checkpoint import HeadMatrix, HeadsCheckpoint
from test_adapter import write_adapter
from test_graph_heads import HIDDEN, expected
from test_medusa_files import COUNT, tensors
from tiny import tiny_tokenizer

State = dict[str, torch.Tensor]
Write = Callable[[Path, State], None]


@pytest.fixture
def state() -> State:
    """v0.1 tensors, small enough for int8."""
    return {name: 0.05 * values if values.ndim == 2 else values for name, values in tensors(1).items()}


@pytest.fixture
def folder(tmp_path: Path, llama: TorchTwin) -> Path:
    path = Path(shutil.copytree(llama.folder, tmp_path / "medusa-1.0-llama"))
    write_tokenizer_files(tiny_tokenizer(), path)
    return path


@pytest.fixture
def notes(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    def read() -> list[str]:
        lines = [json.loads(line)["stage"] for line in capsys.readouterr().out.splitlines()]
        return [line for line in lines if line.startswith("Note: ") and "heads" in line]

    return read


def prefixed(state: State) -> State:
    return {f"medusa_head.{name}": values for name, values in state.items()}


def inside(folder: Path, state: State) -> None:
    path = folder / "model.safetensors"
    save_file(load_file(path) | prefixed(state), path)


def in_shards(folder: Path, state: State) -> None:
    (folder / "model.safetensors").unlink()
    make_twin("llama", folder, max_shard_size="60KB")
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    for i in range(COUNT):  # each head in a shard of its own
        part, name = {k: v for k, v in prefixed(state).items() if f".{i}." in k[:14]}, f"model-heads-{i}.safetensors"
        save_file(part, folder / name)
        index["weight_map"] |= dict.fromkeys(part, name)
    path.write_text(json.dumps(index))


def beside_pt(folder: Path, state: State) -> None:
    torch.save(state, folder / "medusa_lm_head.pt")


def beside_safetensors(folder: Path, state: State) -> None:
    save_file(state, folder / "medusa_lm_head.safetensors")


def beside_and_inside(folder: Path, state: State) -> None:
    inside(folder, {name: values + 1 for name, values in state.items()})
    beside_safetensors(folder, state)


def prepare(folder: Path, out: Path, *more: object) -> int:
    return main(["prepare", "--output", str(out), "--from", str(folder), *map(str, more)])


def assert_exported(out: Path, state: State) -> None:
    """The heads graph gives what the formula gives for these tensors."""
    (entry,) = json.loads((out / "manifest.json").read_text())["heads"]
    assert entry["count"] == COUNT
    blocks = [[(state[f"{i}.0.linear.weight"].numpy(), state[f"{i}.0.linear.bias"].numpy())] for i in range(COUNT)]
    outputs = [HeadMatrix(state[f"{i}.1.weight"].numpy(), None) for i in range(COUNT)]
    heads = HeadsCheckpoint("h", blocks, outputs, None, [1.0] * COUNT, [[]] * COUNT, "")
    feed = {"hidden": HIDDEN, "row": np.array([3]), "top_m": np.array([8])}
    probabilities = open_session(out / entry["files"][0]["file"]).run(["top_probs"], feed)[0]
    np.testing.assert_allclose(probabilities, expected(heads, HIDDEN[3], 8)[1], atol=0.02)


@pytest.mark.parametrize(
    ("write", "where"),
    [
        (inside, "in the model's own files"),
        (in_shards, "in the model's own files"),
        (beside_pt, "in medusa_lm_head.pt"),
        (beside_safetensors, "in medusa_lm_head.safetensors"),
        (beside_and_inside, "in medusa_lm_head.safetensors"),
    ],
)
def test_a_model_folder_brings_its_heads(
    tmp_path: Path, folder: Path, state: State, notes: Any, write: Write, where: str
) -> None:
    write(folder, state)
    assert prepare(folder, tmp_path / "out") == 0
    assert_exported(tmp_path / "out", state)
    first, *more = notes()
    assert first == (
        f"Note: {folder.name} holds Medusa heads {where}; they are exported too (--heads none leaves them out)"
    )
    both = "medusa_lm_head.safetensors and model.safetensors; those in medusa_lm_head.safetensors are exported"
    assert more == ([f"Note: {folder.name} holds heads in {both}"] if write is beside_and_inside else [])


def test_heads_that_are_asked_for_come_instead(tmp_path: Path, folder: Path, state: State, notes: Any) -> None:
    inside(folder, {name: values + 1 for name, values in state.items()})
    torch.save(state, tmp_path / "mine.pt")
    assert prepare(folder, tmp_path / "mine", "--heads", tmp_path / "mine.pt") == 0
    assert_exported(tmp_path / "mine", state)
    left = f"Note: the Medusa heads that {folder.name} holds in the model's own files are left out"
    assert notes() == [f"{left}; mine.pt is exported instead"]
    assert prepare(folder, tmp_path / "none", "--heads", "none") == 0
    assert json.loads((tmp_path / "none" / "manifest.json").read_text())["heads"] == []
    assert notes() == [left]
    assert prepare(folder, tmp_path / "same", "--heads", folder) == 0  # the same heads, named
    assert len(json.loads((tmp_path / "same" / "manifest.json").read_text())["heads"]) == 1
    assert notes() == []


def test_an_adapter_was_not_trained_with_the_heads_of_the_folder(
    tmp_path: Path, folder: Path, state: State, notes: Any
) -> None:
    inside(folder, state)
    adapter = write_adapter(tmp_path, folder)
    assert prepare(folder, tmp_path / "out", "--adapter", adapter) == 0
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["heads"] == []
    assert notes() == [
        f"Note: the Medusa heads that {folder.name} holds in the model's own files are left out: they were not trained"
        " with the adapter (--heads brings them all the same)"
    ]


def test_a_model_without_heads_says_nothing(tmp_path: Path, folder: Path, notes: Any) -> None:
    assert prepare(folder, tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["heads"] == []
    assert notes() == []


def test_damaged_heads_of_a_folder_are_an_error_that_names_the_way_out(
    tmp_path: Path, folder: Path, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    del state["1.0.linear.weight"]
    inside(folder, state)
    assert prepare(folder, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "head 1, block 0 is missing" in error and "--heads none" in error
    assert prepare(folder, tmp_path / "out", "--heads", "none") == 0


def v0_1(folder: Path, state: State) -> None:
    """As published: the number of heads in config.json is known to be wrong."""
    facts = {"medusa_num_heads": 2, "medusa_num_layers": 1, "base_model_name_or_path": "lmsys/vicuna-7b-v1.3"}
    (folder / "config.json").write_text(json.dumps(facts))
    torch.save(state, folder / "medusa_lm_head.pt")


def hf_style(folder: Path, state: State) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "medusa", "num_heads": COUNT}))
    save_file(state, folder / "model.safetensors")


def hf_style_shards(folder: Path, state: State) -> None:
    hf_style(folder, state)
    (folder / "model.safetensors").unlink()
    for i in range(COUNT):
        part = {k: v for k, v in state.items() if k.startswith(f"{i}.")}
        save_file(part, folder / f"model-0000{i + 1}-of-00003.safetensors")


def hf_style_bin(folder: Path, state: State) -> None:
    hf_style(folder, state)
    (folder / "model.safetensors").unlink()
    torch.save(prefixed(state), folder / "pytorch_model.bin")


def hf_style_bin_shards(folder: Path, state: State) -> None:
    hf_style(folder, state)
    (folder / "model.safetensors").unlink()
    for i in range(COUNT):
        part = {k: v for k, v in state.items() if k.startswith(f"{i}.")}
        torch.save(part, folder / f"pytorch_model-0000{i + 1}-of-00003.bin")


@pytest.mark.parametrize("write", [v0_1, hf_style, hf_style_shards, hf_style_bin, hf_style_bin_shards])
def test_heads_in_a_folder(tmp_path: Path, folder: Path, state: State, write: Write) -> None:
    heads = tmp_path / "medusa-vicuna-7b-v1.3"
    heads.mkdir()
    write(heads, state)
    assert prepare(folder, tmp_path / "out", "--heads", heads) == 0
    assert_exported(tmp_path / "out", state)


def test_a_heads_folder_given_as_the_model_is_named(
    tmp_path: Path, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = tmp_path / "medusa-vicuna-7b-v1.3"
    heads.mkdir()
    v0_1(heads, state)
    assert prepare(heads, tmp_path / "out") == 1
    assert "holds Medusa heads and no model: give it with --heads, and the base model with --from" in (
        capsys.readouterr().err
    )


def test_the_same_heads_in_two_formats_are_exported_once(
    tmp_path: Path, folder: Path, state: State, notes: Any
) -> None:
    heads = tmp_path / "h"
    heads.mkdir()
    beside_pt(heads, state), beside_safetensors(heads, state)
    said = "medusa_lm_head.safetensors are exported"
    assert prepare(folder, tmp_path / "folder", "--heads", heads) == 0
    assert_exported(tmp_path / "folder", state)
    assert notes() == [
        f"Note: h holds heads in medusa_lm_head.safetensors and medusa_lm_head.pt; those in {said}",
    ]
    files = [heads / "medusa_lm_head.pt", heads / "medusa_lm_head.safetensors"]
    for i, order in enumerate((files, files[::-1])):
        assert prepare(folder, tmp_path / f"files{i}", "--heads", order[0], "--heads", order[1]) == 0
        assert_exported(tmp_path / f"files{i}", state)
        assert notes() == [
            f"Note: medusa_lm_head.pt and medusa_lm_head.safetensors hold the same heads; those in {said}"
        ]


def test_other_heads_of_the_same_name_are_refused(
    tmp_path: Path, folder: Path, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    beside_pt(tmp_path, state)
    beside_safetensors(tmp_path, {name: values + 1 for name, values in state.items()})
    files = [tmp_path / "medusa_lm_head.safetensors", tmp_path / "medusa_lm_head.pt"]
    assert prepare(folder, tmp_path / "out", "--heads", files[0], "--heads", files[1]) == 1
    assert "would both be named 'medusa_lm_head', and are not the same heads" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        prepare(folder, tmp_path / "out", "--heads", "none", "--heads", files[0])
    assert "does not go with --heads" in capsys.readouterr().err
