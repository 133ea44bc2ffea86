"""The trainable backbone of MEDUSA-2: frozen weights, low-rank adapters, whole sequences through autograd.

B sequences of S tokens, H hidden, r rank; a backbone's stacked matrices (qkv, gate_up) get one pair of factors for
each of their parts.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from torch import nn

from ..weights.adapter import SUFFIX, TARGETS, Adapter
from .backbone_torch import Backbone, BackboneConfig, Layer, load_backbone, rotate

# The backbone's matrices, and the parts that are stacked in each.
_PARTS = {"qkv": ("q", "k", "v"), "out": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}


@dataclass(frozen=True)
class LoraConfig:
    """`first_layer`: adapters on this layer and those after it (0: all); the layers before need no gradient."""

    rank: int = 16
    alpha: float = 16.0
    first_layer: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1 or self.first_layer < 0:
            raise ValueError(f"adapter: rank must be >= 1 and first_layer >= 0, got {self}")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


class Lora(nn.Module):
    """Factors A [r, in] and B [out, r], fp32, of every projection of the adapted layers. B = 0: no change."""

    def __init__(self, config: LoraConfig, sizes: BackboneConfig, seed: int = 0) -> None:
        super().__init__()
        if config.first_layer >= sizes.layers:
            raise ValueError(f"adapter: first_layer {config.first_layer} of a backbone with {sizes.layers} layers")
        self.config, self.sizes = config, sizes
        g = torch.Generator().manual_seed(seed)
        self.a, self.b = nn.ParameterDict(), nn.ParameterDict()
        for layer in range(config.first_layer, sizes.layers):
            for target, (rows, columns) in matrix_shapes(sizes).items():
                # The usual start: A uniform in +-1/sqrt(in), B zero.
                bound = 1 / math.sqrt(columns)
                drawn = (torch.rand(config.rank, columns, generator=g) * 2 - 1) * bound
                self.a[f"{layer}_{target}"] = nn.Parameter(drawn)
                self.b[f"{layer}_{target}"] = nn.Parameter(torch.zeros(rows, config.rank))

    def adapts(self, layer: int) -> bool:
        return layer >= self.config.first_layer

    def add(self, y: torch.Tensor, x: torch.Tensor, layer: int, matrix: str) -> torch.Tensor:
        """y + scale * x A^T B^T for one of the backbone's (stacked) matrices; x [..., in], y [..., out]."""
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
            raise ValueError(
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


def matrix_shapes(c: BackboneConfig) -> dict[str, tuple[int, int]]:
    """[out, in] of every adapted projection of a layer."""
    q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
    shapes = ((q, c.hidden), (kv, c.hidden), (kv, c.hidden), (c.hidden, q))
    mlp = ((c.intermediate, c.hidden), (c.intermediate, c.hidden), (c.hidden, c.intermediate))
    return dict(zip(TARGETS, (*shapes, *mlp), strict=True))


def run_sequences(backbone: Backbone, tokens: torch.Tensor, lora: Lora | None = None) -> torch.Tensor:
    """States after the final norm, fp32 [B, S, H], of whole sequences, int64 [B, S]; `lora` None: the backbone's own.

    Attention is causal and positions count from 0, so sequences padded on the right need no mask: a real token never
    sees the padding behind it, and the padding's own states are to be ignored.
    """
    c, (b, s) = backbone.config, tokens.shape
    x = backbone.embedding[tokens]
    angle = torch.arange(s, device=tokens.device)[:, None].float() * backbone.inverse_frequency  # [S, D/2]
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]  # [S, 1, D/2]
    for index, layer in enumerate(backbone.layers):
        adapter = lora if lora is not None and lora.adapts(index) else None

        def product(h: torch.Tensor, matrix: str, bias=None, layer=layer, index=index, adapter=adapter) -> torch.Tensor:
            y = F.linear(h, getattr(layer, matrix), bias)
            return y if adapter is None else adapter.add(y, h, index, matrix)

        h = F.rms_norm(x, (c.hidden,), layer.attn_norm, c.eps).to(backbone.compute)
        qkv = product(h, "qkv", layer.qkv_bias).view(b, s, c.heads + 2 * c.kv_heads, c.head_dim)
        x = x + product(_attention(qkv, cos, sin, c).to(backbone.compute), "out")
        h = F.rms_norm(x, (c.hidden,), layer.mlp_norm, c.eps).to(backbone.compute)
        gate, up = product(h, "gate_up").chunk(2, dim=-1)
        x = x + product(F.silu(gate) * up, "down")
    return F.rms_norm(x, (c.hidden,), backbone.final_norm, c.eps)


def _attention(qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, c: BackboneConfig) -> torch.Tensor:
    """qkv [B, S, Hq + 2 Hkv, D] -> mixed values [B, S, Hq D], causal, by torch's fused kernels."""
    q_and_k = rotate(qkv[:, :, : c.heads + c.kv_heads], cos, sin).to(qkv.dtype).transpose(1, 2)  # [B, heads, S, D]
    q, k = q_and_k[:, : c.heads], q_and_k[:, c.heads :]
    v = qkv[:, :, c.heads + c.kv_heads :].transpose(1, 2)
    repeat = c.heads // c.kv_heads
    if repeat > 1:
        k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return mixed.transpose(1, 2).flatten(2)


def merged_backbone(
    path: str | Path, adapter: Adapter | None, compute: torch.dtype = torch.float32, device: str = "cpu"
) -> Backbone:
    """The backbone with W + (alpha / rank) B A in place of W; merged in fp32, then brought to `compute`."""
    if adapter is None:
        return load_backbone(path, compute, device)
    base = load_backbone(path)
    layers = [_merged_layer(layer, i, adapter) for i, layer in enumerate(base.layers)]
    lm_head = None if base.lm_head is base.embedding else base.lm_head
    return Backbone(base.config, base.embedding, layers, base.final_norm, lm_head, compute, device)


def _merged_layer(layer: Layer, index: int, adapter: Adapter) -> Layer:
    fields = dict(vars(layer))
    for matrix, parts in _PARTS.items():
        deltas = [adapter.delta(f"layers.{index}.{part}.weight") for part in parts]
        if any(delta is not None for delta in deltas):
            if any(delta is None for delta in deltas):
                raise ValueError(f"adapter {adapter.path}: layer {index} adapts only some of {', '.join(parts)}")
            fields[matrix] = fields[matrix] + torch.from_numpy(np.concatenate([d for d in deltas if d is not None]))
    return Layer(**fields)


def save_adapter(lora: Lora, path: Path, facts: dict[str, Any]) -> None:
    """Write <name>.adapter.safetensors and its sidecar; each appears whole or not at all."""
    if not path.name.endswith(SUFFIX):
        raise ValueError(f"adapter {path}: the name must end in {SUFFIX}")
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
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file(lora.tensors(), str(temporary), {"format": "1"})
    os.chmod(temporary, 0o644)  # safetensors creates files for the owner only
    os.replace(temporary, path)
    text = path.with_suffix(".json.tmp")
    text.write_text(json.dumps(sidecar, indent=1) + "\n")
    os.replace(text, path.with_suffix(".json"))
