"""Which files of a published repository a preparation reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .errors import ExportError

_FIRST = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "README.md",
)  # fmt: skip
_HEADS = ("medusa_lm_head.safetensors", "medusa_lm_head.pt")
# As the readers take them: safetensors first, an index before a single file.
_WEIGHTS = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")


def first_files(there: Collection[str]) -> list[str]:
    """Small ones, among them what tells whether the model can be converted at all."""
    return [name for name in _FIRST if name in there]


def model_files(repository: str, there: Collection[str]) -> list[str]:
    """Weights of one format, or their index, and the heads beside them."""
    weights, heads = _first(_WEIGHTS, there), _first(_HEADS, there)
    if weights:
        return weights + heads
    if heads:
        raise ExportError(
            f"{repository} holds Medusa heads and no model: give it with --heads, and the model with --from"
        )
    ggufs = sorted(name for name in there if name.endswith(".gguf"))
    if ggufs:
        raise ExportError(
            f"{repository} holds GGUF files; name one: --from {repository}:{ggufs[0]} (of {', '.join(ggufs)})"
        )
    if any(name.endswith(".onnx") for name in there):
        raise ExportError(
            f"{repository} holds ONNX exports, which lack tree mask and hidden states; name its checkpoint"
        )
    raise ExportError(f"{repository} holds none of {', '.join(_WEIGHTS)}")


def heads_files(repository: str, there: Collection[str]) -> list[str]:
    """Of heads, or the weights of a model that has them inside."""
    names = _first(_HEADS, there) or _first(_WEIGHTS, there)
    if not names:
        raise ExportError(f"--heads {repository}: none of {', '.join(_HEADS + _WEIGHTS)} lies there")
    return names


def shards_of(weight_map: Mapping[str, object], heads_alone: bool) -> list[str]:
    """The files of an index; of heads inside a model only those that hold some."""
    chosen = {str(file) for tensor, file in weight_map.items() if heads_alone and tensor.startswith("medusa_head.")}
    return sorted(chosen or {str(file) for file in weight_map.values()})


def _first(names: tuple[str, ...], there: Collection[str]) -> list[str]:
    return [name for name in names if name in there][:1]
