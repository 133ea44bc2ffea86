"""`python -m medusa_export prepare`: new folders, additions, refusals, and what is left when it is stopped."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from safetensors.torch import save_file

from conftest import TorchTwin
from gguf_files import write_gguf
from medusa_export.__main__ import main
from medusa_export.errors import ExportError
from medusa_export.needs import disk_need
from medusa_export.precisions import PRECISIONS
from medusa_export.tokenizer_files.write import write_tokenizer_files
from medusa_export.weights import open_source
from medusa_export.weights.hashing import sha256_of
from medusa_export.weights.origin import origin_of
from test_medusa_files import tensors
from test_weights import write_heads
from tiny import tiny_tokenizer

EXPORT = Path(__file__).resolve().parents[1]
FIXTURES = EXPORT.parent / "test" / "fixtures"


@pytest.fixture
def checkpoint(tmp_path: Path, llama: TorchTwin) -> Path:
    path = tmp_path / "model.gguf"
    write_gguf(path, llama.model, tokenizer=tiny_tokenizer())
    return path


def run(*arguments: object) -> int:
    return main(["prepare", *map(str, arguments)])


def manifest_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "manifest.json").read_text()))


def assert_whole(folder: Path) -> None:
    """Every file of the manifest is there as described, and nothing else lies in the folder or beside it."""
    manifest = manifest_of(folder)
    named = {"manifest.json", "tokenizer.json", "tokenizer_config.json"}
    for entry in [*manifest["backbones"], *manifest["keep"], *manifest["heads"]]:
        for file in entry["files"]:
            content = (folder / file["file"]).read_bytes()
            assert len(content) == file["bytes"]
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
            named.add(file["file"])
    for entry in manifest["heads"]:
        if "conditional" in entry:
            facts = entry["conditional"]
            assert hashlib.sha256((folder / facts["file"]).read_bytes()).hexdigest() == facts["sha256"]
            named.add(facts["file"])
    assert {p.name for p in folder.iterdir()} == named
    assert not list(folder.parent.glob(".*partial*"))


def test_new_folder(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run("--output", out, "--from", checkpoint) == 0
    assert_whole(out)
    manifest = manifest_of(out)
    assert manifest["format"] == 1
    assert manifest["model"]["id"] == "out"
    assert manifest["source"]["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert [(b["precision"], b["layout"]) for b in manifest["backbones"]] == [("int8", "split")]
    assert manifest["defaults"]["cpu"] == {"backbone": "int8", "heads": None}
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"stage", "done", "total", "message"} == set(lines[0])
    done = [line["done"] for line in lines if line["stage"] == "Exporting the int8 backbone"]
    assert done == [0, 1, 2]


def test_precisions_layouts_and_heads_are_added(tmp_path: Path, checkpoint: Path) -> None:
    out = tmp_path / "out"
    write_heads(tmp_path / "h", hidden_size=64, backbone={"id": "my-model"})
    assert run("--output", out, "--from", checkpoint, "--id", "my-model") == 0
    before = (out / "backbone.int8.onnx.data").stat().st_mtime_ns
    again = ("--output", out, "--from", checkpoint, "--id", "my-model")
    assert run(*again, "--precision", "fp32,fp16", "--layout", "both", "--capacity", "128") == 0
    manifest = manifest_of(out)
    assert {(b["precision"], b["layout"], b["capacity"]) for b in manifest["backbones"]} == {
        ("int8", "split", None), ("fp32", "split", None), ("fp32", "shared", 128), ("fp16", "shared", 128),
    }  # fmt: skip
    assert [k["precision"] for k in manifest["keep"]] == ["fp32", "fp16"]
    assert manifest["defaults"]["cuda"]["backbone"] == "fp16"
    assert (out / "backbone.int8.onnx.data").stat().st_mtime_ns == before
    assert_whole(out)


def test_heads(tmp_path: Path, llama: TorchTwin, capsys: pytest.CaptureFixture[str]) -> None:
    llama.model.save_pretrained(tmp_path / "hf")
    write_tokenizer_files(tiny_tokenizer(), tmp_path / "hf")
    out = tmp_path / "out"
    write_heads(tmp_path / "h", backbone={"id": "out"}, static_tree=[[0], [0, 0]])
    assert run("--output", out, "--from", tmp_path / "hf", "--heads", tmp_path / "h.safetensors") == 1
    assert "error: heads 'h': token_map goes" in capsys.readouterr().err
    assert not out.exists()
    # The tiny heads fit a vocabulary of 512 only: let the token map end earlier.
    _limit_token_map(tmp_path / "h.safetensors", 320)
    assert run("--output", out, "--from", tmp_path / "hf", "--heads", tmp_path / "h.safetensors") == 0
    (entry,) = manifest_of(out)["heads"]
    assert (entry["name"], entry["count"], entry["draft_vocab_size"], entry["max_top_m"]) == ("h", 4, 256, 64)
    assert len(entry["accuracies"]) == 4 and entry["static_tree"] == [[0], [0, 0]]
    assert_whole(out)
    assert run("--output", tmp_path / "other", "--from", tmp_path / "hf", "--heads", tmp_path / "h") == 1
    assert "heads 'h' belong to out, not to other" in capsys.readouterr().err


def test_what_a_replaced_model_had_stays(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Heads and chat template, where none are asked for; fp16 needs heads of its own."""
    for name in ("a", "b"):
        write_heads(tmp_path / name, name=name, backbone={"id": "m"})
        _limit_token_map(tmp_path / f"{name}.safetensors", 320)
    heads = [argument for name in "ab" for argument in ("--heads", tmp_path / f"{name}.safetensors")]
    model = "--from", checkpoint, "--id", "m"
    assert run("--output", tmp_path / "old", *model, *heads, "--chat-template", "own template") == 0
    replaces = *model, "--replaces", tmp_path / "old"
    assert run("--output", tmp_path / "new", *replaces, "--keep-heads", "--precision", "int8,fp32", *heads[2:]) == 0
    old, new = manifest_of(tmp_path / "old"), manifest_of(tmp_path / "new")
    assert [entry["name"] for entry in new["heads"]] == ["a", "b"]
    assert new["heads"][0] == old["heads"][0] and new["defaults"]["cpu"] == old["defaults"]["cpu"]
    assert json.loads((tmp_path / "new" / "tokenizer_config.json").read_text())["chat_template"] == "own template"
    assert_whole(tmp_path / "new")
    assert "the heads a stay" in capsys.readouterr().out
    assert run("--output", tmp_path / "bare", *replaces, "--heads", "none") == 0
    assert manifest_of(tmp_path / "bare")["heads"] == []
    assert "the heads a, b are no longer in the model" in capsys.readouterr().out
    assert run("--output", tmp_path / "one", *replaces, *heads[2:]) == 0
    assert "the heads a are no longer in the model: --heads replaces all that it had" in capsys.readouterr().out
    assert run("--output", tmp_path / "half", *replaces, "--keep-heads", "--precision", "int8,fp16") == 1
    assert "fp16 needs the heads a, b once more: give them with --heads" in capsys.readouterr().err


def _limit_token_map(path: Path, vocab: int) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(path)
    tensors["token_map"] = tensors["token_map"] % vocab
    save_file(tensors, path)


def test_a_folder_of_another_model_or_purpose_is_refused(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert run("--output", out, "--from", checkpoint) == 0  # empty is fine
    other = tmp_path / "other.gguf"
    other.write_bytes(checkpoint.read_bytes() + b"\0" * 32)
    assert run("--output", out, "--from", other) == 1
    assert "was made from model.gguf" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    assert run("--output", tmp_path / "full", "--from", checkpoint) == 1
    assert "is not empty" in capsys.readouterr().err
    assert run("--output", tmp_path / "full" / "letter.txt", "--from", checkpoint) == 1
    assert "is a file" in capsys.readouterr().err
    assert_whole(out)


def test_usage_errors(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for extra, words in (
        (["--precision", "int3"], "int3"),
        (["--precision", "int8", "--layout", "shared"], "no layout shared"),
        (["--capacity", "3"], "--capacity 3"),
    ):
        with pytest.raises(SystemExit) as caught:
            run("--output", tmp_path / "out", "--from", checkpoint, *extra)
        assert caught.value.code == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("add", [False, True])
def test_full_disk(
    tmp_path: Path, checkpoint: Path, add: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    if add:
        assert run("--output", out, "--from", checkpoint) == 0

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("medusa_export.graph.builder.GraphBuilder.finish", full)
    capsys.readouterr()
    assert run("--output", out, "--from", checkpoint, "--precision", "fp32") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is full" in error
    if add:
        assert_whole(out)
    else:
        assert not out.exists()
        assert not list(tmp_path.glob(".*partial*"))


def test_an_output_that_cannot_be_made(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--output", checkpoint / "out", "--from", checkpoint) == 1
    assert capsys.readouterr().err.startswith("error: ")


def start(output: Path, checkpoint: Path) -> subprocess.Popen[str]:
    """A run as a process of its own that waits before it publishes."""
    code = (
        "import sys, time; from medusa_export import prepare; from medusa_export.__main__ import main\n"
        "publish = prepare.publish\n"
        "def slow(*a):\n print('READY', flush=True); time.sleep(60); publish(*a)\n"
        "prepare.publish = slow\nsys.exit(main(['prepare', *sys.argv[1:]]))"
    )
    arguments = [sys.executable, "-c", code, "--output", str(output), "--from", str(checkpoint)]
    pipe = subprocess.PIPE
    paths = [str(EXPORT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    process = subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True, env=environment)
    assert process.stdout is not None
    deadline = time.monotonic() + 60
    while "READY" not in process.stdout.readline():
        assert time.monotonic() < deadline and process.poll() is None
    return process


def test_terminated_run_cleans_up(tmp_path: Path, checkpoint: Path) -> None:
    process = start(tmp_path / "out", checkpoint)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.strip() == "error: interrupted; nothing was changed"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.gguf"]


def test_killed_run_leaves_nothing_half_made(tmp_path: Path, checkpoint: Path) -> None:
    process = start(tmp_path / "out", checkpoint)
    process.kill()
    process.communicate(timeout=60)
    assert not (tmp_path / "out").exists()
    assert len(list(tmp_path.glob(".out.partial-*"))) == 1
    assert run("--output", tmp_path / "out", "--from", checkpoint) == 0
    assert_whole(tmp_path / "out")


def test_the_size_on_disk_is_foretold(tmp_path: Path, checkpoint: Path, llama: TorchTwin) -> None:
    source = open_source(checkpoint)
    for name in ("fp32", "int8", "int4", "int8-block"):
        folder = tmp_path / name
        assert run("--from", checkpoint, "--output", folder, "--precision", name) == 0
        written = sum(path.stat().st_size for path in folder.glob("*.onnx.data"))
        # The rotary tables and what int8 adds for its rotation weigh more in so small a model.
        assert 0.5 * written < disk_need(source, [name], 0) < 1.5 * written, name


def test_a_full_disk_is_told_before_anything_is_written(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert run("--from", checkpoint, "--output", tmp_path / "models" / "m") == 1
    assert "where 0.0 GB are free; make room" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_a_chat_template_is_kept_in_place_of_the_models_own(tmp_path: Path, checkpoint: Path) -> None:
    template = "{{ messages[0].content }}{{ eos_token }}"
    assert run("--from", checkpoint, "--output", tmp_path / "m", "--chat-template", template) == 0
    assert json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())["chat_template"] == template


def test_graphs_say_what_they_are(tmp_path: Path, checkpoint: Path) -> None:
    assert run("--from", checkpoint, "--output", tmp_path / "m", "--precision", "fp32", "--layout", "both") == 0
    for file, layout in (("backbone.fp32.onnx", "split"), ("backbone.fp32.shared.onnx", "shared")):
        model = onnx.load(tmp_path / "m" / file, load_external_data=False)
        facts = {each.key: each.value for each in model.metadata_props}
        assert facts["exporter"].startswith("medusa") and (facts["precision"], facts["layout"]) == ("fp32", layout)
        assert (facts["source"], facts["family"], facts["context_length"]) == ("model.gguf", "llama", "256")
        assert (facts["format"], facts["source_sha256"]) == ("1", sha256_of(checkpoint))
        for value in [*model.graph.input, *model.graph.output]:
            assert value.doc_string, value.name


def test_the_checker_of_onnx_takes_all_graphs_but_the_shared_backbone(tmp_path: Path, checkpoint: Path) -> None:
    """That one holds SimplifiedLayerNormalization, see norm.py."""
    names = [p.name for p in PRECISIONS.values() if "split" in p.layouts]
    arguments = ("--precision", ",".join(names), "--layout", "both")
    assert run("--from", checkpoint, "--output", tmp_path / "m", *arguments) == 0
    checked = {path.name for path in (tmp_path / "m").glob("*.onnx") if ".shared." not in path.name}
    assert checked == {f"backbone.{name}.onnx" for name in names} | {"keep.fp32.onnx"}
    for path in [*(tmp_path / "m" / name for name in checked), *FIXTURES.glob("tiny*/heads.*.onnx")]:
        onnx.checker.check_model(path)


def test_a_graph_names_repository_revision_and_licence(tmp_path: Path, llama: TorchTwin) -> None:
    folder = tmp_path / "models--owner--a--name" / "snapshots" / "0123abc"
    shutil.copytree(llama.folder, folder)
    assert origin_of(open_source(folder)) == {"source": "owner/a--name", "revision": "0123abc"}
    for card, licence in (
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# Title\n", "apache-2.0"),
        ('---\nlicense: "llama3.2"\n---\n', "llama3.2"),
        ("---\ntags: [a]\n---\nlicense: mit\n", None),
        ("license: mit\n", None),
    ):
        (folder / "README.md").write_text(card)
        assert origin_of(open_source(folder)).get("licence") == licence, card
    write_gguf(tmp_path / "m.gguf", llama.model, extra={"general.license": "mit"})
    assert origin_of(open_source(tmp_path / "m.gguf")) == {"source": "m.gguf", "licence": "mit"}


def test_what_lies_in_the_cache_of_the_hub_is_named_after_its_repository(tmp_path: Path, llama: TorchTwin) -> None:
    """The cache's files are links to others that are named by their hashes."""
    cache = tmp_path / "models--Owner--A-Model"
    folder, blobs = cache / "snapshots" / "0123abc", cache / "blobs"
    folder.mkdir(parents=True)
    blobs.mkdir()
    write_gguf(blobs / "0", llama.model, tokenizer=tiny_tokenizer())
    shutil.copytree(llama.folder, tmp_path / "whole")
    write_tokenizer_files(tiny_tokenizer(), tmp_path / "whole")
    for i, path in enumerate(sorted((tmp_path / "whole").iterdir()), 1):
        path.rename(blobs / str(i))
        (folder / path.name).symlink_to(blobs / str(i))
    (folder / "m.gguf").symlink_to(blobs / "0")
    heads = tmp_path / "models--Owner--The-Heads" / "snapshots" / "beef"
    heads.mkdir(parents=True)
    save_file(tensors(1), heads / "medusa_lm_head.safetensors")
    for path, name in ((folder, "Owner/A-Model"), (folder / "m.gguf", "Owner/A-Model:m.gguf")):
        output = tmp_path / path.name
        assert run("--from", path, "--output", output, "--precision", "fp32", "--heads", heads) == 0
        manifest = json.loads((output / "manifest.json").read_text())
        assert (manifest["source"]["name"], manifest["source"]["revision"]) == (name, "0123abc")
        assert manifest["heads"][0]["name"] == "The-Heads"
    (folder / "model.safetensors").unlink()
    with pytest.raises(ExportError, match="neither model"):
        open_source(folder)
