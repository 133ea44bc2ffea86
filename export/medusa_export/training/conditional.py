"""A learnt correction of the heads' joint: q(y | path) instead of the independent marginals p_k(y).

Node x_j at depth j (head k = j - 1) with ancestors x_{j-1}, ..., x_0, where x_0 is the backbone's own next token:

    c = sum_{d=1..min(D, j)} A_d[x_{j-d}]  (+ Z_k h + b_k)  (+ l_k)      c = silu(c) if asked for  (c = g_k * c)   [r]
    q(y | path) = p_k(y) e^{c . B[y]} / (sum_v p_k(v) e^{c . B[v]} + rest)                     v: the head's top m

l_k and g_k (`levels`) tell the heads apart: the further a head looks ahead, the less its marginal knows of what stands
before y, and one that reads x_0 itself needs no more of it. `rest` is the marginal's mass outside the top m. Without
activation and context this is a low-rank n-gram term; with both it is what a one-layer sequential head of width r
computes, its products with tokens' embeddings kept as tables.
Shapes: V vocabulary, V' draft vocabulary, H hidden, K heads, r rank, D distances, m candidates, P positions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..errors import ExportError
from ..weights.conditional_file import ACTIVATIONS
from ..weights.hashing import sha256_of
from .checkpoint import write_tensors


@dataclass(frozen=True)
class ConditionalConfig:
    """Sizes and kind."""

    rank: int
    distances: int
    activation: str
    context: bool
    heads: int
    hidden_size: int
    vocab_size: int
    draft_vocab_size: int
    levels: bool = False

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ExportError(f"conditional: activation must be one of {ACTIVATIONS}, not {self.activation!r}")
        if not 1 <= self.distances <= self.heads or self.rank < 1:
            raise ExportError(f"conditional: needs rank >= 1 and 1 <= distances <= heads, got {self}")


class ConditionalJoint(nn.Module):
    """The trainable correction. B starts at zero, so that training begins at the product of the marginals.

    A and B are projections of the backbone's embeddings and the heads' output rows: few parameters, and rare tokens
    share what common ones learn.
    """

    def __init__(self, config: ConditionalConfig, embeddings: torch.Tensor, outputs: torch.Tensor) -> None:
        """Embeddings fp32 [V, H]: the backbone's; outputs fp32 [V', H]: the rows that stand for the draft tokens."""
        super().__init__()
        c = self.config = config
        for name, given, expected in (
            ("embeddings", embeddings, (c.vocab_size, c.hidden_size)),
            ("outputs", outputs, (c.draft_vocab_size, c.hidden_size)),
        ):
            if tuple(given.shape) != expected:
                raise ValueError(f"conditional: {name} have shape {tuple(given.shape)}, the config says {expected}")
        self.dropout = 0.0  # of c, while training
        # Scaled to unit rms so that one learning rate suits every backbone; folded back when saved.
        self.embedding_scale = 1 / float(embeddings.square().mean().sqrt())
        self.output_scale = 1 / float(outputs.square().mean().sqrt())
        self.register_buffer("embeddings", embeddings * self.embedding_scale, persistent=False)
        self.register_buffer("outputs", outputs * self.output_scale, persistent=False)
        self.a_bias = nn.Parameter(torch.zeros(c.rank))
        self.a_projection = nn.Parameter(torch.randn(c.distances, c.rank, c.hidden_size) * c.hidden_size**-0.5)
        self.b_projection = nn.Parameter(torch.zeros(c.rank, c.hidden_size))
        if c.context:
            self.context_weight = nn.Parameter(torch.randn(c.heads, c.rank, c.hidden_size) * 0.1 * c.hidden_size**-0.5)
            self.context_bias = nn.Parameter(torch.zeros(c.heads, c.rank))
        if c.levels:
            self.level_bias = nn.Parameter(torch.zeros(c.heads, c.rank))
            self.level_gain = nn.Parameter(torch.ones(c.heads, c.rank))

    def ancestors(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens int64 [..., D], distance d in column d - 1, -1 where there is none -> sum of A_d [..., r]."""
        total = self.a_bias.expand(*tokens.shape[:-1], self.config.rank)
        for d in range(self.config.distances):
            at = tokens[..., d]
            row = F.linear(self.embeddings[at.clamp(min=0)], self.a_projection[d])
            total = total + row * (at >= 0)[..., None]
        return total

    def b_rows(self) -> torch.Tensor:
        """B [V', r]."""
        return F.linear(self.outputs, self.b_projection)

    def context(self, hidden: torch.Tensor) -> torch.Tensor:
        """Z of every head: hidden fp32 [P, H] -> [P, K, r]."""
        return torch.einsum("ph,krh->pkr", hidden, self.context_weight) + self.context_bias

    def scores(self, rows: dict[str, torch.Tensor]) -> torch.Tensor:
        """S [R, m] of R (position, head) pairs: rows holds hidden fp32 [P, H], position int64 [R] into it, head int64
        [R], tokens int64 [R, D], candidates int64 [R, m] (draft indices).
        """
        c = self.ancestors(rows["tokens"])
        if self.config.context:
            c = c + self.context(rows["hidden"])[rows["position"], rows["head"]]
        if self.config.levels:
            c = c + self.level_bias[rows["head"]]
        if self.config.activation == "silu":
            c = F.silu(c)
        if self.config.levels:
            c = c * self.level_gain[rows["head"]]
        c = F.dropout(c, self.dropout, self.training)
        return torch.einsum("nmr,nr->nm", F.embedding(rows["candidates"], self.b_rows()), c)


# The dimension of each parameter along which the rank counts.
_RANK_DIMENSION = {
    "a_bias": 0,
    "a_projection": 1,
    "b_projection": 0,
    "context_weight": 1,
    "context_bias": 1,
    "level_bias": 1,
    "level_gain": 1,
}


@torch.no_grad()
def averaged(members: list[ConditionalJoint]) -> ConditionalJoint:
    """One correction whose scores are the mean of the members' (alike but for their weights): their vectors c side by
    side and B divided by how many they are, so its rank is the sum of theirs. The same object if there is one.
    """
    if len(members) == 1:
        return members[0]
    first, count = members[0], len(members)
    config = replace(first.config, rank=first.config.rank * count)
    embeddings, outputs = first.embeddings / first.embedding_scale, first.outputs / first.output_scale
    model = ConditionalJoint(config, embeddings, outputs)
    for name, parameter in model.named_parameters():
        parts = [m.get_parameter(name) for m in members]
        joined = torch.cat(parts, _RANK_DIMENSION[name])
        parameter.copy_(joined / count if name.startswith("b_") else joined)
    return model


def conditional_logits(log_marginals: torch.Tensor, rest: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Unnormalised log q of the m candidates and, last, of the rest: [..., m], [...], [..., m] -> [..., m + 1]."""
    return torch.cat((log_marginals + scores, rest.clamp(min=1e-6).log()[..., None]), -1)


@torch.no_grad()
def stored_tensors(model: ConditionalJoint) -> dict[str, np.ndarray]:
    """The tensors of the file (docs/heads-format.md): matrices float16, the rest float32."""
    tensors: dict[str, np.ndarray] = {"a.bias": _numpy(model.a_bias)}
    for d, projection in enumerate(model.a_projection, start=1):
        tensors[f"a.{d}.projection"] = _numpy(projection * model.embedding_scale).astype(np.float16)
    tensors["b.projection"] = _numpy(model.b_projection * model.output_scale).astype(np.float16)
    if model.config.context:
        tensors["context.weight"] = _numpy(model.context_weight).astype(np.float16)
        tensors["context.bias"] = _numpy(model.context_bias)
    if model.config.levels:
        tensors["level.bias"], tensors["level.gain"] = _numpy(model.level_bias), _numpy(model.level_gain)
    return tensors


@torch.no_grad()
def round_to_stored(model: ConditionalJoint) -> None:
    """Give the parameters the values that the file will hold, so that what is measured is what is shipped."""
    stored = {name: torch.from_numpy(np.asarray(t, np.float32)) for name, t in stored_tensors(model).items()}
    for d in range(model.config.distances):
        model.a_projection[d] = stored[f"a.{d + 1}.projection"] / model.embedding_scale
    model.b_projection.copy_(stored["b.projection"] / model.output_scale)
    if model.config.context:
        model.context_weight.copy_(stored["context.weight"])


def save_conditional(model: ConditionalJoint, heads: Path, facts: dict[str, Any]) -> Path:
    """Write <heads>.conditional.safetensors and its sidecar beside the heads file."""
    path = heads.with_name(heads.stem + ".conditional.safetensors")
    c = model.config
    sidecar = {
        # A reader of format 1 would leave the levels out and say nothing.
        "format": 2 if c.levels else 1,
        "name": heads.stem,
        "kind": "conditional",
        "rank": c.rank,
        "distances": c.distances,
        "activation": c.activation,
        "context": c.context,
        **({"levels": True} if c.levels else {}),
        "heads": c.heads,
        "hidden_size": c.hidden_size,
        "vocab_size": c.vocab_size,
        "draft_vocab_size": c.draft_vocab_size,
        "heads_sha256": sha256_of(heads),
        **facts,
    }
    write_tensors(path, stored_tensors(model), sidecar)
    return path


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().float().numpy()
