"""Reader of GGUF files (llama.cpp's format) for the architectures `llama` and `qwen2`.

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
from .config import ModelConfig
from .gguf_blocks import BLOCK_READERS
from .source import Array, WeightTensor

_LAYER_NAMES = {
    "attn_norm": "attn_norm", "mlp_norm": "ffn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
    "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}  # fmt: skip
_TOP_NAMES = {"embed": "token_embd", "norm": "output_norm", "lm_head": "output"}
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
}


def _gguf_name(name: str) -> str:
    if not name.startswith("layers."):
        stem, kind = name.split(".")
        return f"{_TOP_NAMES[stem]}.{kind}"
    _, layer, stem, kind = name.split(".")
    return f"blk.{layer}.{_LAYER_NAMES[stem]}.{kind}"


class GgufSource:
    """A GGUF file as a `WeightSource`; `fields` also serves the tokenizer's tables."""

    kind = "gguf"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = _open(path)
        self._tensors = {t.name: t for t in self._reader.tensors}
        self.config = self._config()
        self.quantization = _main_type(self._reader)

    def field(self, key: str, default: Any = None) -> Any:
        """The value of a metadata key, or `default`."""
        found = self._reader.get_field(key)
        return default if found is None else found.contents()

    def _need(self, key: str) -> Any:
        value = self.field(key)
        if value is None:
            raise ExportError(f"{self.path.name}: metadata key {key} is missing")
        return value

    def _config(self) -> ModelConfig:
        arch = str(self._need("general.architecture"))
        if arch not in ("llama", "qwen2"):
            raise ExportError(f"{self.path.name}: architecture '{arch}' is not supported (supported: llama, qwen2)")
        scaling = self.field(f"{arch}.rope.scaling.type", "none")
        if scaling not in ("none", "") or "rope_freqs.weight" in self._tensors:
            label = "rope_freqs (Llama 3 scaling)" if "rope_freqs.weight" in self._tensors else scaling
            raise ExportError(f"{self.path.name}: rope scaling '{label}' is not supported")
        if self.field(f"{arch}.expert_count", 0):
            raise ExportError(f"{self.path.name}: mixture-of-experts models are not supported")
        heads, hidden = (
            int(self._need(f"{arch}.attention.head_count")),
            int(self._need(f"{arch}.embedding_length")),
        )
        head_dim = int(self.field(f"{arch}.attention.key_length", hidden // heads))
        if int(self.field(f"{arch}.rope.dimension_count", head_dim)) != head_dim:
            raise ExportError(f"{self.path.name}: partial rotary embeddings are not supported")
        if "token_embd.weight" not in self._tensors:
            raise ExportError(f"{self.path.name}: tensor token_embd.weight is missing")
        return ModelConfig(
            family=arch,
            layers=int(self._need(f"{arch}.block_count")),
            hidden_size=hidden,
            query_heads=heads,
            kv_heads=int(self.field(f"{arch}.attention.head_count_kv", heads)),
            head_dim=head_dim,
            intermediate_size=int(self._need(f"{arch}.feed_forward_length")),
            vocab_size=int(self._tensors["token_embd.weight"].shape[1]),
            context_length=int(self._need(f"{arch}.context_length")),
            rope_theta=float(self.field(f"{arch}.rope.freq_base", 10000.0)),
            rms_norm_eps=_short_float(self._need(f"{arch}.attention.layer_norm_rms_epsilon")),
            tied_embeddings="output.weight" not in self._tensors,
            qkv_bias="blk.0.attn_q.bias" in self._tensors,
        )

    def tensor(self, name: str) -> WeightTensor:
        source_name = _gguf_name(name)
        found = self._tensors.get(source_name)
        if found is None:
            raise ExportError(f"{self.path.name}: tensor {source_name} is missing")
        type_name = found.tensor_type.name
        if type_name not in _READABLE:
            raise ExportError(f"{self.path.name}: tensor {source_name} has type {type_name}, which is not supported")
        shape = tuple(int(d) for d in reversed(found.shape))
        order = self._row_order(name, shape)

        def read() -> Array:
            values = gguf.dequantize(found.data, found.tensor_type).reshape(shape).astype(np.float32, copy=False)
            return values if order is None else values[order]

        reader = BLOCK_READERS.get(type_name) if len(shape) == 2 else None
        blocks = None if reader is None else (lambda: reader(np.asarray(found.data), shape, order))
        return WeightTensor(name, source_name, shape, type_name, read, blocks)

    def _row_order(self, name: str, shape: tuple[int, ...]) -> Array | None:
        """Row indices that undo llama.cpp's permutation of q and k; None where there is none."""
        if self.config.family != "llama" or not (".q." in name or ".k." in name):
            return None
        heads = shape[0] // self.config.head_dim
        return np.arange(shape[0]).reshape(heads, self.config.head_dim // 2, 2).swapaxes(1, 2).reshape(-1)


def _open(path: Path) -> gguf.GGUFReader:
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ExportError(f"{path.name} is not a GGUF file (it does not begin with 'GGUF')")
    try:
        reader = gguf.GGUFReader(path)
    except Exception as error:  # the reader raises anything from IndexError to ValueError on short files
        raise ExportError(f"{path.name} is truncated or damaged: {error}") from error
    end = max((int(t.data_offset + t.n_bytes) for t in reader.tensors), default=0)
    if end > path.stat().st_size:
        raise ExportError(f"{path.name} is truncated: {path.stat().st_size} bytes of at least {end}")
    return reader


def _main_type(reader: gguf.GGUFReader) -> str:
    matrices = Counter(t.tensor_type.name for t in reader.tensors if len(t.shape) == 2)
    return matrices.most_common(1)[0][0] if matrices else "none"


def _short_float(value: Any) -> float:
    """A float32 of the file as the short decimal that was meant (1e-05, not 9.999999747378752e-06)."""
    return float(str(np.float32(value)))
