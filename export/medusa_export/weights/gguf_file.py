"""Reader of GGUF files (llama.cpp's format) of the architectures in `_ARCHITECTURES`.

llama.cpp stores the rows of q and k interleaved per head (its `permute`) for the llama architecture, since its rotary
embedding pairs neighbours; ours pairs halves as Hugging Face does, so those rows are put back in order here.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from ..errors import ExportError
from .checked import check_regular, reading, shown
from .config import ModelConfig, layer_windows
from .fields import Fields
from .finite import finite
from .gguf_blocks import BLOCK_READERS
from .gguf_parts import gguf_parts
from .gguf_rope import context_of, with_rope
from .joined import JOINED, Part, part_of
from .source import Array, BlockTensor, WeightTensor

_LAYER_NAMES = {
    "attn_norm": "attn_norm", "mlp_norm": "ffn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
    "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down", "q_norm": "attn_q_norm", "k_norm": "attn_k_norm",
    "post_attn_norm": "post_attention_norm", "post_mlp_norm": "post_ffw_norm",
}  # fmt: skip
_TOP_NAMES = {"embed": "token_embd", "norm": "output_norm", "lm_head": "output"}
_JOINED_NAMES = {"qkv": "attn_qkv", "gate_up": "ffn_up"}
_ARCHITECTURES = ("llama", "qwen2", "qwen3", "phi3", "gemma3")
_READABLE = {
    "F32",
    "F16",
    "BF16",
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "IQ4_NL",
    "IQ4_XS",
}


def _gguf_name(name: str, layer_names: dict[str, str]) -> str:
    if not name.startswith("layers."):
        stem, kind = name.split(".")
        return f"{_TOP_NAMES[stem]}.{kind}"
    _, layer, stem, kind = name.split(".")
    return f"blk.{layer}.{layer_names[stem]}.{kind}"


class GgufSource:
    """A GGUF file as a `WeightSource`; `field` and `fields` also serve the tokenizer's tables."""

    kind = "gguf"

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path):
            # The first part of a split model holds the metadata.
            readers = [_open(each) for each in gguf_parts(path)]
            self._reader = readers[0]
            self._tensors = {t.name: t for reader in readers for t in reader.tensors}
            self.fields = Fields(f"{path.name}: metadata", self.field)
            self._check_split(sum(len(reader.tensors) for reader in readers))
            self.config = self._config()
            self.quantization = _main_type(readers)

    def _check_split(self, found: int) -> None:
        expected = self.fields.whole("split.tensors.count", found, least=0)
        if len(self._tensors) != found or expected != found:
            raise ExportError(
                f"{self.path.name}: its parts hold {found} tensors, {len(self._tensors)} of different names; expected"
                f" {expected}"
            )

    def field(self, key: str, default: Any = None) -> Any:
        """The value of a metadata key as it is in the file, or `default`."""
        found = self._reader.get_field(key)
        try:
            return default if found is None else found.contents()
        except UnicodeDecodeError as error:
            raise ExportError(f"{self.path.name}: metadata key {key} is not UTF-8: {error}") from error

    def _config(self) -> ModelConfig:
        arch = self.fields.text("general.architecture")
        if arch not in _ARCHITECTURES:
            supported = ", ".join(_ARCHITECTURES)
            raise ExportError(f"{self.path.name}: architecture '{arch}' is not supported (supported: {supported})")
        layers = self.fields.whole(f"{arch}.block_count")
        of_arch = Fields(f"{self.path.name}: metadata", lambda key: self._of_all_layers(f"{arch}.{key}", layers))
        if of_arch.whole("expert_count", 0, least=0):
            raise ExportError(f"{self.path.name}: mixture-of-experts models are not supported")
        heads, hidden = of_arch.whole("attention.head_count"), of_arch.whole("embedding_length")
        head_dim = of_arch.whole("attention.key_length", hidden // heads)
        if "token_embd.weight" not in self._tensors:
            raise ExportError(f"{self.path.name}: tensor token_embd.weight is missing")
        context, notes = context_of(arch, self.path.name, of_arch, self._tensors)
        window = of_arch.whole("attention.sliding_window", 0, least=0)
        config = ModelConfig(
            family=arch,
            layers=layers,
            hidden_size=hidden,
            query_heads=heads,
            kv_heads=of_arch.whole("attention.head_count_kv", heads),
            head_dim=head_dim,
            intermediate_size=of_arch.whole("feed_forward_length"),
            vocab_size=int(self._tensors["token_embd.weight"].shape[1]),
            context_length=context,
            rope_theta=of_arch.number("rope.freq_base", 10000.0, above=0),
            rms_norm_eps=_short_float(of_arch.number("attention.layer_norm_rms_epsilon", above=0, below=1)),
            tied_embeddings="output.weight" not in self._tensors,
            qkv_bias="blk.0.attn_q.bias" in self._tensors,
            qk_norm=arch in ("qwen3", "gemma3"),
            # llama.cpp knows these by the name of the architecture, and adds 1 to the gains when it converts.
            post_norms=arch == "gemma3",
            embed_scale=hidden**0.5 if arch == "gemma3" else 1.0,
            activation="gelu_tanh" if arch == "gemma3" else "silu",
            local_rope_theta=of_arch.number("rope.freq_base_swa", 10000.0, above=0) if arch == "gemma3" else 0.0,
            windows=_windows(arch, context, window, layers),
            notes=notes,
        )
        return with_rope(config, self.path.name, of_arch, self._tensors)

    def _of_all_layers(self, key: str, layers: int) -> Any:
        """A value that some files give once for each layer: the graphs' layers are alike, so it must be the same."""
        value = self.field(key)
        if not isinstance(value, list):
            return value
        other = next((i for i, each in enumerate(value) if each != value[0]), None)
        if len(value) != layers:
            raise ExportError(f"{self.path.name}: metadata key {key} has {len(value)} values for {layers} layers")
        if other is not None:
            raise ExportError(
                f"{self.path.name}: metadata key {key} is {shown(value[0])} in layer 0 and {shown(value[other])} in"
                f" layer {other}; only models whose layers are alike are supported"
            )
        return value[0]

    @property
    def tensor_names(self) -> list[str]:
        """Of all tensors in the file, those that nothing reads too."""
        return list(self._tensors)

    def tensor(self, name: str) -> WeightTensor:
        source_name, part = self._place(name)
        found = self._tensors.get(source_name)
        if found is None:
            raise ExportError(f"{self.path.name}: tensor {source_name} is missing")
        type_name = found.tensor_type.name
        if type_name not in _READABLE:
            raise ExportError(f"{self.path.name}: tensor {source_name} has type {type_name}, which is not supported")
        there = tuple(int(d) for d in reversed(found.shape))
        label = f"{self.path.name}: tensor {source_name}"
        shape = there if part is None else part.shape(there, label)

        def data() -> Array:
            """As the file has it, its first axis the rows that are ours."""
            rows = self._row_order(name, shape) if part is None else part.rows
            return np.asarray(found.data) if rows is None else np.asarray(found.data)[rows]

        def read() -> Array:
            with np.errstate(over="ignore", invalid="ignore"):  # `finite` finds what that makes
                values = gguf.dequantize(data(), found.tensor_type).reshape(shape).astype(np.float32, copy=False)
            return finite(values, label)

        def blocks() -> BlockTensor:
            made = BLOCK_READERS[type_name](data(), shape)
            finite(made.scale, f"{label} (its block scales)")
            if made.offset is not None:
                finite(made.offset, f"{label} (its block offsets)")
            return made

        has_blocks = type_name in BLOCK_READERS and len(shape) == 2
        return WeightTensor(name, source_name, shape, type_name, read, blocks if has_blocks else None)

    def _place(self, name: str) -> tuple[str, Part | None]:
        """The tensor in the file, and which of its rows where others are joined to it."""
        stem = name.split(".")[-2]
        part = part_of(self.config, stem)
        names = _LAYER_NAMES if part is None else _LAYER_NAMES | {stem: _JOINED_NAMES[JOINED[stem]]}
        return _gguf_name(name, names), part

    def _row_order(self, name: str, shape: tuple[int, ...]) -> Array | None:
        """Row indices that undo llama.cpp's permutation of q and k; None where there is none."""
        if self.config.family != "llama" or not (".q." in name or ".k." in name):
            return None
        heads = shape[0] // self.config.head_dim
        return np.arange(shape[0]).reshape(heads, self.config.head_dim // 2, 2).swapaxes(1, 2).reshape(-1)


def _windows(arch: str, context: int, window: int, layers: int) -> tuple[int, ...]:
    if arch == "gemma3":  # five of six layers, which also rotate otherwise
        return tuple(window if (layer + 1) % 6 else 0 for layer in range(layers))
    return layer_windows(context, window, [True] * layers)


class _Reader(gguf.GGUFReader):
    """gguf's reader, but nothing is read past the end of the file: it takes what is not there for values of no size,
    so that an array of 2^60 of them never ends.
    """

    _left = 8_000_000  # values that the metadata and the list of tensors may hold; the largest vocabularies need 3

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
        if raw_type == gguf.GGUFValueType.ARRAY:
            count, there = int(self._get(orig_offs + 4, np.uint64)[0]), len(self.data) - orig_offs
            if count > there:
                raise ValueError(f"an array of {count} values does not fit in {there} bytes")
        return super()._get_field_parts(orig_offs, raw_type)

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Array:
        wanted, there = int(count) * np.dtype(dtype).itemsize, len(self.data) - int(offset)
        if wanted > there:
            raise ValueError(f"{wanted} bytes at {offset} are beyond its end")
        self._left -= 1
        if self._left < 0:
            raise ValueError("its metadata hold more values than any model's")
        return super()._get(offset, dtype, count, override_order)


def _open(path: Path) -> gguf.GGUFReader:
    check_regular(path)
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ExportError(f"{path.name} is not a GGUF file (it does not begin with 'GGUF')")
    try:
        reader = _Reader(path)
    except Exception as error:  # the reader raises anything from IndexError to ValueError on short files
        raise ExportError(f"{path.name} is truncated or damaged: {error}") from error
    if reader.byte_order != "I":
        raise ExportError(f"{path.name} has another byte order than this machine; convert it")
    at, last = 0, ""
    # Without overlap all of them together are no larger than the file.
    for begin, size, name in sorted((int(t.data_offset), int(t.n_bytes), t.name) for t in reader.tensors):
        if begin < at:
            raise ExportError(f"{path.name}: the tensors {last} and {name} overlap")
        at, last = begin + size, name
    if at > path.stat().st_size:
        raise ExportError(f"{path.name} is truncated: {path.stat().st_size} bytes of at least {at}")
    return reader


def _main_type(readers: list[gguf.GGUFReader]) -> str:
    matrices = Counter(t.tensor_type.name for reader in readers for t in reader.tensors if len(t.shape) == 2)
    return matrices.most_common(1)[0][0] if matrices else "none"


def _short_float(value: Any) -> float:
    """A float32 of the file as the short decimal that was meant (1e-05, not 9.999999747378752e-06)."""
    return float(str(np.float32(value)))
