"""Published Medusa checkpoints, written here in each layout and read back."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from conftest import TorchTwin
from medusa_export.errors import ExportError
from medusa_export.weights import open_source
from medusa_export.weights.heads_checkpoint import HeadsCheckpoint
from medusa_export.weights.medusa_files import read_heads

SIZE, VOCAB, COUNT = 64, 320, 3


def tensors(layers: int, prefix: str = "", own_output: bool = True) -> dict[str, torch.Tensor]:
    """v0.1 names: {i}.{j}.linear.*, {i}.{layers}.weight."""
    torch.manual_seed(5)
    state = {}
    for i in range(COUNT):
        for j in range(layers):
            state[f"{prefix}{i}.{j}.linear.weight"] = torch.randn(SIZE, SIZE)
            state[f"{prefix}{i}.{j}.linear.bias"] = torch.randn(SIZE)
        if own_output:
            state[f"{prefix}{i}.{layers}.weight"] = torch.randn(VOCAB, SIZE)
    return state


def assert_holds(heads: HeadsCheckpoint, state: dict[str, torch.Tensor], layers: int) -> None:
    assert heads.count == COUNT
    assert [len(head) for head in heads.blocks] == [layers] * COUNT
    for i in range(COUNT):
        for j in range(layers):
            np.testing.assert_allclose(heads.blocks[i][j][0], state[f"{i}.{j}.linear.weight"], atol=0.02)
            np.testing.assert_allclose(heads.blocks[i][j][1], state[f"{i}.{j}.linear.bias"], atol=0.02)
        np.testing.assert_allclose(heads.outputs[i].float32(), state[f"{i}.{layers}.weight"], atol=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layers", [1, 2])
def test_version_0_1_pt(tmp_path: Path, layers: int, dtype: torch.dtype) -> None:
    state = tensors(layers)
    torch.save({k: v.to(dtype) for k, v in state.items()}, tmp_path / "medusa_lm_head.pt")
    assert_holds(read_heads(tmp_path), state, layers)
    assert_holds(read_heads(tmp_path / "medusa_lm_head.pt"), state, layers)


def test_pt_of_views_and_parameters(tmp_path: Path) -> None:
    state = tensors(1)
    odd: dict[str, Any] = {k: torch.nn.Parameter(v.t().contiguous().t()) for k, v in state.items() if v.ndim == 2}
    odd |= {k: torch.cat([v, v])[SIZE:] for k, v in state.items() if v.ndim == 1}
    torch.save(odd, tmp_path / "medusa_lm_head.pt")
    assert_holds(read_heads(tmp_path), state, 1)


def test_version_2_shares_the_backbones_head(tmp_path: Path, llama: TorchTwin) -> None:
    save_file(tensors(1, own_output=False), tmp_path / "medusa_lm_head.safetensors")
    heads = read_heads(tmp_path, open_source(llama.folder))
    np.testing.assert_array_equal(heads.outputs[2].codes, llama.model.lm_head.weight.detach().numpy())
    with pytest.raises(ExportError, match="no output matrix"):
        read_heads(tmp_path)


def test_version_1_0_inside_a_full_model(tmp_path: Path) -> None:
    own = tensors(1)
    rest = {"model.norm.weight": torch.ones(SIZE), "lm_head.weight": torch.randn(VOCAB, SIZE)}
    save_file({f"medusa_head.{k}": v for k, v in own.items()} | rest, tmp_path / "model.safetensors")
    assert_holds(read_heads(tmp_path), own, 1)


@pytest.mark.parametrize("shared", [False, True])
def test_vllm(tmp_path: Path, shared: bool) -> None:
    own = tensors(1)
    state = {f"blocks.{i}.layers.0.weight": own[f"{i}.0.linear.weight"] for i in range(COUNT)}
    state["token_map"] = torch.arange(0, VOCAB)
    outputs = {"lm_head.weight": own["0.1.weight"]}
    state |= outputs if shared else {f"lm_heads.{i}.weight": own[f"{i}.1.weight"].clone() for i in range(COUNT)}
    save_file(state, tmp_path / "model.safetensors")
    heads = read_heads(tmp_path)
    np.testing.assert_array_equal(heads.outputs[2].codes, own["0.1.weight" if shared else "2.1.weight"])
    assert heads.token_map is not None and len(heads.token_map) == VOCAB
    assert not heads.blocks[0][0][1].any()


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "ran").touch, ())

    with zipfile.ZipFile(tmp_path / "medusa_lm_head.pt", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({"0.0.linear.weight": Evil()}))
    with pytest.raises(ExportError, match=r"medusa_lm_head.pt: refusing to load"):
        read_heads(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "medusa_lm_head.pt"
    torch.save(tensors(1), path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ExportError, match="truncated"):
        read_heads(tmp_path)
    torch.save({"something": torch.ones(3)}, path)
    with pytest.raises(ExportError, match="holds no Medusa heads"):
        read_heads(tmp_path)
    state = tensors(1)
    del state["1.0.linear.weight"]
    torch.save(state, path)
    with pytest.raises(ExportError, match="head 1"):
        read_heads(tmp_path)
    with pytest.raises(ExportError, match="none of"):
        (tmp_path / "empty").mkdir()
        read_heads(tmp_path / "empty")
