"""The trainable backbone of MEDUSA-2: frozen weights, low-rank adapters, whole sequences through autograd.

B sequences of S tokens, H hidden, r rank; a backbone's stacked matrices (qkv, gate_up) get one pair of factors for
each of their parts.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..errors import ExportError
from ..weights import ModelConfig
from ..weights.adapter import SUFFIX, TARGETS, Adapter
from .backbone import Backbone, Layer, activate, head_norm, post_norm, rotate, window_of
from .checkpoint import write_tensors
from .recipes import LoraConfig

# The backbone's matrices, and the parts that are stacked in each.
_PARTS = {"qkv": ("q", "k", "v"), "out": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}


class Lora(nn.Module):
    """Factors A [r, in] and B [out, r], fp32, of every projection of the adapted layers. B = 0: no change."""

    def __init__(self, config: LoraConfig, sizes: ModelConfig, seed: int = 0) -> None:
        super().__init__()
        if config.first_layer >= sizes.layers:
            raise ExportError(f"adapter: first_layer {config.first_layer} of a backbone with {sizes.layers} layers")
        self.config, self.sizes, shapes = config, sizes, sizes.tensor_shapes()
        g = torch.Generator().manual_seed(seed)
        self.a, self.b = nn.ParameterDict(), nn.ParameterDict()
        for layer in range(config.first_layer, sizes.layers):
            for target in TARGETS:
                rows, columns = shapes[f"layers.{layer}.{target}.weight"]
                # The usual start: A uniform in +-1/sqrt(in), B zero.
                bound = 1 / math.sqrt(columns)
                drawn = (torch.rand(config.rank, columns, generator=g) * 2 - 1) * bound
                self.a[f"{layer}_{target}"] = nn.Parameter(drawn)
                self.b[f"{layer}_{target}"] = nn.Parameter(torch.zeros(rows, config.rank))

    def adapts(self, layer: int) -> bool:
        return layer >= self.config.first_layer

    def add(self, y: torch.Tensor, x: torch.Tensor, layer: int, matrix: str) -> torch.Tensor:
        """Y + scale * x A^T B^T for one of the backbone's (stacked) matrices; x [..., in], y [..., out]."""
        keys = [f"{layer}_{part}" for part in _PARTS[matrix]]
        a = torch.cat([self.a[key] for key in keys])  # [parts * r, in]
        # Block-diagonal: one product for all parts costs less than one each, although most of it multiplies zeros.
        b = torch.block_diag(*[self.b[key] for key in keys]) * self.config.scale  # [out, parts * r]
        return y + F.linear(F.linear(x, a.to(x.dtype)), b.to(x.dtype))

    @torch.no_grad()
    def copy_from(self, adapter: Adapter) -> None:
        """Take the factors of an adapter's file (fp16 there); another rank, scale or set of layers is refused."""
        theirs = {name.removesuffix(".weight"): pair for name, pair in adapter.factors.items()}
        ours = {"layers." + key.replace("_", "."): key for key in self.a}
        if (adapter.rank, adapter.scale) != (self.config.rank, self.config.scale) or set(theirs) != set(ours):
            raise ExportError(
                f"adapter {adapter.path}: rank {adapter.rank}, alpha {adapter.alpha:g}, {len(theirs)} matrices;"
                f" this run has rank {self.config.rank}, alpha {self.config.alpha:g}, {len(ours)} matrices"
            )
        for stem, key in ours.items():
            for parameter, values in zip((self.a[key], self.b[key]), theirs[stem], strict=True):
                parameter.copy_(torch.from_numpy(values))

    def tensors(self) -> dict[str, np.ndarray]:
        """layers.{i}.{target}.a|b, float16."""
        named = {}
        for key, a in self.a.items():
            layer, target = key.split("_")
            for part, value in (("a", a), ("b", self.b[key])):
                named[f"layers.{layer}.{target}.{part}"] = value.detach().cpu().numpy().astype(np.float16)
        return named


def run_sequences(backbone: Backbone, tokens: torch.Tensor, lora: Lora | None = None) -> torch.Tensor:
    """States after the final norm, fp32 [B, S, H], of whole sequences, int64 [B, S]; `lora` None: the backbone's own.

    Attention is causal and positions count from 0, so sequences padded on the right need no mask: a real token never
    sees the padding behind it, and the padding's own states are to be ignored.
    """
    c, (b, s) = backbone.config, tokens.shape
    x = backbone.embed(tokens)
    turns = backbone.turns(torch.arange(s, device=tokens.device))
    for index, layer in enumerate(backbone.layers):
        adapter = lora if lora is not None and lora.adapts(index) else None

        def product(h: torch.Tensor, matrix: str, bias=None, layer=layer, index=index, adapter=adapter) -> torch.Tensor:
            y = F.linear(h, getattr(layer, matrix), bias)
            return y if adapter is None else adapter.add(y, h, index, matrix)

        h = F.rms_norm(x, (c.hidden_size,), layer.attn_norm, c.rms_norm_eps).to(backbone.compute)
        qkv = product(h, "qkv", layer.qkv_bias).view(b, s, c.query_heads + 2 * c.kv_heads, c.head_dim)
        window = window_of(c, index)
        mixed = _attention(qkv, *turns[bool(window)], c, layer, window).to(backbone.compute)
        x = x + post_norm(product(mixed, "out"), layer.post_attn_norm, c)
        h = F.rms_norm(x, (c.hidden_size,), layer.mlp_norm, c.rms_norm_eps).to(backbone.compute)
        gate, up = product(h, "gate_up").chunk(2, dim=-1)
        x = x + post_norm(product(activate(gate, c) * up, "down"), layer.post_mlp_norm, c)
    return F.rms_norm(x, (c.hidden_size,), backbone.final_norm, c.rms_norm_eps)


def _attention(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, c: ModelConfig, layer: Layer, window: int
) -> torch.Tensor:
    """Qkv [B, S, Hq + 2 Hkv, D] -> mixed values [B, S, Hq D], causal, by torch's fused kernels."""
    both = c.query_heads + c.kv_heads
    q_and_k = rotate(head_norm(qkv[:, :, :both], layer, c.rms_norm_eps), cos, sin)
    q_and_k = q_and_k.to(qkv.dtype).transpose(1, 2)  # [B, heads, S, D]
    q, k = q_and_k[:, : c.query_heads], q_and_k[:, c.query_heads :]
    v = qkv[:, :, both:].transpose(1, 2)
    repeat = c.query_heads // c.kv_heads
    if repeat > 1:
        k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
    if window:
        at = torch.arange(q.shape[2], device=q.device)
        near = (at[:, None] >= at) & (at[:, None] - at < window)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=near, scale=c.score_scale).transpose(1, 2).flatten(2)
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=c.score_scale)
    return mixed.transpose(1, 2).flatten(2)


def save_adapter(lora: Lora, path: Path, facts: dict[str, Any]) -> None:
    """Write <name>.adapter.safetensors and its sidecar."""
    if not path.name.endswith(SUFFIX):
        raise ExportError(f"adapter {path}: the name must end in {SUFFIX}")
    sidecar = {
        "format": 1,
        "kind": "medusa-2-adapter",
        "name": path.name.removesuffix(SUFFIX),
        "rank": lora.config.rank,
        "alpha": lora.config.alpha,
        "targets": list(TARGETS),
        "first_layer": lora.config.first_layer,
        "layers": lora.sizes.layers,
        **facts,
    }
    write_tensors(path, lora.tensors(), sidecar)
