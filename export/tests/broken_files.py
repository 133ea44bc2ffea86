"""Ways to break each file that the exporter reads: (file, what is done to it, words that the message must hold)."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from gguf_files import write_gguf
from tiny import tiny_tokenizer

Damage = Callable[[Path], None]
SAFETENSORS = ("hf/model.safetensors", "h.safetensors", "h.conditional.safetensors", "m.adapter.safetensors")
JSON = (
    "hf/config.json", "hf/tokenizer.json", "hf/tokenizer_config.json", "hf/generation_config.json", "h.json",
    "h.conditional.json", "m.adapter.json",
)  # fmt: skip
WHOLE_FILES = (*JSON, *SAFETENSORS, "model.gguf", "pt/medusa_lm_head.pt")


@dataclass(frozen=True)
class Case:
    """One way to break one file."""

    file: str  # within the folder of `test_broken_files.sound`
    label: str
    damage: Damage
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.label}"


def all_cases() -> list[Case]:
    return [*_whole_files(), *_json_values(), *_safetensors(), *_torch_zip(), *_gguf(), *_heads_tensors()]


# --- any file ----------------------------------------------------------------------------------------------------


def _whole_files() -> Iterator[Case]:
    def special(make: Callable[[Path], object]) -> Damage:
        return lambda path: (path.unlink(), make(path))  # type: ignore[func-returns-value]

    for file in WHOLE_FILES:
        name = (Path(file).name,)
        yield Case(file, "a pipe", special(os.mkfifo), name)
        yield Case(file, "a folder", special(Path.mkdir), name)
        yield Case(file, "a link to itself", special(lambda path: path.symlink_to(path)), name)
        yield Case(file, "a device", special(lambda path: path.symlink_to("/dev/zero")), name)
        yield Case(file, "empty", special(Path.touch), name)
        yield Case(file, "random bytes", _bytes(np.random.default_rng(3).bytes(5000)), name)
    for file in JSON:
        name = Path(file).name
        for label, content in (
            ("a list", b"[]"), ("not UTF-8", b'{"a": "\xff"}'), ("half a surrogate pair", b'{"a": "\\ud800"}'),
            ("half of it", b'{"vocab_size": '), ("nested", b'{"a": ' * 100_000),
            ("a number of 5,000 digits", b'{"a": ' + b"9" * 5000 + b"}"),
        ):  # fmt: skip
            yield Case(file, label, _bytes(content), (name,))


def _bytes(content: bytes) -> Damage:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


# --- values of JSON files ------------------------------------------------------------------------------------------

NAN, INFINITE = float("nan"), float("inf")
_SCALING = {"factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 128}
_VALUES: dict[str, dict[str, list[Any]]] = {
    "hf/config.json": {
        "model_type": [None, {}], "num_hidden_layers": [10**7, 0, -1, 2.5, "2", None, True, [2]],
        "hidden_size": [0, 10**12, "64"], "num_attention_heads": [0, 10**9, [4, 4]], "num_key_value_heads": [-2, 3],
        "head_dim": [0, 15], "intermediate_size": [10**15], "vocab_size": [0, 10**9, "320"],
        "max_position_embeddings": [0, 10**12, 1e3], "rope_theta": [0, -1, "x", NAN, INFINITE],
        "rms_norm_eps": [NAN, 0, -1, "x", INFINITE], "tie_word_embeddings": ["yes"], "sliding_window": ["x"],
        "eos_token_id": [-1, 10**9, "2", [2, "x"], {"a": 1}, 2.5, True], "rope_scaling": [
            "linear", [1], {"type": "linear"}, {"type": "linear", "factor": 0}, {"type": ["linear"], "factor": 2},
            *({"rope_type": "llama3", **_SCALING, key: value} for key, value in (
                ("factor", "8"), ("factor", NAN), ("low_freq_factor", 0), ("low_freq_factor", None),
                ("high_freq_factor", 1), ("high_freq_factor", INFINITE), ("original_max_position_embeddings", 0),
                ("original_max_position_embeddings", 8192.5), ("original_max_position_embeddings", 10**400),
            )),
        ],
        "rope_parameters": [5, {"rope_theta": NAN}, {"rope_type": "llama3"}], "partial_rotary_factor": [0.5, "x"],
        "quantization_config": ["awq"], "hidden_act": [["x"]],
        "attention_bias": ["no"],
    },
    "hf/tokenizer.json": {
        "added_tokens": [5, [{}], [{"content": 5, "id": 1}], [{"content": "a", "id": "x"}]],
        "model": [5, {"vocab": 7}, {"vocab": {"a": "x"}}, {"vocab": {"a": -1}}, {"vocab": [[1]]}, {"type": "Foo"},
                  {"vocab": {"a": 0}, "merges": 5}, {"vocab": {"a": 0}, "merges": ["ab"]}],
        "post_processor": [5, {"processors": 5}, {"single": [5]}],
    },
    "hf/tokenizer_config.json": {"chat_template": [5, [{"a": 1}]], "eos_token": [5], "bos_token": [[1]]},
    "hf/generation_config.json": {"eos_token_id": [-5, "x", 320]},
    "h.json": {
        "format": [9, [1]], "name": ["../h", "", 5, "a/b"], "heads": [10**9, 0, "4", 5], "layers": [10**9, -1, 2],
        "hidden_size": [10**9, "64"], "draft_vocab_size": [10**12], "backbone": [5, {"id": 5}],
        "temperatures": [[0, 1, 1, 1], [NAN, 1, 1, 1], "x", [1]], "accuracies": [[[NAN]] * 4, [5] * 4, [[2]] * 4],
        "static_tree": [[[0, [1]]], 5],
        "output_of": [5, {"file": "\0", "sha256": ""}], "tokens": ["root", {}], "output": ["shared"],
    },
    "h.conditional.json": {
        "rank": [10**9, 65, 0, "x", None], "distances": [10**9, 0], "context": [5], "levels": [True],
        "temperatures": ["x", [0, 0, 0, 0]], "vocab_size": [10**9], "heads_sha256": [5], "activation": [["silu"]],
    },
    "m.adapter.json": {
        "rank": [10**9, 0, True], "alpha": [NAN, INFINITE, "x", 1e300], "base": [5, {"sha256": 5}], "name": [5],
        "kind": [["x"]],
    },
}  # fmt: skip


def _json_values() -> Iterator[Case]:
    def set_value(key: str, value: Any) -> Damage:
        def edit(path: Path) -> None:
            path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

        return edit

    for file, keys in _VALUES.items():
        for key, values in keys.items():
            for value in values:
                yield Case(file, f"{key} = {value!r:.40}", set_value(key, value), (Path(file).name.split(".")[0],))


# --- safetensors -----------------------------------------------------------------------------------------------------


def split_safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join_safetensors(path: Path, header: object, data: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def entry(**changes: Any) -> Damage:
    """Changes the header's first tensor."""

    def edit(path: Path) -> None:
        header, data = split_safetensors(path)
        name = next(name for name in header if name != "__metadata__")
        header[name] = {k: v(header[name][k]) if callable(v) else v for k, v in (header[name] | changes).items()}
        join_safetensors(path, header, data)

    return edit


def _header(content: Any) -> Damage:
    return lambda path: join_safetensors(path, content, split_safetensors(path)[1])


def _data(change: Callable[[bytes], bytes]) -> Damage:
    def edit(path: Path) -> None:
        header, data = split_safetensors(path)
        join_safetensors(path, header, change(data))

    return edit


HEADERS: dict[str, Damage] = {
    "negative offsets": entry(data_offsets=lambda at: [at[0] - 4096, at[1] - 4096]),
    "swapped offsets": entry(data_offsets=lambda at: at[::-1]),
    "far offsets": entry(data_offsets=lambda at: [10**15, 10**15 + at[1] - at[0]]),
    "an overlap": entry(data_offsets=lambda at: [at[0] + 4, at[1] + 4]),
    "one offset": entry(data_offsets=[0]),
    "three offsets": entry(data_offsets=[0, 1, 2]),
    "offsets as texts": entry(data_offsets=["0", "4"]),
    "offsets as fractions": entry(data_offsets=[0.0, 4.0]),
    "a huge shape": entry(shape=[10**9, 10**9]),
    "a negative shape": entry(shape=[-1, -4]),
    "a shape of fractions": entry(shape=[1.0, 2.0]),
    "a shape of texts": entry(shape="ab"),
    "70 dimensions": entry(shape=lambda shape: [1] * 70 + shape),
    "another shape": entry(shape=lambda shape: [*shape, 2]),
    "no type": entry(dtype=None),
    "a type as a list": entry(dtype=["F32"]),
    "a tensor as a list": lambda path: _header({"a": [1, 2]})(path),
    "a header as a list": lambda path: _header([])(path),
    "a nested header": lambda path: _header(b'{"a":' * 100_000)(path),
    "metadata as a number": lambda path: _header(split_safetensors(path)[0] | {"__metadata__": 5})(path),
    "a header of 2^63 bytes": lambda path: path.write_bytes(struct.pack("<Q", 2**63) + path.read_bytes()[8:]),
    "bytes that belong to no tensor": _data(lambda data: data + b"\0" * 64),
    "cut data": _data(lambda data: data[:-2]),
}  # fmt: skip


def _safetensors() -> Iterator[Case]:
    index = "hf/model.safetensors.index.json"
    for weight_map in ([], {"a": 5}, {"a": ".."}, {"a": "../h.safetensors"}, {"a": "none"}, {"a": "model.safetensors"}):
        text = json.dumps({"weight_map": weight_map}).encode()
        yield Case(index, f"weight_map {weight_map}", _bytes(text), ("index.json",))
    for label, damage in HEADERS.items():
        for file in SAFETENSORS:
            yield Case(file, label, damage, (Path(file).name,))
    big = 3e38  # its square overflows
    values: list[tuple[str, str, str, torch.dtype, float]] = [
        ("hf/model.safetensors", "model.norm.weight", "norm", torch.float32, NAN),
        ("hf/model.safetensors", "model.layers.1.mlp.up_proj.weight", "up", torch.bfloat16, INFINITE),
        ("hf/model.safetensors", "model.layers.0.self_attn.v_proj.weight", "v", torch.float32, big),
        ("hf/model.safetensors", "model.embed_tokens.weight", "embed", torch.float16, NAN),
        ("hf/model.safetensors", "lm_head.weight", "lm_head", torch.float64, 1e300),
        ("h.safetensors", "2.blocks.0.bias", "bias", torch.float32, -INFINITE),
        ("h.safetensors", "1.output.scale", "scale", torch.float32, NAN),
        ("h.safetensors", "0.blocks.0.weight", "block", torch.float16, NAN),
        ("h.conditional.safetensors", "context.weight", "context", torch.float16, INFINITE),
        ("m.adapter.safetensors", "layers.1.q.a", "factor", torch.float16, NAN),
        ("m.adapter.safetensors", "layers.1.up.b", "large factor", torch.float64, 1e300),
    ]
    for file, tensor, label, dtype, value in values:
        named = "v" if value == big else tensor
        yield Case(file, f"{value:g} in {label}", spoil(tensor, dtype, value), (Path(file).name.split(".")[0], named))


def spoil(tensor: str, dtype: torch.dtype, value: float) -> Damage:
    def edit(path: Path) -> None:
        state = load_file(path)
        state[tensor] = state[tensor].to(dtype)
        state[tensor].view(-1)[7] = value
        save_file(state, path)

    return edit


def _heads_tensors() -> Iterator[Case]:
    def change(tensor: str, make: Callable[[torch.Tensor], torch.Tensor]) -> Damage:
        def edit(path: Path) -> None:
            state = load_file(path)
            save_file(state | {tensor: make(state[tensor])}, path)

        return edit

    for label, tensor, make in (
        ("token_map of fractions", "token_map", lambda t: t.float()),
        ("negative token_map", "token_map", lambda t: t - 1000),
        ("token_map beyond int32", "token_map", lambda t: t.long() + 2**32),
        ("token_map of two dimensions", "token_map", lambda t: t[None]),
        ("empty token_map", "token_map", lambda t: t[:0]),
        ("block of whole numbers", "0.blocks.0.weight", lambda t: t.to(torch.int32)),
        ("scale of whole numbers", "0.output.scale", lambda t: t.to(torch.int8)),
    ):
        yield Case("h.safetensors", label, change(tensor, make), ("h", tensor))
    for index in (1, 999_999_999):
        yield Case(
            "vllm/model.safetensors", f"only head {index}", _renamed(f"blocks.{index}.layers.0.weight"), ("heads",)
        )
    yield Case("vllm/model.safetensors", "block 999999999", _renamed("blocks.0.layers.999999999.weight"), ("blocks",))
    yield Case(
        "vllm/model.safetensors", "index of 5,000 digits", _renamed(f"blocks.{'9' * 5000}.layers.0.weight"), ("vllm",)
    )


def _renamed(name: str) -> Damage:
    def edit(path: Path) -> None:
        state = load_file(path)
        save_file({name: state.pop("blocks.0.layers.0.weight"), **state}, path)

    return edit


# --- .pt -------------------------------------------------------------------------------------------------------------


class _Call:
    """Pickled as a call of torch._utils._rebuild_tensor_v2 and its like."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call


class _Storage:
    def __init__(self, key: str) -> None:
        self.key = key


def _pt(build: Callable[[], Any], storages: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Damage:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("storage", torch.FloatStorage, value.key, "cpu", 1) if isinstance(value, _Storage) else None

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", compression) as archive:
            with archive.open("x/data.pkl", "w") as file:
                Pickler(file, 2).dump(build())
            for key, content in storages.items():
                archive.writestr(f"x/data/{key}", content)

    return write


def _tensor(key: str, size: Any, stride: Any, offset: Any = 0) -> _Call:
    return _Call(torch._utils._rebuild_tensor_v2, _Storage(key), offset, size, stride, False, {})


def _torch_zip() -> Iterator[Case]:
    file, one = "pt/medusa_lm_head.pt", {"0": struct.pack("<f", 1)}
    zeros, name = {"0": bytes(160_000_000)}, "0.0.linear.weight"
    matrix = (64, 64), (64, 1)
    pickles: list[tuple[str, Damage]] = [
        ("unfolds to 160 MB", _pt(lambda: {name: _tensor("0", *matrix)}, zeros, zipfile.ZIP_DEFLATED)),
        ("one value repeated", _pt(lambda: {name: _tensor("0", (10**5, 10**5), (0, 0))}, one)),
        ("reaches beyond", _pt(lambda: {name: _tensor("0", *matrix)}, one)),
        ("negative size", _pt(lambda: {name: _tensor("0", (-1, 64), (64, 1))}, one)),
        ("negative offset", _pt(lambda: {name: _tensor("0", (1,), (1,), -1)}, one)),
        ("sizes as texts", _pt(lambda: {name: _tensor("0", ("a", 64), (64, 1))}, one)),
        ("no storage", _pt(lambda: {name: _tensor("9", (1,), (1,))}, one)),
        ("a list", _pt(lambda: [1, 2], {})),
        ("no tensors", _pt(lambda: {name: "text"}, {})),
        ("another function", _pt(lambda: {name: _Call(os.getcwd)}, {})),
        ("not a matrix", _pt(lambda: {name: _tensor("0", (1,), (1,)), "0.1.weight": _tensor("0", (1,), (1,))}, one)),
        ("NaN", _pt(lambda: {name: _tensor("0", *matrix), "0.1.weight": _tensor("0", *matrix)},
                    {"0": struct.pack("<f", NAN) * 4096})),
        ("head 999999999", _pt(lambda: {"999999999.0.linear.weight": _tensor("0", (1, 1), (1, 1))}, one)),
        ("a memo of 2^31", _raw_pickle(b"\x80\x02}r\xff\xff\xff\x7f.")),
        ("a cut pickle", _raw_pickle(b"\x80\x02}q\x00(")),
        ("an unknown persistent id", _raw_pickle(b"\x80\x02K\x05Q.")),
        ("a number", _raw_pickle(b"\x80\x02K\x05.")),
        ("half of it", lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])),
        ("no pickle", lambda path: zipfile.ZipFile(path, "w").close()),
    ]  # fmt: skip
    for label, damage in pickles:
        yield Case(file, label, damage, ("medusa_lm_head.pt",))


def _raw_pickle(code: bytes) -> Damage:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/data.pkl", code)

    return write


# --- GGUF ------------------------------------------------------------------------------------------------------------

_METADATA: dict[str, list[Any]] = {
    "general.architecture": [5, None, ["llama"]], "llama.block_count": [10**7, 0, "2", None, [2, 2], 2.0, -1],
    "llama.context_length": [0, 10**12, "x"], "llama.embedding_length": [0, 63, "64"],
    "llama.attention.head_count": [0, 10**9, [4, 2], [4, 4, 4], 4.5], "llama.attention.head_count_kv": [[2, 1], 3, "x"],
    "llama.feed_forward_length": [[96, 128], 10**12], "llama.rope.freq_base": [NAN, 0.0, "x"],
    "llama.attention.layer_norm_rms_epsilon": [NAN, 0.0, None], "llama.attention.sliding_window": ["x", -5, [10, 20]],
    "llama.rope.dimension_count": [8], "llama.expert_count": [4, "x"], "llama.rope.scaling.type": [5, "yarn"],
    "llama.rope.scaling.factor": ["x", 0.0, NAN], "llama.rope.scale_linear": [-1.0],
    "general.alignment": [0, 3, "x"], "tokenizer.ggml.tokens": [["a", "b"], 5, [1, 2]],
    "tokenizer.ggml.model": [5, "bert"],
    "tokenizer.ggml.token_type": [[1, 1], ["x"] * 512, 5], "tokenizer.ggml.merges": [["ab"], [1], 5],
    "tokenizer.ggml.pre": ["tekken", 5], "tokenizer.ggml.eos_token_id": [-1, 10**6, "x"],
    "tokenizer.ggml.bos_token_id": [512], "tokenizer.ggml.add_bos_token": [5], "tokenizer.chat_template": [5, ["x"]],
}  # fmt: skip


def _gguf() -> Iterator[Case]:
    for key, values in _METADATA.items():
        for value in values:
            yield Case("model.gguf", f"{key} = {value!r:.30}", _rewritten({key: value}), ("model.gguf",))
    for label, factors in (
        ("too few", np.ones(7)), ("two dimensions", np.ones((2, 4))), ("zero", np.zeros(8)), ("NaN", np.full(8, NAN)),
        ("infinite", np.full(8, INFINITE)), ("negative", np.arange(-1, 7)),
    ):  # fmt: skip
        made = {"rope_freqs.weight": factors.astype(np.float32)}
        yield Case("model.gguf", f"rope_freqs: {label}", _with_tensors(made), ("model.gguf", "rope_freqs.weight"))
    half = {"rope_freqs.weight": np.ones(8, np.float16)}
    yield Case("model.gguf", "rope_freqs of float16", _with_tensors(half), ("model.gguf", "rope_freqs.weight", "F32"))
    spm = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": [0.0] * 512}
    for label, changes in (
        ("no scores", {"tokenizer.ggml.scores": None}),
        ("a score of NaN", {"tokenizer.ggml.scores": [NAN] * 512}),
        ("a piece of 100,000 characters", {"tokenizer.ggml.tokens": [*map(str, range(511)), "a" * 100_000]}),
    ):
        yield Case("model.gguf", f"SentencePiece, {label}", _rewritten(spm | changes), ("model.gguf", "tokenizer.ggml"))

    def at(find: bytes, offset: int, value: bytes) -> Damage:
        def edit(path: Path) -> None:
            content = bytearray(path.read_bytes())
            place = content.index(find) + offset
            content[place : place + len(value)] = value
            path.write_bytes(content)

        return edit

    norm, block = b"output_norm.weight", b"blk.1.ffn_up.weight"
    u32, u64 = (lambda v: struct.pack("<I", v)), (lambda v: struct.pack("<Q", v))
    patches: dict[str, Damage] = {
        "version 99": at(b"GGUF", 4, u32(99)),
        "the other byte order": at(b"GGUF", 4, struct.pack(">I", 3)),
        "2^60 tensors": at(b"GGUF", 8, u64(2**60)),
        "2^60 values": at(b"GGUF", 16, u64(2**60)),
        "a key of 2^63 bytes": at(b"GGUF", 24, u64(2**63)),
        "a value of type 99": at(b"llama.block_count", 17, u32(99)),
        "an array of 2^60": at(b"tokenizer.ggml.token_type", 29, u64(2**60)),
        "nested arrays": at(b"tokenizer.ggml.token_type", 25, u32(9) + u64(2**40)),
        "a text that is not UTF-8": at(b"<|im_start|>", 0, b"\xff\xfe"),
        "2^31 dimensions": at(norm, 18, u32(2**31)),
        "2^62 values in a tensor": at(norm, 22, u64(2**62)),
        "a tensor of type 99": at(norm, 30, u32(99)),
        "an offset of 2^62": at(norm, 34, u64(2**62)),
        "tensors that overlap": at(norm, 34, u64(0)),
        "a key twice": at(b"llama.block_count", 0, b"llama.block_coun_"),
        "a name that is not UTF-8": at(norm, 0, b"\xff\xfe"),
        "half of it": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    }
    for label, damage in patches.items():
        yield Case("model.gguf", label, damage, ("model.gguf",))
    quant = gguf.GGMLQuantizationType
    for kind, value in ((quant.F32, NAN), (quant.F16, INFINITE), (quant.Q8_0, NAN), (quant.Q4_1, INFINITE)):
        yield Case(
            "model.gguf",
            f"{value} in {kind.name}",
            _spoilt_gguf(block.decode(), kind, value),
            ("model.gguf", block.decode()),
        )


def _model(path: Path) -> torch.nn.Module:
    return LlamaForCausalLM.from_pretrained(path.parent / "hf")


def _rewritten(changes: dict[str, Any]) -> Damage:
    return lambda path: write_gguf(path, _model(path), tokenizer=tiny_tokenizer(), extra=changes)


def _with_tensors(tensors: dict[str, Any]) -> Damage:
    return lambda path: write_gguf(path, _model(path), tokenizer=tiny_tokenizer(), tensors=tensors)


def _spoilt_gguf(tensor: str, kind: gguf.GGMLQuantizationType, value: float) -> Damage:
    def edit(path: Path) -> None:
        write_gguf(path, _model(path), tokenizer=tiny_tokenizer(), matrix_type=kind)
        found = next(t for t in gguf.GGUFReader(path).tensors if t.name == tensor)
        content = bytearray(path.read_bytes())
        raw = struct.pack("<f" if kind == gguf.GGMLQuantizationType.F32 else "<e", value)
        content[found.data_offset : found.data_offset + len(raw)] = raw
        path.write_bytes(content)

    return edit
