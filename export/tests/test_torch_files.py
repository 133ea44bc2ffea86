"""Base models in PyTorch's files: the same tensors as from safetensors, never more than one of them in memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import TorchTwin
from medusa_export.errors import ExportError
from medusa_export.weights import open_source
from medusa_export.weights.hashing import sha256_of
from medusa_export.weights.medusa_files import read_heads
from medusa_export.weights.torch_zip import TorchFile


def as_bin(folder: Path, target: Path, shards: int, dtype: torch.dtype) -> None:
    """The model of `folder` as its owners published it in 2023: pytorch_model*.bin, with an index for several."""
    target.mkdir()
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    state = {name: value.to(dtype) for name, value in load_file(folder / "model.safetensors").items()}
    if shards == 1:
        torch.save(state, target / "pytorch_model.bin")
        return
    names = sorted(state)
    weight_map = {}
    for i in range(shards):
        file = f"pytorch_model-{i + 1:05}-of-{shards:05}.bin"
        torch.save({name: state[name] for name in names[i::shards]}, target / file)
        weight_map |= dict.fromkeys(names[i::shards], file)
    (target / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_folder_of_bin_files_is_that_of_safetensors(
    tmp_path: Path, llama: TorchTwin, shards: int, dtype: torch.dtype
) -> None:
    as_bin(llama.folder, tmp_path / "bin", shards, dtype)
    state = {name: value.to(dtype) for name, value in load_file(llama.folder / "model.safetensors").items()}
    other = tmp_path / "safetensors"
    other.mkdir()
    save_file(state, other / "model.safetensors")
    (other / "config.json").write_bytes((llama.folder / "config.json").read_bytes())
    ours, theirs = open_source(tmp_path / "bin"), open_source(other)
    assert ours.config == theirs.config
    for name, _ in ours.config.each_tensor():
        assert ours.tensor(name).type_name == theirs.tensor(name).type_name
        np.testing.assert_array_equal(ours.tensor(name).float32(), theirs.tensor(name).float32())


def test_the_hash_of_a_folder_is_that_of_its_weights(tmp_path: Path, llama: TorchTwin) -> None:
    as_bin(llama.folder, tmp_path / "a", 2, torch.float16)
    as_bin(llama.folder, tmp_path / "b", 2, torch.float32)
    assert sha256_of(tmp_path / "a") != sha256_of(tmp_path / "b")


def test_a_shard_that_is_missing_is_named(tmp_path: Path, llama: TorchTwin) -> None:
    as_bin(llama.folder, tmp_path / "bin", 3, torch.float16)
    (tmp_path / "bin" / "pytorch_model-00002-of-00003.bin").unlink()
    with pytest.raises(
        ExportError, match=r"shard pytorch_model-00002-of-00003\.bin, named by pytorch_model\.bin\.index"
    ):
        open_source(tmp_path / "bin")


def test_one_tensor_at_a_time_is_in_memory(tmp_path: Path) -> None:
    size = 1 << 20
    torch.save({f"t{i}": torch.full((size,), float(i)) for i in range(24)}, tmp_path / "many.bin")
    tracemalloc.start()
    file = TorchFile(tmp_path / "many.bin")
    sums = [float(file.float32(f"t{i}").sum()) for i in range(24)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sums == [float(i * size) for i in range(24)]
    assert peak < 3 * 4 * size  # of 24 * 4 * size


def test_outputs_of_heads_are_read_one_at_a_time(tmp_path: Path) -> None:
    heads, size, vocab = 6, 64, 1 << 14
    state = {f"{k}.0.linear.weight": torch.randn(size, size) for k in range(heads)}
    state |= {f"{k}.0.linear.bias": torch.randn(size) for k in range(heads)}
    state |= {f"{k}.1.weight": torch.randn(vocab, size) for k in range(heads)}
    torch.save(state, tmp_path / "medusa_lm_head.pt")
    tracemalloc.start()
    found = read_heads(tmp_path)
    last = [output.float32()[-1, -1] for output in found.outputs]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert last == [state[f"{k}.1.weight"][-1, -1] for k in range(heads)]
    assert peak < 2 * 4 * size * vocab  # of heads * 4 * size * vocab


def test_a_tensor_that_lies_elsewhere_than_the_file_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.bin"
    torch.save({"t": torch.zeros(1000)}, path)
    whole = path.read_bytes()
    at = whole.index(b"PK\x03\x04", whole.index(b"/data/0") - 60)
    path.write_bytes(whole[:at] + b"XX" + whole[at + 2 :])
    with pytest.raises(ExportError, match=r"cut\.bin: .*data/0 is not where the file says"):
        TorchFile(path)
