"""A minimal Llama decoder in torch for distillation: one token per slot and step, static KV cache, no autograd.

Shapes below use B slots, S cache positions, L layers, H hidden, Hq/Hkv query/key-value heads, D head size,
V vocabulary.
The architecture is the Llama family's (RMSNorm, rotary positions on half-split channels, grouped queries, SwiGLU),
and Qwen3's, which normalises every head's queries and keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..weights import ModelConfig, open_source
from ..weights.adapter import AdaptedSource, Adapter
from ..weights.rope import inverse_frequencies, rotary_scales


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
    qk_gain: torch.Tensor | None = None  # [Hq + Hkv, D], each head's norm of queries or keys
    post_attn_norm: torch.Tensor | None = None  # [H], of what attention gives, Gemma only
    post_mlp_norm: torch.Tensor | None = None  # [H]


class KVCache:
    """Keys and values of B independent slots, [L, B, Hkv, S, D] each."""

    def __init__(self, config: ModelConfig, slots: int, capacity: int, dtype: torch.dtype, device: str) -> None:
        shape = (config.layers, slots, config.kv_heads, capacity, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.capacity = capacity

    def load_prefix(self, slots: list[int], keys: torch.Tensor, values: torch.Tensor) -> None:
        """Copy a shared prefix, [L, Hkv, n, D], into some slots."""
        n, index = keys.shape[2], torch.tensor(slots, device=keys.device)
        self.keys[:, index, :, :n] = keys[:, None]
        self.values[:, index, :, :n] = values[:, None]


class Backbone:
    """A frozen Llama-family decoder. Products run in `compute` precision; the residual stream and logits stay fp32."""

    def __init__(
        self,
        config: ModelConfig,
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
        inverse = torch.from_numpy(inverse_frequencies(config))
        self.inverse_frequency = inverse.to(torch.float32).to(device)  # [D/2]
        local = torch.from_numpy(inverse_frequencies(config, is_local=True))
        self.local_frequency = local.to(torch.float32).to(device)  # [D/2], of the layers with a window
        self.rotary_scale = torch.from_numpy(rotary_scales(config)).to(torch.float32).to(device)  # [D/2]

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
        """Feed one token per slot. tokens, positions: int64 [B]. Returns the hidden state after the last norm, fp32
        [B, H]. `reach` is above every position; without it the positions are read, which waits for the device.
        """
        reach = int(positions.max()) + 1 if reach is None else reach
        # Only the part of the cache that some slot has reached takes part; rounded up so that shapes repeat.
        reach = min(cache.capacity, (reach + 31) // 32 * 32)
        visible = (torch.arange(reach, device=self.device) <= positions[:, None])[:, None, None]  # [B, 1, 1, S]
        biases = {window: self._bias(visible, positions, window) for window in set(self.config.windows or (0,))}
        c, b = self.config, tokens.shape[0]
        x = self.embed(tokens)
        turns = self.turns(positions)
        slots = torch.arange(b, device=self.device)
        q_width, kv_width = c.query_heads * c.head_dim, c.kv_heads * c.head_dim
        for index, layer in enumerate(self.layers):
            h = F.rms_norm(x, (c.hidden_size,), layer.attn_norm, c.rms_norm_eps).to(self.compute)
            qkv = F.linear(h, layer.qkv, layer.qkv_bias)
            q_and_k = qkv[:, : q_width + kv_width].view(b, c.query_heads + c.kv_heads, c.head_dim)
            rotated = rotate(head_norm(q_and_k, layer, c.rms_norm_eps), *turns[bool(window_of(c, index))])
            keys, values = cache.keys[index], cache.values[index]
            keys[slots, :, positions] = rotated[:, c.query_heads :].to(self.compute)
            values[slots, :, positions] = qkv[:, q_width + kv_width :].view(b, c.kv_heads, c.head_dim)
            # The queries that share a key head become rows of one attention problem: no copy of keys per query head.
            q = rotated[:, : c.query_heads].view(b, c.kv_heads, c.query_heads // c.kv_heads, c.head_dim)
            q = q.to(self.compute)
            mixed = F.scaled_dot_product_attention(
                q, keys[:, :, :reach], values[:, :, :reach], attn_mask=biases[window_of(c, index)], scale=c.score_scale
            )
            x = x + post_norm(F.linear(mixed.reshape(b, q_width), layer.out), layer.post_attn_norm, c)
            h = F.rms_norm(x, (c.hidden_size,), layer.mlp_norm, c.rms_norm_eps).to(self.compute)
            gate, up = F.linear(h, layer.gate_up).chunk(2, dim=-1)
            x = x + post_norm(F.linear(activate(gate, c) * up, layer.down), layer.post_mlp_norm, c)
        return F.rms_norm(x, (c.hidden_size,), self.final_norm, c.rms_norm_eps)

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """[..., H] fp32."""
        return self.embedding[tokens] * self.config.embed_scale

    def turns(self, positions: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
        """Cosines and sines [N, 1, D/2] at positions [N]: of the layers that see all, and of those with a window."""
        both = []
        for frequency in (self.inverse_frequency, self.local_frequency):
            angle = positions[:, None].float() * frequency
            both.append(((self.rotary_scale * angle.cos())[:, None], (self.rotary_scale * angle.sin())[:, None]))
        return tuple(both)

    def _bias(self, visible: torch.Tensor, positions: torch.Tensor, window: int) -> torch.Tensor:
        """Of one kind of layer, [B, 1, 1, S]; `window`: tokens that a token sees, itself included; 0: all."""
        if window:
            columns = torch.arange(visible.shape[-1], device=self.device)
            visible = visible & (columns > positions[:, None] - window)[:, None, None]
        return torch.zeros(visible.shape, dtype=self.compute, device=self.device).masked_fill_(~visible, float("-inf"))

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


def window_of(config: ModelConfig, layer: int) -> int:
    return config.windows[layer] if config.windows else 0


def post_norm(x: torch.Tensor, gain: torch.Tensor | None, config: ModelConfig) -> torch.Tensor:
    """What a part of a layer gives, normalised where the model does that before it is added to the stream."""
    return x if gain is None else F.rms_norm(x.float(), x.shape[-1:], gain, config.rms_norm_eps)


def activate(gate: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    return F.silu(gate) if config.activation == "silu" else F.gelu(gate, approximate="tanh")


def head_norm(x: torch.Tensor, layer: Layer, eps: float) -> torch.Tensor:
    """Queries and keys [..., Hq + Hkv, D] as they are to be rotated: normalised, fp32, where the model does that."""
    return x if layer.qk_gain is None else F.rms_norm(x.float(), x.shape[-1:], None, eps) * layer.qk_gain


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding on half-split channels: x [B, heads, D], cos and sin [B, 1, D/2]."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def load_backbone(
    path: str | Path, compute: torch.dtype = torch.float32, device: str = "cpu", adapter: Adapter | None = None
) -> Backbone:
    """From a .gguf file or a Hugging Face folder; with an adapter, W + (alpha / rank) B A in place of W.

    Dequantised and merged in fp32, then brought to `compute`.
    """
    source = open_source(Path(path))
    source = source if adapter is None else AdaptedSource(source, adapter)
    config = source.config

    def take(*names: str) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([source.tensor(name).float32() for name in names]))

    def head_gains(prefix: str) -> torch.Tensor:
        q, k = take(prefix + "q_norm.weight"), take(prefix + "k_norm.weight")
        return torch.cat([q.expand(config.query_heads, -1), k.expand(config.kv_heads, -1)])

    def layer(index: int) -> Layer:
        p = f"layers.{index}."
        return Layer(
            attn_norm=take(p + "attn_norm.weight"),
            qkv=take(*(p + f"{x}.weight" for x in "qkv")),
            out=take(p + "o.weight"),
            mlp_norm=take(p + "mlp_norm.weight"),
            gate_up=take(p + "gate.weight", p + "up.weight"),
            down=take(p + "down.weight"),
            qkv_bias=take(*(p + f"{x}.bias" for x in "qkv")) if config.qkv_bias else None,
            qk_gain=head_gains(p) if config.qk_norm else None,
            post_attn_norm=take(p + "post_attn_norm.weight") if config.post_norms else None,
            post_mlp_norm=take(p + "post_mlp_norm.weight") if config.post_norms else None,
        )

    lm_head = None if config.tied_embeddings else take("lm_head.weight")
    layers = [layer(i) for i in range(config.layers)]
    return Backbone(config, take("embed.weight"), layers, take("norm.weight"), lm_head, compute, device)


def load_lm_head(path: str | Path) -> torch.Tensor:
    """Only the output layer, fp32 [V, H]."""
    source = open_source(Path(path))
    name = "embed.weight" if source.config.tied_embeddings else "lm_head.weight"
    return torch.from_numpy(np.array(source.tensor(name).float32()))


def load_embedding(path: str | Path) -> torch.Tensor:
    """Only the input embedding, fp32 [V, H]."""
    return torch.from_numpy(np.array(open_source(Path(path)).tensor("embed.weight").float32()))
