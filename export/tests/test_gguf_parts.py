"""GGUF models in parts, and block types that gguf reads for us."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from conftest import TorchTwin
from gguf_files import write_gguf
from medusa_export.errors import ExportError
from medusa_export.weights import open_source
from medusa_export.weights.hashing import sha256_of


def test_a_split_model_is_the_whole_one_whichever_part_is_given(tmp_path: Path, llama: TorchTwin) -> None:
    write_gguf(tmp_path / "whole.gguf", llama.model)
    (tmp_path / "split").mkdir()
    write_gguf(tmp_path / "split" / "m.gguf", llama.model, tensors_a_part=8)
    parts = sorted((tmp_path / "split").glob("*.gguf"))
    assert len(parts) == 3 and parts[0].name == "m-00001-of-00003.gguf"
    whole = open_source(tmp_path / "whole.gguf")
    for part in parts:
        source = open_source(part)
        assert source.config == whole.config
        for name, _ in whole.config.each_tensor():
            np.testing.assert_array_equal(source.tensor(name).float32(), whole.tensor(name).float32())
    assert len({sha256_of(part) for part in parts}) == 1
    parts[1].unlink()
    with pytest.raises(ExportError, match=r"one of 3 parts; these are not beside it: m-00002-of-00003\.gguf"):
        open_source(parts[0])


def test_four_bit_values_that_are_not_evenly_spaced(tmp_path: Path, llama: TorchTwin) -> None:
    kind, name, rows = gguf.GGMLQuantizationType.IQ4_NL, "blk.0.ffn_up.weight", 96
    block, size = gguf.GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(0).integers(0, 256, (rows, 64 // block, size), dtype=np.uint8)
    raw[:, :, :2] = np.frombuffer(np.float16(0.01).tobytes(), np.uint8)  # the scale of each block
    write_gguf(tmp_path / "m.gguf", llama.model, without=name, raw={name: (raw.reshape(rows, -1), kind)})
    found = open_source(tmp_path / "m.gguf").tensor("layers.0.up.weight")
    low, high = raw[:, :, 2:] & 15, raw[:, :, 2:] >> 4
    levels = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
    expected = np.concatenate([levels[low], levels[high]], axis=-1).reshape(rows, 64) * np.float32(np.float16(0.01))
    assert found.type_name == "IQ4_NL"
    np.testing.assert_array_equal(found.float32(), expected)
