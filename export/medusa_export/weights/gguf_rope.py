"""What a GGUF file says about rotary frequencies, in its metadata and in tensors of divisors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import ExportError
from .config import ModelConfig
from .fields import Fields
from .finite import Array, finite
from .rope import longrope_context, refuse_scaling, scaling_from_json

LLAMA3_FACTORS = "rope_freqs.weight"
_LONG_FACTORS, _SHORT_FACTORS = "rope_factors_long.weight", "rope_factors_short.weight"


def with_rope(config: ModelConfig, label: str, of_arch: Fields, tensors: Mapping[str, Any]) -> ModelConfig:
    """The config with its rotary scaling. `of_arch`: the metadata of its architecture; `tensors`: all of the file."""
    turning = of_arch.whole("rope.dimension_count", config.head_dim)
    if config.family == "phi3":
        return _of_phi(config, label, of_arch, tensors, turning)
    if turning != config.head_dim:
        raise ExportError(f"{label}: partial rotary embeddings are not supported")
    return replace(config, rope_divisors=_divisors(config.head_dim // 2, label, of_arch, tensors))


def context_of(arch: str, label: str, of_arch: Fields, tensors: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
    """The context length, and what is to be told of it. Half of what longrope needs is refused: the model would be
    taken for one without it, or its factors for those of the whole context.
    """
    context, key = of_arch.whole("context_length"), "rope.scaling.original_context_length"
    if arch != "phi3":
        return context, ()
    if _SHORT_FACTORS in tensors:
        return longrope_context(context, of_arch.whole(key))
    original = of_arch.whole(key, context)
    if _LONG_FACTORS in tensors:
        raise ExportError(f"{label}: tensor {_SHORT_FACTORS} is missing; {_LONG_FACTORS} is there")
    if original < context:
        raise ExportError(
            f"{label}: tensor {_SHORT_FACTORS} is missing; phi3.{key} is {original}, the context length {context}"
        )
    return context, ()


def _of_phi(config: ModelConfig, label: str, of_arch: Fields, tensors: Mapping[str, Any], turning: int) -> ModelConfig:
    """Said in the words of a config.json. Files seldom name the scaling: two tensors of factors mean longrope."""
    kind = of_arch.text("rope.scaling.type", "longrope" if _SHORT_FACTORS in tensors else "none")
    if kind not in ("none", "", "longrope"):
        raise refuse_scaling(label, kind)
    scaling: dict[str, Any] = {}
    if kind == "longrope":
        scaling["rope_type"] = kind
        scaling["short_factor"] = _factors(_SHORT_FACTORS, turning // 2, label, tensors).tolist()
        scaling["attention_factor"] = of_arch.number("rope.scaling.attn_factor", None, above=0)
        scaling["original_max_position_embeddings"] = of_arch.whole("rope.scaling.original_context_length", None)
    rope = Fields(f"{label}: metadata", scaling.get)
    rest = Fields(label, {"max_position_embeddings": of_arch.whole("context_length")}.get)
    divisors, scale = scaling_from_json(label, rope, rest, config, turning)
    return replace(config, rope_divisors=divisors, rope_scale=scale)


def _divisors(pairs: int, label: str, of_arch: Fields, tensors: Mapping[str, Any]) -> tuple[float, ...]:
    """Llama 3's scaling is a tensor of divisors here; llama.cpp takes a factor without a type for a linear one."""
    factor = of_arch.number("rope.scale_linear", 1.0, above=0)
    factor = of_arch.number("rope.scaling.factor", factor, above=0)
    kind = of_arch.text("rope.scaling.type", "linear")
    if kind not in ("none", "", "linear"):
        raise refuse_scaling(label, kind)
    divisors = np.full(pairs, factor if kind == "linear" else 1.0)
    if LLAMA3_FACTORS in tensors:
        divisors = divisors * _factors(LLAMA3_FACTORS, pairs, label, tensors)
    return () if (divisors == 1).all() else tuple(divisors.tolist())


def _factors(name: str, pairs: int, label: str, tensors: Mapping[str, Any]) -> Array:
    """float32 [pairs], above 0."""
    label = f"{label}: tensor {name}"
    found = tensors.get(name)
    if found is None:
        raise ExportError(f"{label} is missing")
    there = tuple(int(d) for d in reversed(found.shape))
    if there != (pairs,):
        raise ExportError(f"{label} has shape {list(there)}, expected {[pairs]} by its metadata")
    if found.tensor_type.name != "F32":
        raise ExportError(f"{label} has type {found.tensor_type.name}; expected F32")
    values = finite(np.array(found.data), label)
    if not (values > 0).all():
        raise ExportError(f"{label} holds {values.min():g}; expected numbers above 0")
    return values
