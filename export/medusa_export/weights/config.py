"""The facts about a model that the graph builder needs, whatever file they came from."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import ExportError

FAMILIES = ("llama", "mistral", "qwen2")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a Llama-family decoder."""

    family: str  # one of FAMILIES; Vicuna and SmolLM2 are "llama"
    layers: int
    hidden_size: int
    query_heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    context_length: int
    rope_theta: float
    rms_norm_eps: float
    tied_embeddings: bool
    qkv_bias: bool = False
    notes: tuple[str, ...] = field(default=())  # what was changed on the way in, to be told to the user

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ExportError(f"model family '{self.family}' is not supported (supported: {', '.join(FAMILIES)})")
        for name in (
            "layers",
            "hidden_size",
            "query_heads",
            "kv_heads",
            "head_dim",
            "intermediate_size",
            "vocab_size",
        ):
            if getattr(self, name) < 1:
                raise ExportError(f"the checkpoint says {name} = {getattr(self, name)}; expected a positive number")
        if self.query_heads % self.kv_heads:
            raise ExportError(f"{self.query_heads} query heads do not divide into {self.kv_heads} key-value heads")
        if self.head_dim % 2:
            raise ExportError(f"head size {self.head_dim} is odd; rotary embeddings need an even one")

    @property
    def query_width(self) -> int:
        return self.query_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the checkpoint by its own name here, with the [out, in] shape it must have."""
        h, i, q, kv = self.hidden_size, self.intermediate_size, self.query_width, self.kv_width
        shapes: dict[str, tuple[int, ...]] = {"embed.weight": (self.vocab_size, h), "norm.weight": (h,)}
        if not self.tied_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, h)
        for layer in range(self.layers):
            p = f"layers.{layer}."
            shapes |= {
                p + "attn_norm.weight": (h,),
                p + "mlp_norm.weight": (h,),
                p + "q.weight": (q, h),
                p + "k.weight": (kv, h),
                p + "v.weight": (kv, h),
                p + "o.weight": (h, q),
                p + "gate.weight": (i, h),
                p + "up.weight": (i, h),
                p + "down.weight": (h, i),
            }
            if self.qkv_bias:
                shapes |= {p + "q.bias": (q,), p + "k.bias": (kv,), p + "v.bias": (kv,)}
        return shapes
