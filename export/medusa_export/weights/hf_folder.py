"""Reader of Hugging Face folders: config.json and .safetensors files (one, or many with an index)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ExportError
from .config import ModelConfig
from .safetensors_file import FLOATS, SafetensorsFile
from .source import WeightTensor

_FAMILIES = {"llama": "llama", "mistral": "mistral", "qwen2": "qwen2"}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm", "q": "self_attn.q_proj",
    "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj", "gate": "mlp.gate_proj",
    "up": "mlp.up_proj", "down": "mlp.down_proj",
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
        config = config_from_json(raw, path.name)
        # Some checkpoints say "tied" and still hold the matrix, others the reverse: the flag decides, then the file.
        tied = config.tied_embeddings or not has_head
        has_bias = "model.layers.0.self_attn.q_proj.bias" in self._files
        self.config = replace(config, tied_embeddings=tied, qkv_bias=has_bias)
        self.eos_token_ids = _id_list(raw.get("eos_token_id"))
        if "model.embed_tokens.weight" not in self._files:
            raise ExportError(f"{path.name}: tensor model.embed_tokens.weight is missing")
        self.quantization = self._files["model.embed_tokens.weight"].dtype("model.embed_tokens.weight")

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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file that must be there."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ExportError(f"{path} is missing") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ExportError(f"{path} does not hold a JSON object")
    return value


def _open_files(path: Path) -> dict[str, SafetensorsFile]:
    """Tensor name -> the file that holds it."""
    index = path / "model.safetensors.index.json"
    single = path / "model.safetensors"
    if index.is_file():
        weight_map: dict[str, str] = read_json(index).get("weight_map", {})
        files: dict[str, SafetensorsFile] = {}
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
    if raw.get("quantization_config"):
        method = raw["quantization_config"].get("quant_method", "unknown")
        raise ExportError(
            f"{label}: quantisation '{method}' is not supported; use the unquantised folder or a GGUF file"
        )
    rope = raw.get("rope_parameters") or {}
    scaling = raw.get("rope_scaling") or rope
    kind = scaling.get("rope_type", scaling.get("type", "default")) if scaling else "default"
    if kind != "default":
        raise ExportError(f"{label}: rope scaling '{kind}' is not supported")
    if raw.get("hidden_act", "silu") != "silu":
        raise ExportError(f"{label}: activation '{raw['hidden_act']}' is not supported (supported: silu)")
    for flag in ("attention_bias", "mlp_bias"):
        if raw.get(flag) and model_type != "qwen2":
            raise ExportError(f"{label}: {flag} is not supported for {model_type}")
    context, notes = _context(raw, model_type)
    try:
        heads, hidden = int(raw["num_attention_heads"]), int(raw["hidden_size"])
        return ModelConfig(
            family=_FAMILIES[model_type],
            layers=int(raw["num_hidden_layers"]),
            hidden_size=hidden,
            query_heads=heads,
            kv_heads=int(raw.get("num_key_value_heads") or heads),
            head_dim=int(raw.get("head_dim") or hidden // heads),
            intermediate_size=int(raw["intermediate_size"]),
            vocab_size=int(raw["vocab_size"]),
            context_length=context,
            rope_theta=float(raw.get("rope_theta") or rope.get("rope_theta") or 10000.0),
            rms_norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
            tied_embeddings=bool(raw.get("tie_word_embeddings", False)),
            notes=notes,
        )
    except KeyError as error:
        raise ExportError(f"{label}: config.json has no {error.args[0]}") from error


def _context(raw: dict[str, Any], model_type: str) -> tuple[int, tuple[str, ...]]:
    """The context length; a sliding window caps it, since the graphs attend to everything."""
    context = int(raw.get("max_position_embeddings", 2048))
    window = raw.get("sliding_window")
    uses = bool(window) and (model_type == "mistral" or bool(raw.get("use_sliding_window")))
    if uses and int(window) < context:
        note = f"sliding window of {window} tokens: context length capped from {context} to {window}"
        return int(window), (note,)
    return context, ()


def _id_list(value: Any) -> list[int]:
    if value is None:
        return []
    return [int(v) for v in value] if isinstance(value, list) else [int(value)]
