"""Readers of checkpoints: what they give back, and what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import SIZES, TorchTwin, make_twin
from gguf_files import write_gguf
from medusa_export.errors import ExportError
from medusa_export.weights import ModelConfig, open_source
from medusa_export.weights.medusa_files import read_heads
from medusa_export.weights.rotation import Orthogonal
from tiny import TinySource, tiny_heads

Q = gguf.GGMLQuantizationType
NORMS = {"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
GEMMA_NORMS = {
    "attn_norm": "input_layernorm", "post_attn_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm", "post_mlp_norm": "post_feedforward_layernorm",
}  # fmt: skip


@pytest.fixture
def folder(llama: TorchTwin, tmp_path: Path) -> Path:
    """A copy of the Llama folder that a test may damage."""
    return Path(shutil.copytree(llama.folder, tmp_path / "model"))


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(path: Path, *words: str) -> None:
    """Opening must fail with one line that holds all `words`."""
    with pytest.raises(ExportError) as caught:
        open_source(path)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def assert_same(path: Path, model: torch.nn.Module, tolerance: float = 0) -> None:
    """Every tensor that the reader gives equals the torch model's."""
    source, state = open_source(path), model.state_dict()
    for name, shape in source.config.tensor_shapes().items():
        found = source.tensor(name)
        assert found.shape == shape
        stem = {"embed": "model.embed_tokens", "norm": "model.norm", "lm_head": "lm_head"}.get(name.split(".")[0])
        if stem is None:
            _, layer, part, _ = name.split(".")
            block = (GEMMA_NORMS if source.config.family == "gemma3" else NORMS).get(part)
            group = "self_attn" if part[0] in "qkvo" else "mlp"
            own = part if part in ("q_norm", "k_norm") else f"{part}_proj"
            stem = f"model.layers.{layer}.{block or f'{group}.{own}'}"
        whole = f"{stem}.{name.rsplit('.', 1)[1]}"
        expected = state[whole] if whole in state else joined_part(state, name, source.config)
        if source.config.family == "gemma3" and name.endswith("norm.weight"):
            expected = 1 + expected
        values = found.float32()
        if whole not in state and name.split(".")[2] in "qk" and np.isinf(source.config.rope_divisors[-1:]).any():
            # Channels of each head in another order: where only a part of it is rotated (test_families).
            values, expected = np.sort(values, axis=0), expected.sort(dim=0).values
        np.testing.assert_allclose(values, expected.float().numpy(), atol=tolerance, rtol=0)


def joined_part(state: dict[str, torch.Tensor], name: str, c: ModelConfig) -> torch.Tensor:
    """Phi-3 keeps q, k and v in one matrix, and gate and up."""
    _, layer, part, _ = name.split(".")
    if part in "qkv":
        sizes = [c.query_width, c.kv_width, c.kv_width]
        return state[f"model.layers.{layer}.self_attn.qkv_proj.weight"].split(sizes)["qkv".index(part)]
    return state[f"model.layers.{layer}.mlp.gate_up_proj.weight"].chunk(2)[part == "up"]


def test_hf_folder(twin: TorchTwin) -> None:
    assert_same(twin.folder, twin.model)


def test_sharded_folder_equals_single(tmp_path: Path, llama: TorchTwin) -> None:
    sharded = make_twin("llama", tmp_path / "sharded", max_shard_size="60KB")
    assert len(list(sharded.folder.glob("*.safetensors"))) > 2
    assert_same(sharded.folder, llama.model)


def test_bfloat16_without_torch(folder: Path, llama: TorchTwin) -> None:
    state = load_file(folder / "model.safetensors")
    save_file({k: v.to(torch.bfloat16) for k, v in state.items()}, folder / "model.safetensors", {"format": "pt"})
    source = open_source(folder)
    expected = llama.model.state_dict()["model.layers.1.mlp.up_proj.weight"].to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(source.tensor("layers.1.up.weight").float32(), expected)
    assert source.quantization == "BF16"


def test_truncated_safetensors(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    refused(folder, "model.safetensors", "truncated")
    path.write_bytes(b"\x10")
    refused(folder, "model.safetensors", "truncated")


def test_missing_tensor_and_shard(folder: Path, tmp_path: Path) -> None:
    state = load_file(folder / "model.safetensors")
    name = "model.layers.1.self_attn.o_proj.weight"
    save_file({k: v for k, v in state.items() if k != name}, folder / "model.safetensors")
    refused(folder, name, "missing")
    sharded = make_twin("llama", tmp_path / "sharded", max_shard_size="60KB").folder
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.unlink()
    refused(sharded, shard.name, "missing")


def test_wrong_shape(folder: Path) -> None:
    edit_config(folder, intermediate_size=128)
    refused(folder, "mlp.gate_proj.weight", "[96, 64]", "[128, 64]")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gpt_neox"}, ("gpt_neox", "not supported")),
        ({"quantization_config": {"quant_method": "awq"}}, ("awq", "not supported")),
        (
            {"rope_parameters": {"rope_type": "dynamic", "factor": 8}},
            ("dynamic", "keys that are cached", "rope_scaling null"),
        ),
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, ("dynamic", "keys that are cached", "rope_scaling null")),
        ({"rope_scaling": {"type": "longrope"}}, ("rope_scaling: short_factor is missing",)),
        ({"rope_scaling": {"type": "longrope", "short_factor": [1, 2]}}, ("short_factor must be 8 numbers",)),
        ({"partial_rotary_factor": 0.5}, ("partial rotary",)),
        ({"hidden_act": "gelu"}, ("gelu", "activation")),
        ({"attention_bias": True}, ("attention_bias",)),
        ({"num_key_value_heads": 3}, ("3 key-value heads",)),
    ],
)
def test_refused_configs(folder: Path, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    edit_config(folder, **changes)
    refused(folder, *words)


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"sliding_window": 100}, (100, 100)),
        ({"sliding_window": 256}, ()),
        ({"sliding_window": None}, ()),
        ({"sliding_window": 100, "layer_types": ["sliding_attention", "full_attention"]}, (100, 0)),
    ],
)
def test_sliding_windows(tmp_path: Path, changes: dict[str, Any], windows: tuple[int, ...]) -> None:
    folder = make_twin("mistral", tmp_path / "mistral").folder
    edit_config(folder, **changes)
    config = open_source(folder).config
    assert (config.context_length, config.windows) == (256, windows)
    assert config.shortest_window == (100 if windows else 256)


def test_layer_types_that_say_something_else(tmp_path: Path) -> None:
    folder = make_twin("mistral", tmp_path / "mistral").folder
    edit_config(folder, sliding_window=100, layer_types=["sliding_attention"])
    refused(folder, "layer_types", "for each layer")


def test_no_such_file_and_folder_without_weights(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "does not exist")
    refused(tmp_path, "config.json", "missing")


def test_gguf_puts_the_rows_of_q_and_k_back(tmp_path: Path, llama: TorchTwin) -> None:
    write_gguf(tmp_path / "m.gguf", llama.model)
    assert_same(tmp_path / "m.gguf", llama.model)


def test_gguf_qwen2(tmp_path: Path) -> None:
    twin = make_twin("qwen2", tmp_path / "hf")
    write_gguf(tmp_path / "m.gguf", twin.model, arch="qwen2")
    assert open_source(tmp_path / "m.gguf").config.qkv_bias
    assert_same(tmp_path / "m.gguf", twin.model)


def test_gguf_qwen3(tmp_path: Path) -> None:
    twin = make_twin("qwen3", tmp_path / "hf")
    write_gguf(tmp_path / "m.gguf", twin.model, arch="qwen3")
    config = open_source(tmp_path / "m.gguf").config
    assert config.qk_norm and config.head_dim == 32
    assert_same(tmp_path / "m.gguf", twin.model)
    write_gguf(tmp_path / "m.gguf", twin.model, arch="qwen3", without="blk.1.attn_k_norm.weight")
    refused(tmp_path / "m.gguf", "blk.1.attn_k_norm.weight", "missing")


def test_qwen3_folders(tmp_path: Path) -> None:
    folder = make_twin("qwen3", tmp_path / "hf").folder
    state = load_file(folder / "model.safetensors")
    name = "model.layers.1.self_attn.q_norm.weight"
    save_file({k: v for k, v in state.items() if k != name}, folder / "model.safetensors")
    refused(folder, name, "missing")
    save_file(state | {name: torch.ones(16)}, folder / "model.safetensors")
    refused(folder, name, "[16]", "[32]")
    save_file(state, folder / "model.safetensors")
    edit_config(folder, head_dim=None)  # 128 is meant then, as in transformers
    refused(folder, "q_proj.weight", "[128, 64]", "[512, 64]")
    edit_config(folder, head_dim=32, attention_bias=True)
    refused(folder, "attention_bias", "qwen3")


@pytest.mark.parametrize("kind", [Q.F16, Q.BF16, Q.Q8_0, Q.Q5_0, Q.Q5_1, Q.Q4_0, Q.Q4_1])
def test_gguf_types(tmp_path: Path, llama: TorchTwin, kind: Q) -> None:
    """Values as gguf itself dequantises them; carried-over codes mean the same values."""
    write_gguf(tmp_path / "m.gguf", llama.model, matrix_type=kind)
    source = open_source(tmp_path / "m.gguf")
    state = llama.model.state_dict()
    for name in ("layers.1.q.weight", "layers.0.down.weight"):
        stem = (
            name.replace("layers", "model.layers")
            .replace(".q.", ".self_attn.q_proj.")
            .replace(".down.", ".mlp.down_proj.")
        )
        original = state[stem].numpy()
        values = source.tensor(name).float32()
        assert np.abs(values - original).max() < 0.11 * np.abs(original).max()
        expected = gguf.dequantize(gguf.quantize(original, kind), kind)
        np.testing.assert_array_equal(values, expected)  # rows are quantised one by one, so their order is free
        blocks = source.tensor(name).blocks()
        assert (blocks is not None) == (kind in (Q.Q8_0, Q.Q4_0, Q.Q4_1))
        if blocks is not None:
            np.testing.assert_allclose(blocks.dequantised(), values, atol=1e-6)


def test_damaged_gguf(tmp_path: Path, llama: TorchTwin) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(path, llama.model)
    whole = path.read_bytes()
    for length in (len(whole) - 500, len(whole) // 2, 2000, 100, 8):
        path.write_bytes(whole[:length])
        refused(path, "m.gguf", "truncated")
    path.write_bytes(b"PK\x03\x04" + whole[4:])
    refused(path, "not a GGUF file")


def test_refused_gguf(tmp_path: Path, llama: TorchTwin) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(path, llama.model, arch="gemma2")
    refused(path, "gemma2", "not supported")
    write_gguf(path, llama.model, without="blk.1.ffn_up.weight")
    refused(path, "blk.1.ffn_up.weight", "missing")
    write_gguf(path, llama.model, extra={"llama.rope.scaling.type": "yarn"})
    refused(path, "yarn", "supported: default, linear, llama3")


def test_gguf_tensors_that_no_graph_reads(tmp_path: Path, llama: TorchTwin) -> None:
    path, size = tmp_path / "m.gguf", np.zeros(64, np.float32)
    refused_ones = ("blk.1.attn_q.bias", "blk.0.attn_output.bias", "blk.0.ffn_down.bias", "blk.0.attn_q_norm.weight")
    for name in refused_ones:
        write_gguf(path, llama.model, tensors={name: size})
        refused(path, "m.gguf", "llama has no such tensor", name)
    write_gguf(path, llama.model, tensors=dict.fromkeys(refused_ones, size))
    refused(path, *refused_ones[:3], "and 1 more")
    ignored = ("blk.0.attn_rot_embd.weight", "blk.2.attn_q.bias", "blk.x", "output_norm.bias")
    write_gguf(path, llama.model, tensors=dict.fromkeys(ignored, size))
    assert_same(path, llama.model)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_tensors_that_no_graph_reads(folder: Path, llama: TorchTwin, file: str) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()

    def write(*names: str) -> None:
        whole = state | {name: torch.zeros(64) for name in names}
        save_file(whole, folder / file) if file.endswith("s") else torch.save(whole, folder / file)

    for rest in ("mlp.down_proj.bias", "self_attn.o_proj.bias", "self_attn.q_norm.weight", "self_attn.q_proj.bias"):
        write(f"model.layers.1.{rest}")
        refused(folder, folder.name, "llama has no such tensor", f"model.layers.1.{rest}")
    write("model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.2.mlp.down_proj.bias", "medusa_head.0.0.x")
    assert_same(folder, llama.model)


@pytest.mark.parametrize(("window", "windows"), [(100, (100, 100)), (256, ()), (0, ()), ([100, 100], (100, 100))])
def test_gguf_sliding_windows(tmp_path: Path, llama: TorchTwin, window: Any, windows: tuple[int, ...]) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(path, llama.model, extra={"llama.attention.sliding_window": window})
    config = open_source(path).config
    assert (config.context_length, config.windows) == (256, windows)


def test_gguf_values_for_each_layer(tmp_path: Path, llama: TorchTwin) -> None:
    path, heads, width = tmp_path / "m.gguf", "llama.attention.head_count", "llama.feed_forward_length"
    same = {heads: [4, 4], heads + "_kv": [2, 2], width: [96, 96]}
    write_gguf(path, llama.model, extra=same)
    assert_same(path, llama.model)
    write_gguf(path, llama.model, extra=same | {width: [96, 128]})
    refused(path, "m.gguf", width, "96 in layer 0", "128 in layer 1")
    write_gguf(path, llama.model, extra=same | {heads: [4, 4, 4]})
    refused(path, "m.gguf", heads, "3 values for 2 layers")


def test_gguf_type_that_is_not_supported(tmp_path: Path, llama: TorchTwin, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "m.gguf", llama.model, matrix_type=Q.Q4_0)
    monkeypatch.setattr("medusa_export.weights.gguf_file._READABLE", {"F32"})
    refused(tmp_path / "m.gguf", "Q4_0", "not supported")


@pytest.mark.parametrize("size", [64, 576, 96, 7])
def test_orthogonal(size: int) -> None:
    matrix = Orthogonal(size).dense()
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-5)


def write_heads(path: Path, **changes: Any) -> None:
    """This project's format, from the tiny heads."""
    heads = tiny_heads(TinySource())
    tensors = {"token_map": torch.tensor(heads.token_map)}
    for k in range(heads.count):
        weight, bias = heads.blocks[k][0]
        tensors |= {
            f"{k}.blocks.0.weight": torch.tensor(weight).half(),
            f"{k}.blocks.0.bias": torch.tensor(bias),
            f"{k}.output.weight": torch.randint(-127, 128, (heads.draft_vocab_size, 64), dtype=torch.int8),
            f"{k}.output.scale": torch.rand(heads.draft_vocab_size),
        }
    facts = {
        "format": 1, "name": "h", "heads": heads.count, "hidden_size": 64, "layers": 1, "output": "own",
        "draft_vocab_size": heads.draft_vocab_size, "backbone": {"id": "tiny", "gguf_sha256": "ab"},
        "accuracies": heads.accuracies, "temperatures": heads.temperatures,
    }  # fmt: skip
    save_file(tensors, path.with_suffix(".safetensors"))
    path.with_suffix(".json").write_text(json.dumps(facts | changes))


def test_heads(tmp_path: Path) -> None:
    write_heads(tmp_path / "h")
    heads = read_heads(tmp_path / "h.safetensors")
    assert (heads.count, heads.hidden_size, heads.draft_vocab_size, heads.name) == (4, 64, 256, "h")
    assert heads.outputs[3].codes.dtype == np.int8
    assert heads.temperatures == [1.0, 1.1, 1.2, 1.3]
    assert heads.static_tree == []
    write_heads(tmp_path / "h", static_tree=[[0], [1], [0, 0]])
    assert read_heads(tmp_path / "h.safetensors").static_tree == [[0], [1], [0, 0]]
    heads.check_fits(TinySource().config, "tiny", "other hash")
    heads.check_fits(TinySource().config, "other name", "ab")
    with pytest.raises(ExportError, match=r"belong to tiny, not to other"):
        heads.check_fits(TinySource().config, "other", "other hash")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 9}, "format 9 is not supported"),
        ({"heads": 5}, "must be a list of 5|4.blocks.0.weight is missing"),
        ({"layers": 2}, r"0.blocks.1.weight is missing"),
        ({"draft_vocab_size": 128}, r"0.output.weight has shape \[256, 64\], expected \[128, 64\]"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"temperatures": [1]}, "temperatures"),
        ({"static_tree": {}}, "static_tree must be a list of paths of ranks"),
        ({"static_tree": [[0], [-1]]}, r"static_tree holds \[-1\]; a path is a list of ranks from 0"),
        ({"static_tree": [[0], [0, 0, 0, 0, 0]]}, r"a path is 1 to 4 ranks long"),
        ({"static_tree": [[0], [1, 0]]}, r"\[1, 0\] comes before its parent \[1\]"),
        ({"static_tree": [[0], [0]]}, r"\[0\] occurs twice"),
    ],
)
def test_refused_heads(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_heads(tmp_path / "h", **changes)
    with pytest.raises(ExportError, match=message):
        read_heads(tmp_path / "h")


def test_heads_of_another_size_name_both(tmp_path: Path, llama: TorchTwin) -> None:
    write_heads(tmp_path / "h")
    heads = read_heads(tmp_path / "h")
    config = open_source(llama.folder).config
    assert config.vocab_size == SIZES["vocab_size"]
    with pytest.raises(ExportError, match=r"token_map goes from \d+ to \d+, outside the 320 tokens of tiny"):
        heads.check_fits(config, "tiny", "")
