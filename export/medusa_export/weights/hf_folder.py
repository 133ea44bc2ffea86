"""Reader of Hugging Face folders: config.json, and .safetensors or .bin files (one, or many with an index)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
from .checked import read_json, reading, shown
from .config import ModelConfig, layer_windows
from .fields import Fields
from .hub_cache import name_of
from .joined import JOINED, Part, part_of
from .rope import longrope_context, scaling_from_json
from .safetensors_file import FLOATS
from .source import WeightTensor
from .tensor_file import TensorFile, open_tensors

_FAMILIES = {
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "phi3": "phi3",
    "gemma3_text": "gemma3",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm", "q": "self_attn.q_proj",
    "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj", "gate": "mlp.gate_proj",
    "up": "mlp.up_proj", "down": "mlp.down_proj", "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm",
}  # fmt: skip
# Gemma 3 has a norm after each part of a layer too, under the name that the others have for the one before the MLP.
_GEMMA_NAMES = _LAYER_NAMES | {
    "mlp_norm": "pre_feedforward_layernorm", "post_attn_norm": "post_attention_layernorm",
    "post_mlp_norm": "post_feedforward_layernorm",
}  # fmt: skip
_TOP_NAMES = {"embed": "model.embed_tokens", "norm": "model.norm", "lm_head": "lm_head"}
_JOINED_NAMES = {"qkv": "self_attn.qkv_proj", "gate_up": "mlp.gate_up_proj"}


def _hf_name(name: str, layer_names: dict[str, str] = _LAYER_NAMES) -> str:
    if not name.startswith("layers."):
        stem, kind = name.split(".")
        return f"{_TOP_NAMES[stem]}.{kind}"
    _, layer, stem, kind = name.split(".")
    return f"model.layers.{layer}.{layer_names[stem]}.{kind}"


class HfFolderSource:
    """A folder with config.json and safetensors as a `WeightSource`."""

    kind = "huggingface"

    def __init__(self, path: Path) -> None:
        self.path = path
        raw = read_json(path / "config.json")
        self._files = _open_files(path)
        has_head = "lm_head.weight" in self._files
        with reading(path / "config.json"):
            config = config_from_json(raw, f"{name_of(path)}/config.json")
        # Some checkpoints say "tied" and still hold the matrix, others the reverse: the flag decides, then the file.
        tied = config.tied_embeddings or not has_head
        has_bias = "model.layers.0.self_attn.q_proj.bias" in self._files
        self.config = replace(config, tied_embeddings=tied, qkv_bias=has_bias)
        fields = Fields(f"{name_of(path)}/config.json", raw.get)
        self.eos_token_ids = fields.ids("eos_token_id", config.vocab_size)
        if "model.embed_tokens.weight" not in self._files:
            raise ExportError(f"{name_of(path)}: tensor model.embed_tokens.weight is missing")
        self.quantization = self._files["model.embed_tokens.weight"].dtype("model.embed_tokens.weight")

    @property
    def tensor_names(self) -> list[str]:
        """Of all tensors in the files, those of no model's too."""
        return list(self._files)

    def tensor(self, name: str) -> WeightTensor:
        source_name, part = self._place(name)
        file = self._files.get(source_name)
        if file is None:
            raise ExportError(f"{name_of(self.path)}: tensor {source_name} is missing")
        dtype = file.dtype(source_name)
        if dtype not in FLOATS:
            raise ExportError(
                f"{name_of(self.path)}: tensor {source_name} has type {dtype}; quantised folders are not supported"
            )
        shape = file.shape(source_name)
        if self.config.family == "gemma3" and name.endswith("norm.weight"):
            # Gemma keeps what is added to 1.
            return WeightTensor(name, source_name, shape, dtype, lambda: file.float32(source_name) + np.float32(1))
        if part is None:
            return WeightTensor(name, source_name, shape, dtype, lambda: file.float32(source_name))
        shape, rows = part.shape(shape, f"{name_of(self.path)}: tensor {source_name}"), part.rows
        return WeightTensor(name, source_name, shape, dtype, lambda: file.float32(source_name)[rows])

    def _place(self, name: str) -> tuple[str, Part | None]:
        """The tensor in the files, and which of its rows; None: all as they are."""
        stem = name.split(".")[-2]
        part = part_of(self.config, stem)
        names = _GEMMA_NAMES if self.config.family == "gemma3" else _LAYER_NAMES
        if part is not None:
            names = names | {stem: _JOINED_NAMES[JOINED[stem]]}
        return _hf_name(name, names), part


def _open_files(path: Path) -> dict[str, TensorFile]:
    """Tensor name -> the file that holds it. As in transformers, safetensors come first."""
    for stem, suffix in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        index, single = path / f"{stem}{suffix}.index.json", path / f"{stem}{suffix}"
        if index.is_file():
            return _open_shards(index)
        if single.is_file():
            file = open_tensors(single)
            return dict.fromkeys(file.entries, file)
    raise ExportError(f"{path}: neither model.safetensors nor pytorch_model.bin is there, nor an index of either")


def _open_shards(index: Path) -> dict[str, TensorFile]:
    folder = index.parent
    weight_map = Fields(index.name, read_json(index).get).mapping("weight_map")
    files: dict[str, TensorFile] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str):
            raise ExportError(f"{index.name}: the file of {tensor} is {shown(name)}; expected a name")
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name:
            raise ExportError(f"{index.name} names '{name}', which is not a file of its own folder")
        if not (folder / name).is_file():
            raise ExportError(f"{name_of(folder)}: shard {name}, named by {index.name}, is missing")
        files[name] = open_tensors(folder / name)
    for tensor, name in weight_map.items():
        if tensor not in files[name].entries:
            raise ExportError(f"{name_of(folder)}: tensor {tensor} is not in shard {name}, where {index.name} puts it")
    return {tensor: files[name] for tensor, name in weight_map.items()}


def config_from_json(raw: dict[str, Any], label: str) -> ModelConfig:
    """A `ModelConfig` from a parsed config.json; refuses what the graphs would get wrong."""
    model_type = str(raw.get("model_type", "missing"))
    if model_type not in _FAMILIES:
        supported = ", ".join(_FAMILIES)
        raise ExportError(f"{label}: model family '{model_type}' is not supported (supported: {supported})")
    fields = Fields(label, raw.get)
    if quantization := fields.mapping("quantization_config"):
        method = quantization.get("quant_method", "unknown")
        raise ExportError(
            f"{label}: quantisation '{method}' is not supported; use the unquantised folder or a GGUF file"
        )
    is_gemma = model_type == "gemma3_text"
    key, usual = ("hidden_activation", "gelu_pytorch_tanh") if is_gemma else ("hidden_act", "silu")
    if raw.get(key, usual) != usual:
        raise ExportError(f"{label}: activation '{raw[key]}' is not supported (supported: {usual})")
    if is_gemma:
        for cap in ("final_logit_softcapping", "attn_logit_softcapping"):
            if raw.get(cap) is not None:
                raise ExportError(f"{label}: {cap} is not supported")
    for flag in ("attention_bias", "mlp_bias"):
        if fields.flag(flag, False) and model_type != "qwen2":
            raise ExportError(f"{label}: {flag} is not supported for {model_type}")
    heads, hidden = fields.whole("num_attention_heads"), fields.whole("hidden_size")
    layers = fields.whole("num_hidden_layers")
    rope, local = _rope(fields, label), 0.0
    if is_gemma:
        rope, local = _gemma_rope(fields, label, rope)
    context = fields.whole("max_position_embeddings", 2048)
    notes: tuple[str, ...] = ()
    if rope.text("rope_type", rope.text("type", "default")) in ("longrope", "su"):
        original = fields.whole("original_max_position_embeddings", context)
        context, notes = longrope_context(context, rope.whole("original_max_position_embeddings", original))
    config = ModelConfig(
        family=_FAMILIES[model_type],
        layers=layers,
        hidden_size=hidden,
        query_heads=heads,
        kv_heads=fields.whole("num_key_value_heads", heads),
        head_dim=fields.whole("head_dim", {"qwen3": 128, "gemma3_text": 256}.get(model_type, hidden // heads)),
        intermediate_size=fields.whole("intermediate_size"),
        vocab_size=fields.whole("vocab_size"),
        context_length=context,
        rope_theta=rope.number("rope_theta", fields.number("rope_theta", 1e6 if is_gemma else 1e4, above=0), above=0),
        rms_norm_eps=fields.number("rms_norm_eps", 1e-6, above=0, below=1),
        tied_embeddings=fields.flag("tie_word_embeddings", is_gemma),
        qk_norm=model_type == "qwen3" or is_gemma,
        post_norms=is_gemma,
        embed_scale=hidden**0.5 if is_gemma else 1.0,
        attention_scale=fields.number("query_pre_attn_scalar", 256.0, above=0) ** -0.5 if is_gemma else 0.0,
        activation="gelu_tanh" if is_gemma else "silu",
        local_rope_theta=local,
        windows=_windows(fields, model_type, layers, context),
        notes=notes,
    )
    part = rope.number("partial_rotary_factor", fields.number("partial_rotary_factor", 1.0, above=0), above=0)
    if part != 1 and model_type != "phi3":
        raise ExportError(f"{label}: partial rotary embeddings are not supported for {model_type}")
    divisors, scale = scaling_from_json(label, rope, fields, config, int(config.head_dim * part))
    return replace(config, rope_divisors=divisors, rope_scale=scale)


def _rope(fields: Fields, label: str) -> Fields:
    """What is said of the rotary embedding. Transformers 5 writes `rope_parameters`, which holds theta too; before it
    that was `rope_scaling`, with theta beside it. As in transformers, `rope_scaling` wins, and theta inside of either.
    """
    rope_parameters, rope_scaling = fields.mapping("rope_parameters"), fields.mapping("rope_scaling")
    key = "rope_scaling" if rope_scaling else "rope_parameters"
    return Fields(f"{label}: {key}", (rope_scaling or rope_parameters).get)


def _gemma_rope(fields: Fields, label: str, rope: Fields) -> tuple[Fields, float]:
    """Of the layers that see all, and the base of those with a window, which transformers 5 keeps in one object."""
    full, sliding = rope.mapping("full_attention"), rope.mapping("sliding_attention")
    if not full:
        return rope, fields.number("rope_local_base_freq", 10000.0, above=0)
    local = Fields(f"{label}: rope_parameters.sliding_attention", sliding.get)
    if local.text("rope_type", "default") != "default":
        raise ExportError(f"{label}: rope scaling of the layers with a window is not supported")
    return Fields(f"{label}: rope_parameters.full_attention", full.get), local.number("rope_theta", 10000.0, above=0)


def _windows(fields: Fields, model_type: str, layers: int, context: int) -> tuple[int, ...]:
    """Of each layer. `layer_types` names those that slide; before it there was `max_window_layers`, the first that
    does in Qwen; Mistral and Phi slide throughout.
    """
    window = fields.whole("sliding_window", 512 if model_type == "gemma3_text" else 0, least=0)
    uses = model_type in ("mistral", "phi3", "gemma3_text") or fields.flag("use_sliding_window", False)
    if not window or not uses:
        return ()
    types = fields.items("layer_types", [])
    if types:
        if len(types) != layers or not all(each in ("full_attention", "sliding_attention") for each in types):
            raise ExportError(
                f"layer_types is {shown(types)}; expected full_attention or sliding_attention for each layer"
            )
        slides = [each == "sliding_attention" for each in types]
    elif model_type == "gemma3_text":
        every = fields.whole("sliding_window_pattern", 6)
        slides = [(layer + 1) % every != 0 for layer in range(layers)]
    else:
        first = fields.whole("max_window_layers", layers, least=0) if model_type.startswith("qwen") else 0
        slides = [layer >= first for layer in range(layers)]
    if model_type == "gemma3_text":  # which also rotate otherwise: they count even where nothing is cut off
        return tuple(window if slide else 0 for slide in slides)
    return layer_windows(context, window, slides)
