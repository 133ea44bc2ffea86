"""What every precision must keep: rows independent of their siblings, results near fp32, exact weights."""

from __future__ import annotations

import itertools
from pathlib import Path

import gguf
import numpy as np
import onnx
import pytest

from conftest import TorchTwin, make_twin
from gguf_files import write_gguf
from medusa_export.errors import ExportError
from medusa_export.export import export_backbone
from medusa_export.graph.backbone import build_split
from medusa_export.graph.builder import GraphBuilder
from medusa_export.graph.embedding import embed
from medusa_export.graph.linear import FloatLinear, Int8RowLinear, TurnedInt8Linear
from medusa_export.measure.session import EXTREMES, open_session, product_of_extremes
from medusa_export.measure.split_runner import SplitRunner
from medusa_export.precisions import PRECISIONS
from medusa_export.weights import open_source
from medusa_export.weights.rotation import RotatedSource
from medusa_export.weights.source import WeightTensor

NAMES = ["int8", "int4", "int8-block", "fp32"]
TEXT = [(37 * i + i * i) % 320 for i in range(120)]


def silent(done: int, total: int) -> None:
    """Progress of no interest."""


@pytest.fixture(scope="module", params=["llama-tied", "mistral", "qwen2", "qwen3", "vicuna"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("precision")
    source = open_source(make_twin(request.param, folder / "hf").folder)
    for name in NAMES:
        export_backbone(source, folder, name, "split", 0, silent)
    return folder


def runner(folder: Path, name: str) -> SplitRunner:
    return SplitRunner(folder / f"backbone.{name}.onnx", capacity=64)


@pytest.mark.parametrize("name", NAMES)
def test_announced_shapes_are_those_of_a_run(folder: Path, name: str) -> None:
    """What a -1 of a Reshape is said to stand for; ONNX Runtime plans its memory by it. No layer has another one."""
    model = onnx.load(folder / f"backbone.{name}.onnx", load_external_data=False)
    announced = {v.name: v.type.tensor_type.shape.dim for v in model.graph.value_info}
    reshaped = {n.output[0] for n in model.graph.node if n.op_type == "Reshape"}
    assert reshaped - announced.keys() == {"next_tokens", "new_kv"}
    kept = {v.name: v for v in model.graph.value_info}
    model.graph.output.extend(kept.values())
    path = folder / f"announced.{name}.onnx"
    path.write_bytes(model.SerializeToString())
    runner = SplitRunner(path, capacity=8)
    sizes = {"n": 5, "r": 2, "C/4": 2}
    feed = runner.feed(np.arange(5), None, 0) | {"output_rows": np.arange(2), "want_logits": np.array(False)}

    def size(name: str) -> int:
        return sizes[name] if name in sizes else int(name[:-1]) * sizes[name[-1]]

    for value, dims in zip(runner.session.run(list(kept), feed), announced.values(), strict=True):
        assert list(value.shape) == [size(d.dim_param) if d.dim_param else d.dim_value for d in dims]


@pytest.mark.parametrize(("name", "least"), [("int8", 9), ("int8-block", 1), ("int4", 1)])
def test_unsigned_weights_give_the_same_bits(folder: Path, tmp_path: Path, name: str, least: int) -> None:
    """As uint8 in the file, which needs no session option, and as int8, exact by whatever this processor needs."""
    source = open_source(folder / "hf")
    entry = export_backbone(source, tmp_path, name, "split", 0, silent, unsigned_weights=True)
    assert entry["unsigned_weights"] is True
    signed = runner(folder, name)
    unsigned = SplitRunner(tmp_path / f"backbone.{name}.onnx", capacity=64, unsigned_weights=False)
    for begin, end in ((0, 37), (37, 38), (38, 46), (46, 120)):
        ids = np.array(TEXT[begin:end])
        expected, found = signed.run(ids, want_logits=True), unsigned.run(ids, want_logits=True)
        for output in ("logits", "hidden", "new_kv"):
            np.testing.assert_array_equal(getattr(found, output), getattr(expected, output), output)
        signed.append(expected), unsigned.append(found)
    model = onnx.load(tmp_path / f"backbone.{name}.onnx", load_external_data=False)
    products = [node for node in model.graph.node if node.op_type == "MatMulIntegerToFloat"]
    types = {each.name: each.data_type for each in model.graph.initializer}
    assert len(products) >= least
    assert {types[node.input[1]] for node in products} == {onnx.TensorProto.UINT8}
    # Nothing else changes: fp32 has no int8 weights.
    other = export_backbone(source, tmp_path, "fp32", "split", 0, silent, unsigned_weights=True)
    assert "unsigned_weights" not in other


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_depend_on_siblings_or_on_how_the_past_came(folder: Path, name: str) -> None:
    """Bit for bit: token by token, as one chain, and on a path of a tree among random siblings."""
    plain, trees = runner(folder, name), runner(folder, name)
    expected = []
    for token in TEXT:
        step = plain.run(np.array([token]), want_logits=True)
        plain.append(step)
        expected.append(step.logits[0])
    random = np.random.default_rng(0)
    begin = 0
    while begin < len(TEXT):
        n = int(random.choice([2, 3, 8, 13, 64]))
        depth = min(n, int(random.integers(1, 6)), len(TEXT) - begin)
        places = [0, *sorted(random.choice(np.arange(1, n), depth - 1, replace=False))]
        ids, parents = random.integers(0, 320, n), [-1] + [int(random.integers(0, i)) for i in range(1, n)]
        ids[places] = TEXT[begin : begin + depth]
        for above, below in itertools.pairwise(places):
            parents[below] = int(above)
        step = trees.run(ids, parents=parents, want_logits=True)
        for i, place in enumerate(places):
            np.testing.assert_array_equal(step.logits[place], expected[begin + i])
        trees.append(step, np.array(places))
        begin += depth
    np.testing.assert_array_equal(trees.past[:, :, :, : len(TEXT)], plain.past[:, :, :, : len(TEXT)])


def test_int8_products_at_their_extremes_are_exact() -> None:
    """Where they saturate, models answer worse without a word: sessions must be opened so that they do not."""
    session = open_session(product_of_extremes())
    for rows in (1, 2, 8, 64):
        found = session.run(None, {"x": np.full((rows, EXTREMES), 255, np.uint8)})[0]
        np.testing.assert_array_equal(np.abs(found), 127 * 127 * EXTREMES)


@pytest.mark.parametrize(("name", "limit"), [("int8", 0.06), ("int4", 0.6), ("int8-block", 0.06)])
def test_results_are_near_those_of_fp32(folder: Path, name: str, limit: float) -> None:
    """Random weights are hard on 4 bits: the limits are for coarse mistakes. Fidelity is measured in results/."""
    ids = np.array(TEXT[:40])
    expected, found = runner(folder, "fp32").run(ids), runner(folder, name).run(ids)
    error = np.linalg.norm(found.hidden - expected.hidden) / np.linalg.norm(expected.hidden)
    assert error < limit


def test_turning_the_stream_changes_nothing_in_float32(twin: TorchTwin, tmp_path: Path) -> None:
    plain = open_source(twin.folder)
    if plain.config.post_norms:  # they stand between a part of a layer and the stream, and know no turned channels
        with pytest.raises(ExportError, match="use int8-block"):
            PRECISIONS["int8"].prepared(plain)
        return
    source = RotatedSource(plain)
    build_split(source, FloatLinear(), tmp_path / "rotated.onnx", False, silent).finish()
    step = SplitRunner(tmp_path / "rotated.onnx").run(np.array(TEXT[:30]), want_logits=True)
    hidden, logits = twin.causal(TEXT[:30])
    np.testing.assert_allclose(step.hidden, hidden, atol=5e-4, rtol=5e-4)
    np.testing.assert_allclose(step.logits, logits, atol=5e-4, rtol=5e-4)


@pytest.mark.parametrize(
    ("kind", "parts"),
    [("Q8_0", ["codes", "scale"]), ("Q4_0", ["codes", "scale"]), ("Q4_1", ["codes", "offset", "scale"])],
)
def test_embeddings_in_blocks_keep_their_codes_and_values(tmp_path: Path, kind: str, parts: list[str]) -> None:
    twin = make_twin("llama", tmp_path / "hf")
    write_gguf(tmp_path / "m.gguf", twin.model, matrix_type=gguf.GGMLQuantizationType[kind])
    table = open_source(tmp_path / "m.gguf").tensor("embed.weight")
    b = GraphBuilder("embed", tmp_path / "embed.onnx")
    b.node("Identity", [embed(b, table, b.input("input_ids", "int64", ["n"]), "float32", keep_codes=True)], "out")
    b.output("out", "float32", ["n", table.shape[1]])
    b.finish()
    model = onnx.load(tmp_path / "embed.onnx", load_external_data=False)
    names = [each.name for each in model.graph.initializer if "embed" in each.name]
    assert sorted(names) == [f"embed.{part}" for part in parts]
    ids = np.arange(table.shape[0])[::-1].copy()
    (found,) = open_session(tmp_path / "embed.onnx").run(None, {"input_ids": ids})
    np.testing.assert_array_equal(found, table.float32()[ids])


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
def test_int4_keeps_the_values_of_q4_files(tmp_path: Path, kind: str) -> None:
    """Against fp32 on the dequantised weights, only the 8-bit activations differ: far less than 4-bit steps would."""
    twin = make_twin("llama", tmp_path / "hf")
    write_gguf(tmp_path / "m.gguf", twin.model, matrix_type=gguf.GGMLQuantizationType[kind])
    source = open_source(tmp_path / "m.gguf")
    for name in ("fp32", "int4"):
        export_backbone(source, tmp_path, name, "split", 0, silent)
    ids = np.array(TEXT[:40])
    expected, found = runner(tmp_path, "fp32").run(ids), runner(tmp_path, "int4").run(ids)
    assert np.linalg.norm(found.hidden - expected.hidden) / np.linalg.norm(expected.hidden) < 0.06


@pytest.mark.parametrize("kind", [gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q8_0])
def test_only_an_lm_head_of_four_bits_keeps_its_codes(tmp_path: Path, kind: gguf.GGMLQuantizationType) -> None:
    twin = make_twin("llama", tmp_path / "hf")
    write_gguf(tmp_path / "m.gguf", twin.model, matrix_type=kind)
    export_backbone(open_source(tmp_path / "m.gguf"), tmp_path, "int4", "split", 0, silent)
    model = onnx.load(tmp_path / "backbone.int4.onnx", load_external_data=False)
    (head,) = {node.op_type for node in model.graph.node if node.output[0] == "lm_head"}
    assert head == ("MatMulNBits" if kind == gguf.GGMLQuantizationType.Q4_1 else "MatMulIntegerToFloat")


def test_turning_channels_spares_a_large_one(tmp_path: Path) -> None:
    """One scale a row of x is wasted on a channel much larger than the others, unless it is spread over its block."""
    random = np.random.default_rng(0)
    x, weight = random.standard_normal((9, 192), np.float32), random.standard_normal((50, 192), np.float32)
    x[:, 7] *= 100
    weight[:, 7] /= 100
    tensor = WeightTensor("w", "w", weight.shape, "F32", lambda: weight)
    errors = []
    for linear in (TurnedInt8Linear(), TurnedInt8Linear(unsigned_weights=True), Int8RowLinear()):
        b = GraphBuilder("product", tmp_path / "product.onnx")
        b.output(linear.apply(b, "y", b.input("x", "float32", ["n", 192]), [tensor]), "float32", ["n", 50])
        b.finish()
        (y,) = open_session(tmp_path / "product.onnx").run(None, {"x": x})
        errors.append(np.linalg.norm(y - x @ weight.T) / np.linalg.norm(x @ weight.T))
    assert errors[0] == errors[1] < errors[2] / 3
    assert errors[0] < 0.1


def test_a_row_of_zeros_stays_finite(tmp_path: Path) -> None:
    """A zero row has scale 0; it must give zeros, not NaN."""
    twin = make_twin("llama", tmp_path / "hf")
    twin.model.model.embed_tokens.weight.data[5] = 0
    twin.model.save_pretrained(tmp_path / "zero")
    export_backbone(open_source(tmp_path / "zero"), tmp_path, "int8", "split", 0, silent)
    step = runner(tmp_path, "int8").run(np.array([5]), want_logits=True)
    assert np.isfinite(step.logits).all()
    assert np.isfinite(step.new_kv).all()
