"""Broken and hostile files: whatever is wrong, `prepare` ends with one line that names the file, and in bounds."""

from __future__ import annotations

import json
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import save_file

from broken_files import HEADERS, INFINITE, NAN, WHOLE_FILES, Case, all_cases, spoil
from conftest import TorchTwin
from gguf_files import write_gguf
from medusa_export.__main__ import main
from medusa_export.errors import ExportError
from medusa_export.needs import memory_need
from medusa_export.weights import ModelConfig
from medusa_export.weights.finite import finite
from medusa_export.weights.safetensors_file import SafetensorsFile
from test_adapter import write_adapter
from test_conditional import heads_with_conditional
from test_medusa_files import tensors
from tiny import tiny_tokenizer

SPARE = 1 << 30  # bytes that a run may take; what is broken claims more
HANG = 100  # seconds


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory, llama: TorchTwin) -> Path:
    """A folder with every kind of file, all of them whole."""
    folder = tmp_path_factory.mktemp("sound")
    heads_with_conditional(folder, llama)
    (folder / "hf" / "generation_config.json").write_text(json.dumps({"eos_token_id": [2]}))
    write_gguf(folder / "model.gguf", llama.model, tokenizer=tiny_tokenizer())
    (folder / "pt").mkdir()
    torch.save(tensors(1), folder / "pt" / "medusa_lm_head.pt")
    (folder / "vllm").mkdir()
    one = {"blocks.0.layers.0.weight": torch.randn(64, 64), "lm_heads.0.weight": torch.randn(320, 64)}
    save_file(one, folder / "vllm" / "model.safetensors")
    write_adapter(folder, folder / "hf").rename(folder / "m.adapter.safetensors")
    (folder / "medusa2.adapter.json").rename(folder / "m.adapter.json")
    return folder


@pytest.fixture
def bounded() -> Iterator[None]:
    """Ends what takes too much memory or never ends."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise AssertionError("it hangs")

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    old = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANG)
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


def arguments(folder: Path, file: str) -> list[str]:
    """A run that reads `file`."""
    source = folder / ("model.gguf" if file == "model.gguf" else "hf")
    out = folder / "new" / "out"
    given = ["--output", out, "--from", source, "--precision", "int8"]
    if file.startswith("h."):
        given += ["--heads", folder / "h.safetensors"]
    if file.startswith("m."):
        given += ["--adapter", folder / "m.adapter.safetensors"]
    if file.startswith(("pt/", "vllm/")):
        given += ["--heads", (folder / file).parent]
    return list(map(str, given))


def run(folder: Path, file: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    return main(["prepare", *arguments(folder, file)]), capsys.readouterr().err


@pytest.mark.parametrize("file", ["hf/config.json", "h.json", "m.adapter.json", "pt/x", "vllm/x", "model.gguf"])
def test_the_files_are_whole_before(sound: Path, tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "files"))
    assert run(folder, file, capsys) == (0, "")


@pytest.mark.parametrize("case", all_cases(), ids=str)
@pytest.mark.usefixtures("bounded")
def test_broken(sound: Path, tmp_path: Path, case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "files"))
    case.damage(folder / case.file)
    code, error = run(folder, case.file, capsys)
    last = error.splitlines()[-1] if error else ""
    assert code == 1 and last.startswith("error: "), error
    assert "Traceback" not in error and "itself is at fault" not in error and "not enough memory" not in error, error
    assert all(word in last for word in case.words), error
    assert not (folder / "new" / "out").exists()


@pytest.mark.parametrize("file", WHOLE_FILES)
@pytest.mark.usefixtures("bounded")
def test_changed_bytes(sound: Path, tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Some changes break nothing (another weight, another text); the others end in a line that names a file."""
    random, whole = np.random.default_rng(22), (sound / file).read_bytes()
    refused = 0
    for i in range(12):
        folder = Path(shutil.copytree(sound, tmp_path / str(i)))
        content = bytearray(whole)
        for place in random.integers(0, min(len(content), 3000), 4):
            content[place] = random.integers(0, 256)
        (folder / file).write_bytes(content)
        code, error = run(folder, file, capsys)
        last = error.splitlines()[-1] if error else ""
        assert code == 0 or last.startswith("error: "), error
        assert "itself is at fault" not in error and "not enough memory" not in error, error
        if code:
            refused += 1
            assert any(path.name in last for path in folder.rglob("*")), error
    assert refused > 0


@pytest.mark.parametrize("label", HEADERS)
def test_what_the_safetensors_library_refuses_is_refused(sound: Path, tmp_path: Path, label: str) -> None:
    path = Path(shutil.copy(sound / "h.safetensors", tmp_path))
    HEADERS[label](path)
    with pytest.raises((SafetensorError, TypeError, ValueError)):
        load_numpy(path)
    with pytest.raises(ExportError, match=r"h\.safetensors"):
        SafetensorsFile(path)


def test_changed_headers_are_refused_where_the_safetensors_library_refuses_them(sound: Path, tmp_path: Path) -> None:
    whole, path = (sound / "h.safetensors").read_bytes(), tmp_path / "h.safetensors"
    random, verdicts = np.random.default_rng(5), []
    for _ in range(300):
        content = bytearray(whole)
        for place in random.integers(0, 1500, random.integers(1, 4)):
            content[place] = random.choice(list(b'0123456789{}[],:"-FI. a'))
        path.write_bytes(content)
        try:
            theirs = load_numpy(path)
        except (SafetensorError, TypeError):
            theirs = None
        try:
            file = SafetensorsFile(path)
        except ExportError:
            file = None
        assert (theirs is None) == (file is None), content[:1600]
        if theirs is not None and file is not None:
            for name, values in theirs.items():
                assert file.shape(name) == values.shape
        verdicts.append(theirs is not None)
    assert 10 < sum(verdicts) < 290


@pytest.mark.parametrize(
    ("values", "place"),
    [([1, 2, NAN], "2"), ([[1, 2], [-INFINITE, NAN]], "1, 0"), ([[INFINITE]], "0, 0")],
)
def test_the_first_value_that_is_not_finite_is_named(values: list[float], place: str) -> None:
    with pytest.raises(ExportError, match=rf"x holds (nan|-?inf) at \[{place}\]"):
        finite(np.array(values, np.float32), "x")
    sound = np.array([[3e38, -3e38], [0, 1]], np.float32)
    assert finite(sound, "x") is sound


def test_values_that_float16_cannot_hold_are_refused_there(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "files"))
    spoil("model.layers.1.mlp.up_proj.weight", torch.float32, -70000.0)(folder / "hf" / "model.safetensors")
    for name, expected in (("fp32", 0), ("fp16", 1)):
        given = ["--output", tmp_path / name, "--from", folder / "hf", "--precision", name, "--layout", "shared"]
        assert main(["prepare", *map(str, given)]) == expected
    assert "model.layers.1.mlp.up_proj.weight holds 70000.0, more than float16 can" in capsys.readouterr().err


def test_memory_that_runs_out_is_told_with_what_was_needed(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr("medusa_export.prepare._export_backbones", full)
    assert run(sound, "hf/config.json", capsys) == (
        1,
        "error: not enough memory to convert hf: it takes about 0.4 GB\n",
    )


def test_the_memory_of_7b_models_is_about_what_their_largest_matrix_needs() -> None:
    config = ModelConfig("llama", 32, 4096, 32, 32, 128, 11008, 32000, 4096, 10000.0, 1e-5, False)
    assert memory_need(config, 0) == pytest.approx(384 * 2**20 + 4 * 4 * 32000 * 4096, rel=0.01)
