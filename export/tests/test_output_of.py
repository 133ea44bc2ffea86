"""Heads whose output layers lie in another heads file (format 4): both readers, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medusa_export.errors import ExportError
from medusa_export.training.checkpoint import load_heads, save_heads
from medusa_export.training.model import HeadsConfig, MedusaHeads
from medusa_export.weights.adapter import SUFFIX, read_adapter
from medusa_export.weights.heads_file import read_own_heads

COMMITTED = Path(__file__).resolve().parents[2] / "heads"


def random_heads(output: str, seed: int, token_map: torch.Tensor | None = None) -> MedusaHeads:
    g = torch.Generator().manual_seed(seed)
    heads = MedusaHeads(HeadsConfig(3, 8, 2, 20, output), torch.arange(0, 60, 3) if token_map is None else token_map)
    with torch.no_grad():
        for p in heads.parameters():
            p.copy_(torch.randn(p.shape, generator=g))
    return heads


@pytest.fixture(params=["own", "shared"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """(first heads, second heads with the first's output layers), in folders of their own."""
    first, second = tmp_path / "a" / "first.safetensors", tmp_path / "b" / "second.safetensors"
    save_heads(random_heads(request.param, 1), first, {})
    heads, _ = load_heads(first)
    with torch.no_grad():
        for p in [*heads.block_weight, *heads.block_bias]:
            p.mul_(-0.5)
    save_heads(heads, second, {}, output_of=first)
    return first, second


def test_both_readers_find_the_others_output_layers_to_the_bit(pair: tuple[Path, Path]) -> None:
    first, second = pair
    assert json.loads(second.with_suffix(".json").read_text())["format"] == 4
    assert second.stat().st_size < first.stat().st_size - 20 * 8
    of, (ours, _) = load_heads(first)[0], load_heads(second)
    for a, b in zip(of.output_weight, ours.output_weight, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(of.block_bias[0] * -0.5, ours.block_bias[0])
    theirs, own = read_own_heads(first), read_own_heads(second)
    for a, b in zip(theirs.outputs, own.outputs, strict=True):
        np.testing.assert_array_equal(a.float32(), b.float32())
    np.testing.assert_array_equal(own.blocks[1][0][0], ours.block_weight[1][0].detach().numpy())


def test_a_file_that_is_missing_or_changed_is_refused(pair: tuple[Path, Path]) -> None:
    first, second = pair
    save_heads(random_heads(load_heads(first)[0].config.output, 2), first, {})
    for read in (load_heads, read_own_heads):
        with pytest.raises(
            ExportError, match=r"use the output layer of .*first\.safetensors with sha256 \w{12}\.\.\.;"
        ):
            read(second)
    first.unlink()
    for read in (load_heads, read_own_heads):
        with pytest.raises(ExportError, match=r"first\.safetensors, which is not there"):
            read(second)


def test_other_draft_tokens_are_refused(pair: tuple[Path, Path]) -> None:
    first, second = pair
    other = random_heads("own", 3, torch.arange(20))
    save_heads(other, second, {}, output_of=first)
    for read in (load_heads, read_own_heads):
        with pytest.raises(ExportError, match="output layer of another token_map"):
            read(second)


def test_a_sidecar_that_names_no_file_is_refused(pair: tuple[Path, Path]) -> None:
    _, second = pair
    sidecar = second.with_suffix(".json")
    facts = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(facts | {"output_of": {"file": 3}}))
    with pytest.raises(ExportError, match=r"output_of is \{'file': 3\}; expected a file and its sha256"):
        read_own_heads(second)


def test_the_committed_heads_are_whole_and_belong_to_what_lies_beside_them() -> None:
    files = [p for p in COMMITTED.rglob("*.safetensors") if len(p.suffixes) == 1]
    assert files
    for file in files:
        heads, adapters = read_own_heads(file), list(file.parent.glob("*" + SUFFIX))
        assert heads.count == len(heads.temperatures) == 4
        assert [read_adapter(each).sha256 for each in adapters] == ([heads.adapter_sha256] if adapters else [])
        # An installed package and a clone have them in the same place.
        facts = json.loads(file.with_suffix(".json").read_text())
        assert facts.get("output_of", {"file": "../"})["file"].startswith("../")
