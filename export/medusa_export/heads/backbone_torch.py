"""A minimal Llama decoder in torch for distillation: one token per slot and step, static KV cache, no autograd.

Shapes below use B slots, S cache positions, L layers, H hidden, Hq/Hkv query/key-value heads, D head size,
V vocabulary.
The architecture is the Llama family's (RMSNorm, rotary positions on half-split channels, grouped queries, SwiGLU).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .cpu_attention import decode_attention

EMBEDDING = "token_embd.weight"  # llama.cpp's name


@dataclass(frozen=True)
class BackboneConfig:
    """Sizes of a Llama-family decoder; `rope_theta` is the rotary base, `eps` RMSNorm's."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    rope_theta: float = 10000.0
    eps: float = 1e-5


@dataclass
class Layer:
    """Weights of one decoder layer; q, k, v and gate, up are stored stacked so that each pair is one product."""

    attn_norm: torch.Tensor  # [H]
    qkv: torch.Tensor  # [(Hq + 2 Hkv) D, H]
    out: torch.Tensor  # [H, Hq D]
    mlp_norm: torch.Tensor  # [H]
    gate_up: torch.Tensor  # [2 I, H]
    down: torch.Tensor  # [H, I]
    qkv_bias: torch.Tensor | None = None  # [(Hq + 2 Hkv) D], Qwen2 only


class KVCache:
    """Keys and values of B independent slots, [L, B, Hkv, S, D] each."""

    def __init__(self, config: BackboneConfig, slots: int, capacity: int, dtype: torch.dtype, device: str) -> None:
        shape = (config.layers, slots, config.kv_heads, capacity, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.capacity = capacity

    def load_prefix(self, slot: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Copy a shared prefix, [L, Hkv, n, D], into one slot."""
        n = keys.shape[2]
        self.keys[:, slot, :, :n] = keys
        self.values[:, slot, :, :n] = values


class Backbone:
    """A frozen Llama-family decoder. Products run in `compute` precision; the residual stream and logits stay fp32."""

    def __init__(
        self,
        config: BackboneConfig,
        embedding: torch.Tensor,
        layers: list[Layer],
        final_norm: torch.Tensor,
        lm_head: torch.Tensor | None = None,
        compute: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        self.config, self.compute, self.device = config, compute, device
        self.embedding = embedding.to(device)  # [V, H] fp32
        self.lm_head = self.embedding if lm_head is None else lm_head.to(device)  # [V, H] fp32
        self.output_weight = self.lm_head.to(compute)
        self.final_norm = final_norm.to(device)
        self.layers = [self._place(layer) for layer in layers]
        half = config.head_dim // 2
        inverse = config.rope_theta ** (-torch.arange(half, dtype=torch.float64) / half)
        self.inverse_frequency = inverse.to(torch.float32).to(device)  # [D/2]

    def _place(self, layer: Layer) -> Layer:
        products = {"qkv", "out", "gate_up", "down", "qkv_bias"}
        moved: dict[str, Any] = {}
        for name, value in vars(layer).items():
            dtype = self.compute if name in products else torch.float32
            moved[name] = None if value is None else value.to(self.device, dtype).contiguous()
        return Layer(**moved)

    def new_cache(self, slots: int, capacity: int) -> KVCache:
        return KVCache(self.config, slots, capacity, self.compute, self.device)

    @torch.inference_mode()
    def step(
        self, tokens: torch.Tensor, positions: torch.Tensor, cache: KVCache, reach: int | None = None
    ) -> torch.Tensor:
        """Feed one token per slot. tokens, positions: int64 [B]. Returns the hidden state after the last
        norm, fp32 [B, H].

        `reach`, if given, is above every position: without it the positions are looked at, for which an accelerator
        has to be waited for.
        """
        if reach is None and self.device != "cpu":
            reach = int(positions.max()) + 1
        c, b = self.config, tokens.shape[0]
        x = self.embedding[tokens]
        angle = positions[:, None].float() * self.inverse_frequency  # [B, D/2]
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]  # [B, 1, D/2]
        slots = torch.arange(b, device=self.device)
        q_width, kv_width = c.heads * c.head_dim, c.kv_heads * c.head_dim
        for index, layer in enumerate(self.layers):
            h = F.rms_norm(x, (c.hidden,), layer.attn_norm, c.eps).to(self.compute)
            qkv = F.linear(h, layer.qkv, layer.qkv_bias)
            rotated = rotate(qkv[:, : q_width + kv_width].view(b, c.heads + c.kv_heads, c.head_dim), cos, sin)
            keys, values = cache.keys[index], cache.values[index]
            keys[slots, :, positions] = rotated[:, c.heads :].to(self.compute)
            values[slots, :, positions] = qkv[:, q_width + kv_width :].view(b, c.kv_heads, c.head_dim)
            # The queries that share a key head become rows of one attention problem: no copy of keys per query head.
            q = rotated[:, : c.heads].view(b, c.kv_heads, c.heads // c.kv_heads, c.head_dim)
            mixed = self._attend(q, keys, values, positions, reach)
            x = x + F.linear(mixed.reshape(b, q_width).to(self.compute), layer.out)
            h = F.rms_norm(x, (c.hidden,), layer.mlp_norm, c.eps).to(self.compute)
            gate, up = F.linear(h, layer.gate_up).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, layer.down)
        return F.rms_norm(x, (c.hidden,), self.final_norm, c.eps)

    def _attend(
        self,
        q: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        positions: torch.Tensor,
        reach: int | None,
    ) -> torch.Tensor:
        """q fp32 [B, Hkv, G, D] over keys, values [B, Hkv, S, D], rows 0..position of each slot -> [B, Hkv, G, D]."""
        if self.device == "cpu":
            mixed = decode_attention(q, keys, values, positions + 1)
            if mixed is not None:
                return mixed
        # Only the part of the cache that some slot has reached takes part; rounded up so that shapes repeat.
        last = int(positions.max()) + 1 if reach is None else reach
        reach = min(keys.shape[2], (last + 31) // 32 * 32)
        visible = (torch.arange(reach, device=self.device) <= positions[:, None])[:, None, None]  # [B, 1, 1, S]
        bias = torch.zeros(visible.shape, dtype=self.compute, device=self.device).masked_fill_(~visible, float("-inf"))
        q = q.to(self.compute)
        return F.scaled_dot_product_attention(q, keys[:, :, :reach], values[:, :, :reach], attn_mask=bias)

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Next-token logits, [B, V] in compute precision, of hidden states fp32 [B, H]."""
        return F.linear(hidden.to(self.compute), self.output_weight)

    @torch.inference_mode()
    def top_logits(self, hidden: torch.Tensor, logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The `count` best tokens, (fp32 logits, ids), each [B, count], best first.

        bf16 logits tie and would change the argmax: their 4 * count best are scored again with the fp32 output layer.
        """
        if self.compute == torch.float32:
            return logits.topk(count, dim=-1)
        ids = logits.float().topk(4 * count, dim=-1).indices  # [B, C]
        exact = torch.einsum("bch,bh->bc", self.lm_head[ids], hidden)
        values, order = exact.topk(count, dim=-1)
        return values, ids.gather(1, order)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding on half-split channels: x [B, heads, D], cos and sin [B, 1, D/2]."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def random_backbone(config: BackboneConfig, seed: int = 0, scale: float = 0.08) -> Backbone:
    """A tiny backbone with random weights, for tests."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g) * scale

    qkv_rows = (config.heads + 2 * config.kv_heads) * config.head_dim
    layers = [
        Layer(
            attn_norm=torch.ones(config.hidden),
            qkv=draw(qkv_rows, config.hidden),
            out=draw(config.hidden, config.heads * config.head_dim),
            mlp_norm=torch.ones(config.hidden),
            gate_up=draw(2 * config.intermediate, config.hidden),
            down=draw(config.hidden, config.intermediate),
        )
        for _ in range(config.layers)
    ]
    return Backbone(config, draw(config.vocab, config.hidden) * 6, layers, torch.ones(config.hidden))


def load_backbone(path: str | Path, compute: torch.dtype = torch.float32, device: str = "cpu") -> Backbone:
    """Load from a .gguf file or from a Hugging Face folder (config.json + *.safetensors)."""
    path = Path(path)
    if path.is_dir():
        return _from_hf(path, compute, device)
    if path.suffix == ".gguf":
        return _from_gguf(path, compute, device)
    raise ValueError(f"backbone {path}: expected a .gguf file or a folder with config.json and *.safetensors")


def load_lm_head(path: str | Path) -> torch.Tensor:
    """Only the output layer, fp32 [V, H], of a .gguf file or a Hugging Face folder."""
    return _first_matrix(Path(path), ("lm_head.weight", "model.embed_tokens.weight"), ("output.weight", EMBEDDING))


def load_embedding(path: str | Path) -> torch.Tensor:
    """Only the input embedding, fp32 [V, H], of a .gguf file or a Hugging Face folder."""
    return _first_matrix(Path(path), ("model.embed_tokens.weight",), (EMBEDDING,))


def _first_matrix(path: Path, hf_names: tuple[str, ...], gguf_names: tuple[str, ...]) -> torch.Tensor:
    """The first of the names that is there, fp32."""
    if path.is_dir():
        where = _safetensors(path)
        name = next(n for n in hf_names if n in where)
        return where[name].get_tensor(name).float()
    from gguf import GGUFReader
    from gguf.quants import dequantize

    tensors = {t.name: t for t in GGUFReader(str(path)).tensors}
    tensor = next(tensors[n] for n in gguf_names if n in tensors)
    return torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))


def _safetensors(folder: Path) -> dict[str, Any]:
    """Tensor name -> open file that holds it."""
    from safetensors import safe_open

    where: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        handle = safe_open(str(file), framework="pt")
        where.update({name: handle for name in handle.keys()})  # noqa: SIM118 safe_open has no iterator
    if not where:
        raise FileNotFoundError(f"backbone {folder}: no *.safetensors")
    return where


def _from_gguf(path: Path, compute: torch.dtype, device: str) -> Backbone:
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(str(path))
    field = {name: f.contents() for name, f in reader.fields.items() if not name.startswith("tokenizer.")}
    if field["general.architecture"] != "llama":
        raise ValueError(
            f"backbone {path}: GGUF architecture {field['general.architecture']!r} is not supported (llama is)"
        )
    tensors = {t.name: t for t in reader.tensors}

    def take(name: str) -> torch.Tensor:
        tensor = tensors[name]
        return torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))

    hidden, heads = field["llama.embedding_length"], field["llama.attention.head_count"]
    config = BackboneConfig(
        layers=field["llama.block_count"],
        hidden=hidden,
        intermediate=field["llama.feed_forward_length"],
        heads=heads,
        kv_heads=field["llama.attention.head_count_kv"],
        head_dim=field.get("llama.rope.dimension_count", hidden // heads),
        vocab=int(tensors["token_embd.weight"].shape[1]),
        rope_theta=field["llama.rope.freq_base"],
        eps=field["llama.attention.layer_norm_rms_epsilon"],
    )

    def unpermute(w: torch.Tensor, n: int) -> torch.Tensor:
        # llama.cpp stores q and k rows pair-interleaved for its own rotary kernel; back to half-split rows.
        return w.view(n, w.shape[0] // n // 2, 2, -1).transpose(1, 2).reshape(w.shape)

    def layer(i: int) -> Layer:
        p = f"blk.{i}."
        q = unpermute(take(p + "attn_q.weight"), config.heads)
        k = unpermute(take(p + "attn_k.weight"), config.kv_heads)
        return Layer(
            attn_norm=take(p + "attn_norm.weight"),
            qkv=torch.cat((q, k, take(p + "attn_v.weight"))),
            out=take(p + "attn_output.weight"),
            mlp_norm=take(p + "ffn_norm.weight"),
            gate_up=torch.cat((take(p + "ffn_gate.weight"), take(p + "ffn_up.weight"))),
            down=take(p + "ffn_down.weight"),
        )

    lm_head = take("output.weight") if "output.weight" in tensors else None
    layers = [layer(i) for i in range(config.layers)]
    return Backbone(config, take("token_embd.weight"), layers, take("output_norm.weight"), lm_head, compute, device)


def _from_hf(folder: Path, compute: torch.dtype, device: str) -> Backbone:
    raw = json.loads((folder / "config.json").read_text())
    if raw["model_type"] not in {"llama", "mistral", "qwen2"}:
        raise ValueError(
            f"backbone {folder}: model_type {raw['model_type']!r} is not supported (llama, mistral, qwen2 are)"
        )
    if raw.get("rope_scaling"):
        raise ValueError(f"backbone {folder}: rope_scaling is not supported by the distillation backbone")
    where = _safetensors(folder)

    def take(name: str) -> torch.Tensor:
        return where[name].get_tensor(name).float()

    heads = raw["num_attention_heads"]
    theta = raw.get("rope_theta") or (raw.get("rope_parameters") or {}).get("rope_theta", 10000.0)
    config = BackboneConfig(
        layers=raw["num_hidden_layers"],
        hidden=raw["hidden_size"],
        intermediate=raw["intermediate_size"],
        heads=heads,
        kv_heads=raw.get("num_key_value_heads") or heads,
        head_dim=raw.get("head_dim") or raw["hidden_size"] // heads,
        vocab=raw["vocab_size"],
        rope_theta=theta,
        eps=raw["rms_norm_eps"],
    )

    def layer(i: int) -> Layer:
        p = f"model.layers.{i}."
        a, m = p + "self_attn.", p + "mlp."
        biased = a + "q_proj.bias" in where
        return Layer(
            attn_norm=take(p + "input_layernorm.weight"),
            qkv=torch.cat([take(a + f"{x}_proj.weight") for x in "qkv"]),
            out=take(a + "o_proj.weight"),
            mlp_norm=take(p + "post_attention_layernorm.weight"),
            gate_up=torch.cat((take(m + "gate_proj.weight"), take(m + "up_proj.weight"))),
            down=take(m + "down_proj.weight"),
            qkv_bias=torch.cat([take(a + f"{x}_proj.bias") for x in "qkv"]) if biased else None,
        )

    lm_head = None if raw.get("tie_word_embeddings") else take("lm_head.weight")
    layers = [layer(i) for i in range(config.layers)]
    embedding, norm = take("model.embed_tokens.weight"), take("model.norm.weight")
    return Backbone(config, embedding, layers, norm, lm_head, compute, device)
