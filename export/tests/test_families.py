"""Scaled rotary frequencies and Qwen3 over long texts: graphs and the training backbone against transformers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from conftest import LINEAR, LLAMA3, TorchTwin, make_twin
from gguf_files import write_gguf
from medusa_export.__main__ import main
from medusa_export.errors import ExportError
from medusa_export.export import export_backbone
from medusa_export.measure.split_runner import SplitRunner, ancestors
from medusa_export.tokenizer_files.write import write_tokenizer_files
from medusa_export.training.backbone import load_backbone
from medusa_export.training.lora import run_sequences
from medusa_export.weights import open_source
from medusa_export.weights.rope import inverse_frequencies
from shared_runner import SharedRunner
from test_parity import TREE, TREE_IDS, close, path_to, silent
from tiny import tiny_tokenizer

TEXT = [(37 * i + i * i) % 320 for i in range(900)]
GREEDY = 48
ORIGINAL = "phi3.rope.scaling.original_context_length"


@pytest.fixture(
    scope="module",
    params=["llama3", "llama-linear", "llama-yarn", "qwen3", "gemma3", "gemma3-scaled", "mistral-window",
            "qwen2-window", "phi3.5", "phi4"],
)  # fmt: skip
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TorchTwin:
    return make_twin(request.param, tmp_path_factory.mktemp("family") / request.param)


@pytest.fixture(scope="module")
def exported(family: TorchTwin, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    source = open_source(family.folder)
    export_backbone(source, folder, "fp32", "split", 0, silent)
    export_backbone(source, folder, "fp32", "shared", 1024, silent)
    return folder


def test_all_three_bands_of_llama3_occur(tmp_path: Path) -> None:
    divisors = np.array(open_source(make_twin("llama3", tmp_path / "hf").folder).config.rope_divisors)
    assert (divisors == 1).any() and (divisors == LLAMA3["factor"]).any()
    assert ((divisors > 1) & (divisors < LLAMA3["factor"])).any()


def test_frequencies_are_those_of_transformers(family: TorchTwin) -> None:
    rotary = family.model.model.rotary_emb
    kinds = [""] if hasattr(rotary, "inv_freq") else ["full_attention_", "sliding_attention_"]  # Gemma has both
    for kind in kinds:
        check_frequencies(family, getattr(rotary, f"{kind}inv_freq").numpy(), kind.startswith("sliding"))


def check_frequencies(family: TorchTwin, expected: Any, is_local: bool) -> None:
    head_dim = open_source(family.folder).config.head_dim
    expected = np.concatenate([expected, np.zeros(head_dim // 2 - len(expected), np.float32)])  # what does not turn
    backbone = load_backbone(family.folder)
    np.testing.assert_allclose(inverse_frequencies(backbone.config, is_local), expected, rtol=1e-6)
    trained = backbone.local_frequency if is_local else backbone.inverse_frequency
    np.testing.assert_allclose(trained.numpy(), expected, rtol=1e-6)


def test_900_tokens_then_a_tree(family: TorchTwin, exported: Path) -> None:
    hidden, logits = family.causal(TEXT)
    runner, shared = SplitRunner(exported / "backbone.fp32.onnx", capacity=1024), SharedRunner(exported)
    step = runner.run(np.array(TEXT), want_logits=True)
    close(step.hidden, hidden)
    close(step.logits, logits)
    runner.append(step)
    trees = [runner.run(np.array(TREE_IDS), parents=TREE, want_logits=True)]
    # A cache of the shared layout ends where a window begins to slide (prepare.py).
    if not open_source(family.folder).config.windows:
        in_place = shared.run(TEXT)
        close(in_place.hidden, hidden)
        close(in_place.logits, logits)
        shared.length = len(TEXT)
        trees.append(shared.run(TREE_IDS, ancestors(TREE)))
    for node in range(len(TREE)):
        _, expected = family.causal(TEXT + [TREE_IDS[i] for i in path_to(node)])
        for tree in trees:
            close(tree.logits[node], expected[-1])


def test_greedy_tokens_are_the_same_beyond_the_original_context(family: TorchTwin, exported: Path) -> None:
    runner, ids = SplitRunner(exported / "backbone.fp32.onnx", capacity=512), TEXT[:300]
    step, found = runner.run(np.array(ids)), []
    for _ in range(GREEDY):
        runner.append(step)
        found.append(int(step.next_tokens[-1]))
        step = runner.run(np.array(found[-1:]))
    with torch.no_grad():
        expected = family.model.generate(torch.tensor([ids]), max_new_tokens=GREEDY, do_sample=False, eos_token_id=None)
    assert found == expected[0, len(ids) :].tolist()
    assert len(set(found)) > 5


def test_training_sees_the_same_states(family: TorchTwin) -> None:
    hidden, _ = family.causal(TEXT)
    backbone = load_backbone(family.folder)
    close(run_sequences(backbone, torch.tensor([TEXT]))[0].numpy(), hidden)
    cache = backbone.new_cache(1, 1024)
    steps = [backbone.step(torch.tensor([token]), torch.tensor([i]), cache)[0] for i, token in enumerate(TEXT)]
    close(torch.stack(steps).numpy(), hidden)


def test_gemma_in_gguf(tmp_path: Path) -> None:
    twin = make_twin("gemma3", tmp_path / "hf")
    write_gguf(tmp_path / "m.gguf", twin.model, arch="gemma3")
    found, expected = open_source(tmp_path / "m.gguf"), open_source(twin.folder).config
    assert replace(found.config, attention_scale=expected.attention_scale) == expected
    assert found.config.windows == (100,) * 5 + (0, 100)
    export_backbone(found, tmp_path, "fp32", "split", 0, silent)
    step = SplitRunner(tmp_path / "backbone.fp32.onnx").run(np.array(TEXT), want_logits=True)
    close(step.logits, twin.causal(TEXT)[1])


@pytest.mark.parametrize("name", ["phi3.5", "phi4"])
def test_phi_in_gguf(name: str, tmp_path: Path) -> None:
    twin = make_twin(name, tmp_path / "hf")
    write_gguf(tmp_path / "m.gguf", twin.model, arch="phi3")
    found, expected = open_source(tmp_path / "m.gguf"), open_source(twin.folder)
    same = {"rope_divisors": expected.config.rope_divisors, "rope_scale": expected.config.rope_scale}
    assert replace(found.config, **same) == expected.config
    np.testing.assert_allclose(found.config.rope_divisors, same["rope_divisors"], rtol=1e-6)
    assert found.config.rope_scale == pytest.approx(same["rope_scale"], rel=1e-6) and same["rope_scale"] > 1
    assert found.config.context_length == 1024 and "not 4096" in found.config.notes[0]
    for weight in expected.config.tensor_shapes():
        np.testing.assert_array_equal(found.tensor(weight).float32(), expected.tensor(weight).float32(), weight)
    export_backbone(found, tmp_path, "fp32", "split", 0, silent)
    runner = SplitRunner(tmp_path / "backbone.fp32.onnx", capacity=1024)
    step = runner.run(np.array(TEXT), want_logits=True)
    close(step.logits, twin.causal(TEXT)[1])
    runner.append(step)
    tree = runner.run(np.array(TREE_IDS), parents=TREE, want_logits=True)
    for node in range(len(TREE)):
        close(tree.logits[node], twin.causal(TEXT + [TREE_IDS[i] for i in path_to(node)])[1][-1])


def test_longrope_by_its_first_name(tmp_path: Path) -> None:
    """Phi-3-mini-128k was published with the type "su"."""
    folder = make_twin("phi3.5", tmp_path / "hf").folder
    expected, path = open_source(folder).config, folder / "config.json"
    path.write_text(path.read_text().replace('"longrope"', '"su"'))
    assert open_source(folder).config == expected
    assert expected.context_length == 1024


def test_phi_without_longrope_in_gguf(tmp_path: Path) -> None:
    """As Phi-3-mini-4k: no factors, and the window is that of the config."""
    twin = make_twin("phi3.5", tmp_path / "hf")
    twin.model.config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
    twin.model.config.sliding_window = 2047
    write_gguf(tmp_path / "m.gguf", twin.model, arch="phi3")
    config = open_source(tmp_path / "m.gguf").config
    assert (config.rope_divisors, config.rope_scale, config.notes) == ((), 1.0, ())
    assert config.context_length == 4096 and config.windows == (2047, 2047)
    write_gguf(tmp_path / "m.gguf", twin.model, arch="phi3", extra={ORIGINAL: 4096})
    assert open_source(tmp_path / "m.gguf").config == config
    write_gguf(tmp_path / "m.gguf", twin.model, arch="phi3", extra={ORIGINAL: 1024})
    with pytest.raises(ExportError, match=r"m\.gguf: tensor rope_factors_short\.weight is missing; phi3\.rope.* 1024"):
        open_source(tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"extra": {"phi3.rope.dimension_count": 8}}, ("rope_factors_short.weight", "[6]", "[4] by its metadata")),
        ({"extra": {"phi3.rope.scaling.type": "yarn"}}, ("rope scaling 'yarn'",)),
        ({"extra": {"phi3.rope.scaling.attn_factor": -1.0}}, ("rope.scaling.attn_factor is -1",)),
        ({"without": "blk.1.attn_qkv.weight"}, ("blk.1.attn_qkv.weight is missing",)),
        ({"extra": {"phi3.attention.head_count_kv": 4}}, ("blk.0.attn_qkv.weight", "[128, 64]", "192 rows")),
        ({"extra": {"phi3.feed_forward_length": 64}}, ("blk.0.ffn_up.weight", "[192, 64]", "128 rows")),
        ({"tensors": {"blk.0.attn_qkv.bias": np.zeros(128, np.float32)}}, ("has no such tensor", "attn_qkv.bias")),
        ({"without": "rope_factors_short.weight"}, ("m.gguf", "rope_factors_short.weight is missing", "_long.weight")),
        ({"extra": {ORIGINAL: None}}, ("m.gguf", "rope.scaling.original_context_length is missing")),
    ],
)
def test_phi_files_that_are_refused(tmp_path: Path, changes: dict[str, Any], texts: tuple[str, ...]) -> None:
    twin = make_twin("phi4", tmp_path / "hf")
    write_gguf(tmp_path / "m.gguf", twin.model, arch="phi3", **changes)
    with pytest.raises(ExportError) as error:
        open_source(tmp_path / "m.gguf")
    assert all(text in str(error.value) for text in texts), error.value


@pytest.mark.parametrize("name", ["llama3", "llama-linear", "qwen3"])
def test_gguf(name: str, tmp_path: Path) -> None:
    family = make_twin(name, tmp_path / "hf")
    write_gguf(tmp_path / "m.gguf", family.model, arch=family.model.config.model_type)
    source = open_source(tmp_path / "m.gguf")
    expected = open_source(family.folder).config.rope_divisors
    np.testing.assert_allclose(source.config.rope_divisors, expected, rtol=1e-6)
    export_backbone(source, tmp_path, "fp32", "split", 0, silent)
    step = SplitRunner(tmp_path / "backbone.fp32.onnx").run(np.array(TEXT), want_logits=True)
    close(step.logits, family.causal(TEXT)[1])


def test_dynamic_scaling_changes_nothing_within_its_context(tmp_path: Path) -> None:
    """What the refusal advises: the model without the scaling is the same up to max_position_embeddings."""
    twin = make_twin("llama", tmp_path / "hf")
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    dynamic = LlamaForCausalLM(LlamaConfig.from_dict(twin.model.config.to_dict() | {"rope_parameters": rope})).eval()
    dynamic.load_state_dict(twin.model.state_dict())
    dynamic.save_pretrained(tmp_path / "dynamic")
    with pytest.raises(ExportError, match="rope scaling 'dynamic' is not supported"):
        open_source(tmp_path / "dynamic")
    ids = TEXT[: twin.model.config.max_position_embeddings]
    for got, want in zip(twin.causal(ids), TorchTwin(dynamic, tmp_path).causal(ids), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("rope", [LLAMA3, LINEAR], ids=["llama3", "linear"])
@pytest.mark.parametrize("key", ["rope_type", "type"])
def test_both_layouts_of_config_json(tmp_path: Path, llama: TorchTwin, rope: dict[str, Any], key: str) -> None:
    """As published, theta beside `rope_scaling`, and as transformers 5 saves it again, all of it in one object."""
    folder = Path(shutil.copytree(llama.folder, tmp_path / "m"))
    path, scaling = folder / "config.json", {k: v for k, v in rope.items() if k not in ("rope_type", "rope_theta")}
    plain = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("rope_parameters", "rope_scaling")}
    configs = []
    for changes in (
        {"rope_theta": rope["rope_theta"], "rope_scaling": scaling | {key: rope["rope_type"]}},
        {"rope_parameters": scaling | {key: rope["rope_type"], "rope_theta": rope["rope_theta"]}},
    ):
        path.write_text(json.dumps(plain | changes))
        configs.append(open_source(folder).config)
    assert configs[0] == configs[1]
    assert configs[0].rope_theta == rope["rope_theta"] and len(configs[0].rope_divisors) == 8


def test_a_linear_factor_in_gguf_metadata(tmp_path: Path, llama: TorchTwin) -> None:
    path, kind, factor = tmp_path / "m.gguf", "llama.rope.scaling.type", "llama.rope.scaling.factor"
    for extra, expected in (
        ({factor: 4.0}, (4.0,) * 8),
        ({"llama.rope.scale_linear": 4.0}, (4.0,) * 8),
        ({kind: "linear", factor: 4.0, "llama.rope.scale_linear": 2.0}, (4.0,) * 8),
        ({kind: "none", factor: 4.0}, ()),
        ({kind: "linear", factor: 1.0}, ()),
    ):
        write_gguf(path, llama.model, extra=extra)
        assert open_source(path).config.rope_divisors == expected, extra


def test_precisions_of_gemma(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """int8-block stays the default whatever comes later, and int8 is refused before anything is exported."""
    folder, out = make_twin("gemma3", tmp_path / "hf").folder, tmp_path / "out"
    write_tokenizer_files(tiny_tokenizer(), folder)

    def run(into: Path, *more: str) -> int:
        return main(["prepare", "--output", str(into), "--from", str(folder), *more])

    def default(of: Path) -> str:
        return str(json.loads((of / "manifest.json").read_text())["defaults"]["cpu"]["backbone"])

    assert run(out) == 0 and default(out) == "int8-block"
    assert run(out, "--precision", "int4,fp32") == 0 and default(out) == "int8-block"
    assert run(tmp_path / "fp32", "--precision", "fp32") == 0
    assert run(tmp_path / "kept", "--precision", "int4,fp32", "--replaces", str(tmp_path / "fp32")) == 0
    assert default(tmp_path / "kept") == "fp32"
    capsys.readouterr()
    assert run(tmp_path / "new", "--precision", "int8-block,int8") == 1
    said = capsys.readouterr()
    assert "use int8-block" in said.err and "Exporting" not in said.out
    assert not (tmp_path / "new").exists()
