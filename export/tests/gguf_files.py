"""Writes small GGUF files for the tests, as llama.cpp's converter would: permuted q and k, its own tensor names."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from medusa_export.tokenizer_files.facts import TokenizerFiles
from medusa_export.weights.source import Array

# Gemma 3's names for its norms; the one after attention is called as the others call the one before the MLP.
GEMMA_NAMES = {
    "pre_feedforward_layernorm": "ffn_norm", "post_attention_layernorm": "post_attention_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up",
}  # fmt: skip


def permuted(weight: Array, heads: int) -> Array:
    """llama.cpp's order of the rows of q and k: the two halves of a head interleaved."""
    return weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(
    path: Path,
    model: torch.nn.Module,
    arch: str = "llama",
    matrix_type: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    tokenizer: TokenizerFiles | None = None,
    without: str = "",
    extra: dict[str, Any] | None = None,
    tensors: dict[str, Array] | None = None,
    raw: dict[str, tuple[Array, gguf.GGMLQuantizationType]] | None = None,
    tensors_a_part: int = 0,
) -> None:
    """A GGUF of a transformers model; matrices in `matrix_type`, the tensor `without` left out.

    `extra`: metadata to add or to replace; None takes a key away. `tensors`: further ones, as they are; `raw`: as
    blocks of a type. With `tensors_a_part` the model is split as llama.cpp splits it.
    """
    config: Any = model.config
    writer = gguf.GGUFWriter(path, arch, split_max_tensors=tensors_a_part)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    if head_dim := getattr(config, "head_dim", None):
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters or {}
    writer.add_rope_freq_base(float(rope.get("full_attention", rope).get("rope_theta", 10000.0)))
    if arch in ("gemma3", "phi3"):
        writer.add_sliding_window(config.sliding_window or 0)
    if tokenizer is not None:
        _add_tokenizer(writer, tokenizer)
    _add_rope(writer, model, without)
    for key, value in (extra or {}).items():
        _replace(writer.kv_data[0], key, value)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        own = _gguf_name(name, arch)
        values = tensor.float().numpy()
        if arch == "gemma3" and own.endswith("norm.weight"):
            values = values + 1  # as llama.cpp's converter does
        if arch == "llama" and own.split(".")[-2] in ("attn_q", "attn_k"):
            heads = config.num_attention_heads if "attn_q" in own else config.num_key_value_heads
            values = permuted(values, heads)
        if own != without:
            _add(writer, own, np.ascontiguousarray(values), matrix_type)
    for name, values in (tensors or {}).items():
        writer.add_tensor(name, values)
    for name, (blocks, kind) in (raw or {}).items():
        writer.add_tensor(name, blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_rope(writer: gguf.GGUFWriter, model: torch.nn.Module, without: str) -> None:
    """Llama 3's scaling is a tensor of divisors, taken from the model's own frequencies; a linear one is metadata.
    Longrope is two tensors and three numbers, of which the converter computes the scale of cosines and sines.
    """
    config: Any = model.config
    rope = config.rope_parameters or {}
    if rope.get("rope_type") == "longrope":
        original, head_dim = rope["original_max_position_embeddings"], config.hidden_size // config.num_attention_heads
        longer = config.max_position_embeddings / original
        writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1.0)))
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(longer) / math.log(original)))
        for name in ("long", "short"):
            if f"rope_factors_{name}.weight" != without:
                writer.add_tensor(f"rope_factors_{name}.weight", np.array(rope[f"{name}_factor"], np.float32))
    if rope.get("rope_type") == "llama3":
        scaled = model.model.rotary_emb.inv_freq.double()
        half = len(scaled)
        unscaled = rope["rope_theta"] ** (-torch.arange(half, dtype=torch.float64) / half)
        writer.add_tensor("rope_freqs.weight", (unscaled / scaled).float().numpy())
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def _replace(metadata: dict[str, gguf.gguf_writer.GGUFValue], key: str, value: Any) -> None:
    metadata.pop(key, None)
    if value is not None:
        is_long = type(value) is int and not 0 <= value < 2**31
        kind = gguf.GGUFValueType.INT64 if is_long else gguf.GGUFValueType.get_type(value)
        metadata[key] = gguf.gguf_writer.GGUFValue(value, kind, None)


def _gguf_name(name: str, arch: str = "llama") -> str:
    names = NAMES | (GEMMA_NAMES if arch == "gemma3" else {})
    stem, kind = name.rsplit(".", 1)
    if stem in names:
        return f"{names[stem]}.{kind}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{names[rest]}.{kind}"


def _add(writer: gguf.GGUFWriter, name: str, values: Array, kind: gguf.GGMLQuantizationType) -> None:
    if values.ndim == 1 or kind == gguf.GGMLQuantizationType.F32:
        writer.add_tensor(name, values)
    else:
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)


def _add_tokenizer(writer: gguf.GGUFWriter, files: TokenizerFiles) -> None:
    model, added = files.tokenizer["model"], files.tokenizer["added_tokens"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    control = {t["id"] for t in added}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if i in control else 1 for i in range(len(tokens))])
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(files.config["chat_template"])
