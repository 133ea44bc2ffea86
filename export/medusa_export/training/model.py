"""Medusa heads in torch: residual blocks and an output layer over a draft vocabulary; the fused training loss.

K heads, H hidden, V' draft vocabulary, B positions. Head k reads the state that predicts x(t+1) and predicts x(t+2+k).

Medusa's heads (Cai et al. 2024) read nothing else, although x(t+1) is known when they run. With tokens "root" a head
reads it too, through one more matrix in its first block; the heads stay independent of each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import ExportError
from .recipes import TOKEN_INPUTS


@dataclass(frozen=True)
class HeadsConfig:
    """`output` is "own" (one output layer per head, as in the paper) or "shared" (one for all heads, trained)."""

    heads: int
    hidden_size: int
    layers: int
    draft_vocab_size: int
    output: str = "own"
    tokens: str = "none"

    def __post_init__(self) -> None:
        if self.tokens not in TOKEN_INPUTS:
            raise ExportError(f"heads: tokens must be one of {', '.join(TOKEN_INPUTS)}, not {self.tokens!r}")
        if self.tokens != "none" and self.layers < 1:
            raise ExportError(f"heads: tokens are read by the first block, so they need one; layers is {self.layers}")
        if self.output not in {"own", "shared"}:
            raise ExportError(f"heads: output must be own or shared, not {self.output!r}")
        if min(self.heads, self.hidden_size, self.draft_vocab_size) < 1 or self.layers < 0:
            raise ExportError(f"heads: sizes must be positive, got {self}")


class MedusaHeads(nn.Module):
    """Weights of K heads. `token_map` int64 [V'] maps draft indices to token ids, ascending."""

    def __init__(self, config: HeadsConfig, token_map: torch.Tensor) -> None:
        super().__init__()
        if token_map.shape != (config.draft_vocab_size,):
            raise ValueError(f"heads: token_map has shape {tuple(token_map.shape)}, not ({config.draft_vocab_size},)")
        self.config = config
        self.register_buffer("token_map", token_map.to(torch.int64))
        k, h, n = config.heads, config.hidden_size, config.layers
        # Zero weights make each block the identity at the start: training begins at the backbone's own predictions.
        self.block_weight = nn.ParameterList([nn.Parameter(torch.zeros(n, h, h)) for _ in range(k)])
        self.block_bias = nn.ParameterList([nn.Parameter(torch.zeros(n, h)) for _ in range(k)])
        # U of the first block: y = W x + U e(x(t+1)) + b.
        readers = k if config.tokens == "root" else 0
        self.token_weight = nn.ParameterList([nn.Parameter(torch.zeros(h, h)) for _ in range(readers)])
        self.token_scale = 1.0
        self.register_buffer("embedding", None, persistent=False)
        outputs = k if config.output == "own" else 1
        self.output_weight = nn.ParameterList(
            [nn.Parameter(torch.zeros(config.draft_vocab_size, h)) for _ in range(outputs)]
        )

    @torch.no_grad()
    def initialise_output(self, lm_head: torch.Tensor) -> None:
        """Copy the backbone's output rows, [V, H], of the draft tokens."""
        for weight in self.output_weight:
            weight.copy_(lm_head[self.token_map.to(lm_head.device)])

    def output_of(self, head: int) -> torch.Tensor:
        return self.output_weight[head if self.config.output == "own" else 0]

    def attach_embedding(self, embedding: torch.Tensor, scale: float) -> None:
        """The backbone's input embedding fp32 [V, H]; e(x) = scale * E[x]. It is not trained and not stored with the
        heads; `scale` is (it brings rows to the size of hidden states).
        """
        self.embedding, self.token_scale = embedding.to(self.token_map.device), scale

    def trunk(self, hidden: torch.Tensor, head: int, tokens: torch.Tensor | None = None) -> torch.Tensor:
        """Hidden [B, H], the chosen tokens x(t+1) int64 [B] -> the output layer's input [B, H]."""
        for j in range(self.config.layers):
            y = F.linear(hidden, self.block_weight[head][j], self.block_bias[head][j])
            if j == 0 and self.config.tokens == "root":
                y = y + self._read(tokens, head)
            hidden = hidden + F.silu(y)
        return hidden

    def _read(self, tokens: torch.Tensor | None, head: int) -> torch.Tensor:
        """What the chosen tokens add to the first block of a head, [B, H]."""
        if self.embedding is None or tokens is None:
            raise ValueError(f"heads with tokens={self.config.tokens!r} need the tokens and the backbone's embedding")
        return self.token_scale * F.linear(self.embedding[tokens], self.token_weight[head])

    def forward(self, hidden: torch.Tensor, tokens: torch.Tensor | None = None) -> list[torch.Tensor]:
        """Hidden fp32 [B, H], tokens as in `trunk` -> K logits, [B, V'] each."""
        return [F.linear(self.trunk(hidden, k, tokens), self.output_of(k)) for k in range(self.config.heads)]


class FusedCrossEntropy(torch.autograd.Function):
    """Cross entropy of a linear layer against sparse target distributions, gradient made in the forward pass.

    The gradient of the logits is softmax - target, so one sweep over the [B, V'] logits gives both; autograd would
    keep and revisit several fp32 copies, which on a CPU costs as much as the products themselves.
    """

    @staticmethod
    def forward(ctx, hidden, weight, ids, mass, bias, dtype):
        h, w = hidden.to(dtype), weight.to(dtype)
        logits = (h @ w.t()).float().add_(bias)
        lse = logits.logsumexp(-1)
        counted = mass.sum(-1)  # 1 or 0
        total = counted.sum().clamp(min=1)
        loss = (lse * counted - (logits.gather(1, ids) * mass).sum(-1)).sum() / total
        gradient = logits.sub_(lse[:, None]).exp_().mul_(counted[:, None]).scatter_add_(1, ids, -mass).div_(total)
        gradient = gradient.to(dtype)
        to_weight = (gradient.t() @ h).float() if ctx.needs_input_grad[1] else None  # a third of the work
        ctx.save_for_backward((gradient @ w).float(), to_weight)
        return loss

    @staticmethod
    def backward(ctx, scale):
        to_hidden, to_weight = ctx.saved_tensors
        return to_hidden * scale, None if to_weight is None else to_weight * scale, None, None, None, None


def fused_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    ids: torch.Tensor,
    mass: torch.Tensor,
    bias: torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Mean loss over the rows that count.

    hidden fp32 [B, H]; weight fp32 [V', H]; ids int64 [B, C] and mass fp32 [B, C]: the target distribution of each
    row, summing to 1, or to 0 to skip the row; bias fp32 [V'] is added to the logits; dtype is the products'.
    """
    return FusedCrossEntropy.apply(hidden, weight, ids, mass, bias, dtype)
