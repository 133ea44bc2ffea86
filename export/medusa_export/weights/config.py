"""The facts about a model that the graph builder needs, whatever file they came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..errors import ExportError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma3")
MAX_HEAD = 1 << 12  # head size
MAX_CONTEXT = 1 << 22  # positions; every graph holds a rotary table of the whole context


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
    qk_norm: bool = False  # RMSNorm of every head's queries and keys, before they are rotated
    # Of the rotary frequencies, [head_dim / 2] (rope.py); empty: all are 1; infinite: the pair does not turn.
    rope_divisors: tuple[float, ...] = ()
    rope_scale: float = 1.0  # of cosines and sines of the pairs that turn
    # [layers] tokens that a token of the layer sees, itself included; 0: all before it. Empty: all layers see all.
    windows: tuple[int, ...] = ()
    local_rope_theta: float = 0.0  # of the layers with a window, which scale nothing; 0: they rotate as the others do
    post_norms: bool = False  # RMSNorm of what attention and MLP give, before it is added to the stream
    embed_scale: float = 1.0
    attention_scale: float = 0.0  # of scores; 0: head_dim^-0.5
    activation: str = "silu"  # of the gate: silu, or gelu_tanh
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
            "context_length",
        ):
            if getattr(self, name) < 1:
                raise ExportError(f"the checkpoint says {name} = {getattr(self, name)}; expected a positive number")
        for name, most in (("context_length", MAX_CONTEXT), ("head_dim", MAX_HEAD)):
            if getattr(self, name) > most:
                raise ExportError(f"the checkpoint says {name} = {getattr(self, name)}; at most {most} is supported")
        if self.query_heads % self.kv_heads:
            raise ExportError(f"{self.query_heads} query heads do not divide into {self.kv_heads} key-value heads")
        if self.head_dim % 2:
            raise ExportError(f"head size {self.head_dim} is odd; rotary embeddings need an even one")

    @property
    def score_scale(self) -> float:
        return self.attention_scale or self.head_dim**-0.5

    @property
    def shortest_window(self) -> int:
        """What every layer sees of the text at least; the context length without windows."""
        return min([self.context_length, *filter(None, self.windows)])

    @property
    def query_width(self) -> int:
        return self.query_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the checkpoint by its own name here, with the [out, in] shape it must have."""
        return dict(self.each_tensor())

    def each_tensor(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The same one by one: until they were found in a file, nobody knows how many layers there are."""
        h, i, q, kv = self.hidden_size, self.intermediate_size, self.query_width, self.kv_width
        yield "embed.weight", (self.vocab_size, h)
        yield "norm.weight", (h,)
        if not self.tied_embeddings:
            yield "lm_head.weight", (self.vocab_size, h)
        for layer in range(self.layers):
            p = f"layers.{layer}."
            yield p + "attn_norm.weight", (h,)
            yield p + "mlp_norm.weight", (h,)
            yield p + "q.weight", (q, h)
            yield p + "k.weight", (kv, h)
            yield p + "v.weight", (kv, h)
            yield p + "o.weight", (h, q)
            yield p + "gate.weight", (i, h)
            yield p + "up.weight", (i, h)
            yield p + "down.weight", (h, i)
            if self.post_norms:
                yield p + "post_attn_norm.weight", (h,)
                yield p + "post_mlp_norm.weight", (h,)
            if self.qkv_bias:
                yield p + "q.bias", (q,)
                yield p + "k.bias", (kv,)
                yield p + "v.bias", (kv,)
            if self.qk_norm:
                yield p + "q_norm.weight", (self.head_dim,)
                yield p + "k_norm.weight", (self.head_dim,)


def layer_windows(context: int, window: int, slides: Sequence[bool]) -> tuple[int, ...]:
    """`ModelConfig.windows`: `window` for the layers that slide; empty where it does not cut anything off."""
    if not window or window >= context or not any(slides):
        return ()
    return tuple(window if slide else 0 for slide in slides)
