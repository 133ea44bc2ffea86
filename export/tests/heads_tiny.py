"""A tiny random Llama with a byte tokenizer, as an HF folder, and made-up answers: what heads are tested with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from medusa_export.training.shards import Rollouts

HIDDEN, LAYERS, HEADS, KV_HEADS, INTERMEDIATE = 32, 2, 4, 2, 48


CHATML, VICUNA = ("<|im_start|>", "<|im_end|>"), ("<s>", "</s>")


def write_tiny_model(folder: Path, seed: int = 0, marks: tuple[str, str] = CHATML, tied: bool = True) -> Path:
    """Write config.json, model.safetensors and tokenizer.json (256 byte tokens and the two markers of a template)."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocab |= {mark: 256 + i for i, mark in enumerate(marks)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(marks))
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": LAYERS,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HIDDEN // HEADS,
        "vocab_size": 258,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": tied,
    }
    (folder / "config.json").write_text(json.dumps(config))
    tensors = _weights(seed)
    if not tied:
        g = torch.Generator().manual_seed(seed + 1)
        tensors["lm_head.weight"] = torch.randn(258, HIDDEN, generator=g) * 0.6
    save_file(tensors, str(folder / "model.safetensors"))
    return folder


def _weights(seed: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)

    def draw(rows: int, columns: int, scale: float = 0.25) -> torch.Tensor:
        return torch.randn(rows, columns, generator=g) * scale

    tensors = {"model.embed_tokens.weight": draw(258, HIDDEN, 0.6), "model.norm.weight": torch.ones(HIDDEN)}
    kv = KV_HEADS * HIDDEN // HEADS
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        tensors |= {
            p + "input_layernorm.weight": torch.ones(HIDDEN),
            p + "self_attn.q_proj.weight": draw(HIDDEN, HIDDEN),
            p + "self_attn.k_proj.weight": draw(kv, HIDDEN),
            p + "self_attn.v_proj.weight": draw(kv, HIDDEN),
            p + "self_attn.o_proj.weight": draw(HIDDEN, HIDDEN),
            p + "post_attention_layernorm.weight": torch.ones(HIDDEN),
            p + "mlp.gate_proj.weight": draw(INTERMEDIATE, HIDDEN),
            p + "mlp.up_proj.weight": draw(INTERMEDIATE, HIDDEN),
            p + "mlp.down_proj.weight": draw(HIDDEN, INTERMEDIATE),
        }
    return tensors


def made_rollouts(lengths: list[int], hidden_size: int = 8, vocab: int = 60) -> Rollouts:
    """Random answers of some lengths, greedy, states of `hidden_size` values."""
    rng, n = np.random.default_rng(0), sum(lengths)
    tokens = rng.integers(0, vocab, n).astype(np.int32)
    return Rollouts(
        rng.normal(size=(n, hidden_size)).astype(np.float16),
        tokens,
        np.tile(tokens[:, None], (1, 8)).astype(np.int32),
        np.full((n, 8), -2, np.float16),
        np.cumsum([0, *lengths]),
        np.zeros(len(lengths)),
        ["s"] * len(lengths),
        [np.int32(i).tobytes() for i in range(len(lengths))],
    )
