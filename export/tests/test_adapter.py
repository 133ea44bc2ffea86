"""`prepare --adapter`: graphs equal to the torch model with the changed weights; refusals."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from conftest import TorchTwin
from gguf_files import write_gguf
from medusa_export.__main__ import main
from medusa_export.errors import ExportError
from medusa_export.measure.split_runner import SplitRunner
from medusa_export.tokenizer_files.write import write_tokenizer_files
from medusa_export.weights import open_source
from medusa_export.weights.adapter import TARGETS, AdaptedSource, read_adapter
from medusa_export.weights.hashing import sha256_of
from test_weights import write_heads
from tiny import tiny_tokenizer

PROMPT = [5, 17, 300, 8, 8, 41, 199, 77, 3, 260, 12]
RANK, ALPHA = 3, 6.0
SHAPES = {
    "q": (64, 64),
    "k": (32, 64),
    "v": (32, 64),
    "o": (64, 64),
    "gate": (96, 64),
    "up": (96, 64),
    "down": (64, 96),
}


@pytest.fixture
def checkpoint(tmp_path: Path, llama: TorchTwin) -> Path:
    folder = tmp_path / "hf"
    llama.model.save_pretrained(folder)
    write_tokenizer_files(tiny_tokenizer(), folder)
    return folder


def factors() -> dict[str, np.ndarray]:
    random = np.random.default_rng(4)
    tensors = {}
    for target in TARGETS:
        rows, columns = SHAPES[target]
        tensors[f"layers.1.{target}.a"] = (random.standard_normal((RANK, columns)) * 0.2).astype(np.float16)
        tensors[f"layers.1.{target}.b"] = (random.standard_normal((rows, RANK)) * 0.2).astype(np.float16)
    return tensors


def write_adapter(folder: Path, source: Path, tensors: dict[str, np.ndarray] | None = None, **changes: Any) -> Path:
    path = folder / "medusa2.adapter.safetensors"
    save_file(factors() if tensors is None else tensors, path)
    facts = {"format": 1, "kind": "medusa-2-adapter", "name": "medusa2", "rank": RANK, "alpha": ALPHA}
    facts |= {"base": {"id": "tiny", "sha256": sha256_of(source)}}
    path.with_suffix(".json").write_text(json.dumps(facts | changes))
    return path


def merged_twin(llama: TorchTwin) -> TorchTwin:
    """The torch model with W + (alpha / rank) B A, worked out here."""
    model = copy.deepcopy(llama.model)
    parts = {t: f"mlp.{t}_proj" if t in ("gate", "up", "down") else f"self_attn.{t}_proj" for t in TARGETS}
    with torch.no_grad():
        for target, name in parts.items():
            a, b = (torch.from_numpy(factors()[f"layers.1.{target}.{part}"]).float() for part in "ab")
            model.get_submodule(f"model.layers.1.{name}").weight += ALPHA / RANK * (b @ a)
    return TorchTwin(model, llama.folder)


def run(*arguments: object) -> int:
    return main(["prepare", *map(str, arguments)])


def test_graphs_equal_the_merged_torch_model(tmp_path: Path, checkpoint: Path, llama: TorchTwin) -> None:
    adapter, out = write_adapter(tmp_path, checkpoint), tmp_path / "out"
    asked = ("--output", out, "--from", checkpoint, "--adapter", adapter)
    assert run(*asked, "--precision", "fp32,int8") == 0
    source = json.loads((out / "manifest.json").read_text())["source"]
    assert source["adapter"] == {"name": "medusa2", "sha256": sha256_of(adapter)}
    assert source["sha256"] == sha256_of(checkpoint)
    hidden, logits = merged_twin(llama).causal(PROMPT)
    _, original = llama.causal(PROMPT)
    step = SplitRunner(out / "backbone.fp32.onnx", capacity=32).run(np.array(PROMPT), want_logits=True)
    np.testing.assert_allclose(step.hidden, hidden, atol=2e-4, rtol=2e-4)
    np.testing.assert_allclose(step.logits, logits, atol=2e-4, rtol=2e-4)
    int8 = SplitRunner(out / "backbone.int8.onnx", capacity=32).run(np.array(PROMPT), want_logits=True)

    def error(expected: np.ndarray) -> float:
        return float(np.linalg.norm(int8.logits - expected) / np.linalg.norm(expected))

    assert error(logits) < 0.1 < 0.3 < error(original)


def test_gguf_rows_are_put_in_order_before_the_merge(tmp_path: Path, llama: TorchTwin) -> None:
    """llama.cpp interleaves the rows of q and k; the adapter is in the order of the torch model."""
    path = tmp_path / "model.gguf"
    write_gguf(path, llama.model, tokenizer=tiny_tokenizer())
    source = open_source(path)
    merged = AdaptedSource(source, read_adapter(write_adapter(tmp_path, path)))
    twin = merged_twin(llama)
    for target, name in (("q", "self_attn.q_proj"), ("k", "self_attn.k_proj"), ("down", "mlp.down_proj")):
        for layer in (0, 1):
            expected = twin.model.get_submodule(f"model.layers.{layer}.{name}").weight.detach().numpy()
            plain = source.tensor(f"layers.{layer}.{target}.weight").float32()
            found = merged.tensor(f"layers.{layer}.{target}.weight")
            # The file's own rounding apart, which both share.
            drift = plain - llama.model.get_submodule(f"model.layers.{layer}.{name}").weight.detach().numpy()
            np.testing.assert_allclose(found.float32() - drift, expected, atol=1e-5)
            assert (found.blocks() is None) or layer == 0


def refused(path: Path, base: Path, *words: str) -> None:
    source = open_source(base)
    with pytest.raises(ExportError) as caught:
        read_adapter(path).check_fits(source.config, base.name, sha256_of(base))
    for word in words:
        assert word in str(caught.value)


def test_adapters_that_do_not_fit_are_refused(tmp_path: Path, checkpoint: Path) -> None:
    wide = factors() | {"layers.1.q.b": np.zeros((48, RANK), np.float16)}
    refused(write_adapter(tmp_path, checkpoint, wide), checkpoint, "layers.1.q.weight", "[48, 64]", "[64, 64]")
    deep = {name.replace("layers.1.", "layers.7."): value for name, value in factors().items()}
    refused(write_adapter(tmp_path, checkpoint, deep), checkpoint, "layers.7.", "2 layers")
    other = {"base": {"id": "other-model", "sha256": "cd" * 32}}
    digest = sha256_of(checkpoint)[:12]
    refused(write_adapter(tmp_path, checkpoint, **other), checkpoint, "other-model", "cdcdcdcdcdcd", digest)
    refused(write_adapter(tmp_path, checkpoint, rank=4), checkpoint, "[4, in]", "[3, 96]")
    refused(write_adapter(tmp_path, checkpoint, format=2), checkpoint, "format 2")
    refused(write_adapter(tmp_path, checkpoint, kind="medusa-2"), checkpoint, "kind 'medusa-2'")
    refused(write_adapter(tmp_path, checkpoint, base={}), checkpoint, "base.sha256")
    half = {name: value for name, value in factors().items() if name != "layers.1.up.b"}
    refused(write_adapter(tmp_path, checkpoint, half), checkpoint, "layers.1.up.a and layers.1.up.b")
    refused(tmp_path / "heads.safetensors", checkpoint, "*.adapter.safetensors")
    refused(tmp_path / "none.adapter.safetensors", checkpoint, "none.adapter.safetensors is missing")


def test_prepare_keeps_adapters_and_heads_apart(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(tmp_path, checkpoint)
    sha = sha256_of(adapter)
    digest = sha256_of(checkpoint)
    for name, more in (("m1", {}), ("m2", {"adapter_sha256": sha})):
        write_heads(tmp_path / name, name=name, backbone={"id": "tiny", "gguf_sha256": digest, **more})
        tensors = load_file(tmp_path / f"{name}.safetensors")
        tensors["token_map"] %= 320  # of the tiny heads' 512 tokens
        save_file(tensors, tmp_path / f"{name}.safetensors")
    plain, merged = tmp_path / "plain", tmp_path / "merged"
    first = ("--output", plain, "--from", checkpoint)
    second = ("--output", merged, "--from", checkpoint, "--adapter", adapter)
    assert run(*first, "--heads", tmp_path / "m2") == 1
    assert f"were trained with the adapter of sha256 {sha[:12]}" in capsys.readouterr().err
    assert run(*second, "--heads", tmp_path / "m1") == 1
    assert "'m1' were trained with no adapter, but merged is made with the adapter of" in capsys.readouterr().err
    assert not plain.exists() and not merged.exists()
    assert run(*first, "--heads", tmp_path / "m1") == 0
    assert run(*second, "--heads", tmp_path / "m2") == 0
    assert run(*first, "--adapter", adapter, "--precision", "fp32") == 1
    assert "was made with no adapter, not with adapter medusa2" in capsys.readouterr().err
    assert run(*second[:4], "--precision", "fp32") == 1
    assert "was made with adapter medusa2" in capsys.readouterr().err
    assert run(*second, "--precision", "fp32") == 0
