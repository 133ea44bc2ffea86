"""Reader of Hugging Face folders: config.json and .safetensors files (one, or many with an index)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ExportError
from .checked import read_json, reading, shown
from .config import ModelConfig, within_window
from .fields import Fields
from .rope import divisors_from_json
from .safetensors_file import FLOATS, SafetensorsFile
from .source import WeightTensor

_FAMILIES = {"llama": "llama", "mistral": "mistral", "qwen2": "qwen2", "qwen3": "qwen3"}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm", "q": "self_attn.q_proj",
    "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj", "gate": "mlp.gate_proj",
    "up": "mlp.up_proj", "down": "mlp.down_proj", "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm",
}  # fmt: skip
_TOP_NAMES = {"embed": "model.embed_tokens", "norm": "model.norm", "lm_head": "lm_head"}


def _hf_name(name: str) -> str:
    if not name.startswith("layers."):
        stem, kind = name.split(".")
        return f"{_TOP_NAMES[stem]}.{kind}"
    _, layer, stem, kind = name.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[stem]}.{kind}"


class HfFolderSource:
    """A folder with config.json and safetensors as a `WeightSource`."""

    kind = "huggingface"

    def __init__(self, path: Path) -> None:
        self.path = path
        raw = read_json(path / "config.json")
        self._files = _open_files(path)
        has_head = "lm_head.weight" in self._files
        with reading(path / "config.json"):
            config = config_from_json(raw, f"{path.name}/config.json")
        # Some checkpoints say "tied" and still hold the matrix, others the reverse: the flag decides, then the file.
        tied = config.tied_embeddings or not has_head
        has_bias = "model.layers.0.self_attn.q_proj.bias" in self._files
        self.config = replace(config, tied_embeddings=tied, qkv_bias=has_bias)
        fields = Fields(f"{path.name}/config.json", raw.get)
        self.eos_token_ids = fields.ids("eos_token_id", config.vocab_size)
        if "model.embed_tokens.weight" not in self._files:
            raise ExportError(f"{path.name}: tensor model.embed_tokens.weight is missing")
        self.quantization = self._files["model.embed_tokens.weight"].dtype("model.embed_tokens.weight")

    @property
    def tensor_names(self) -> list[str]:
        """Of all tensors in the files, those of no model's too."""
        return list(self._files)

    def tensor(self, name: str) -> WeightTensor:
        source_name = _hf_name(name)
        file = self._files.get(source_name)
        if file is None:
            raise ExportError(f"{self.path.name}: tensor {source_name} is missing")
        dtype = file.dtype(source_name)
        if dtype not in FLOATS:
            raise ExportError(
                f"{self.path.name}: tensor {source_name} has type {dtype}; quantised folders are not supported"
            )
        return WeightTensor(name, source_name, file.shape(source_name), dtype, lambda: file.float32(source_name))


def _open_files(path: Path) -> dict[str, SafetensorsFile]:
    """Tensor name -> the file that holds it."""
    index = path / "model.safetensors.index.json"
    single = path / "model.safetensors"
    if index.is_file():
        weight_map = Fields(index.name, read_json(index).get).mapping("weight_map")
        files: dict[str, SafetensorsFile] = {}
        for tensor, name in weight_map.items():
            if not isinstance(name, str):
                raise ExportError(f"{index.name}: the file of {tensor} is {shown(name)}; expected a name")
        for name in sorted(set(weight_map.values())):
            if Path(name).name != name:
                raise ExportError(f"{index.name} names '{name}', which is not a file of its own folder")
            if not (path / name).is_file():
                raise ExportError(f"{path.name}: shard {name}, named by {index.name}, is missing")
            files[name] = SafetensorsFile(path / name)
        for tensor, name in weight_map.items():
            if tensor not in files[name].entries:
                raise ExportError(f"{path.name}: tensor {tensor} is not in shard {name}, where {index.name} puts it")
        return {tensor: files[name] for tensor, name in weight_map.items()}
    if single.is_file():
        file = SafetensorsFile(single)
        return dict.fromkeys(file.entries, file)
    hint = " (only .bin files: convert them to safetensors first)" if list(path.glob("*.bin")) else ""
    raise ExportError(f"{path}: no model.safetensors and no model.safetensors.index.json{hint}")


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
    if raw.get("hidden_act", "silu") != "silu":
        raise ExportError(f"{label}: activation '{raw['hidden_act']}' is not supported (supported: silu)")
    for flag in ("attention_bias", "mlp_bias"):
        if fields.flag(flag, False) and model_type != "qwen2":
            raise ExportError(f"{label}: {flag} is not supported for {model_type}")
    heads, hidden = fields.whole("num_attention_heads"), fields.whole("hidden_size")
    rope = _rope(fields, label)
    context, notes = _context(fields, model_type)
    config = ModelConfig(
        family=_FAMILIES[model_type],
        layers=fields.whole("num_hidden_layers"),
        hidden_size=hidden,
        query_heads=heads,
        kv_heads=fields.whole("num_key_value_heads", heads),
        head_dim=fields.whole("head_dim", 128 if model_type == "qwen3" else hidden // heads),
        intermediate_size=fields.whole("intermediate_size"),
        vocab_size=fields.whole("vocab_size"),
        context_length=context,
        rope_theta=rope.number("rope_theta", fields.number("rope_theta", 10000.0, above=0), above=0),
        rms_norm_eps=fields.number("rms_norm_eps", 1e-6, above=0, below=1),
        tied_embeddings=fields.flag("tie_word_embeddings", False),
        qk_norm=model_type == "qwen3",
        notes=notes,
    )
    return replace(config, rope_divisors=divisors_from_json(label, rope, config))


def _rope(fields: Fields, label: str) -> Fields:
    """What is said of the rotary embedding. Transformers 5 writes `rope_parameters`, which holds theta too; before it
    that was `rope_scaling`, with theta beside it. As in transformers, `rope_scaling` wins, and theta inside of either.
    """
    rope_parameters, rope_scaling = fields.mapping("rope_parameters"), fields.mapping("rope_scaling")
    key = "rope_scaling" if rope_scaling else "rope_parameters"
    rope = Fields(f"{label}: {key}", (rope_scaling or rope_parameters).get)
    if rope.number("partial_rotary_factor", fields.number("partial_rotary_factor", 1.0)) != 1:
        raise ExportError(f"{label}: partial rotary embeddings are not supported")
    return rope


def _context(fields: Fields, model_type: str) -> tuple[int, tuple[str, ...]]:
    """The context length, and a note where a sliding window caps it."""
    context = fields.whole("max_position_embeddings", 2048)
    window = fields.whole("sliding_window", 0, least=0)
    uses = window and (model_type == "mistral" or fields.flag("use_sliding_window", False))
    return within_window(context, window) if uses else (context, ())
