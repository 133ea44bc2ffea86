"""How far a changed backbone went from the original: the training loss, and the measures.

N rows, H hidden, V vocabulary. p is the original's distribution, q the changed backbone's; both share the output layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

_ROWS = 1024  # at a time: [rows, V] fp32 logits of both backbones are held


class _FusedKL(torch.autograd.Function):
    """Mean KL(p || q); its gradient by q's logits, q - p, is made in the forward pass, a block of rows at a time."""

    @staticmethod
    def forward(ctx, hidden, original, weight):
        n, total = len(hidden), torch.zeros((), device=hidden.device)
        gradient = torch.empty_like(hidden)
        for start in range(0, n, _ROWS):
            rows = slice(start, start + _ROWS)
            log_q = (hidden[rows].to(weight.dtype) @ weight.t()).float().log_softmax(-1)
            log_p = (original[rows].to(weight.dtype) @ weight.t()).float().log_softmax(-1)
            p = log_p.exp()
            total += (p * (log_p - log_q)).sum()
            gradient[rows] = ((log_q.exp() - p).to(weight.dtype) @ weight).float() / n
        ctx.save_for_backward(gradient)
        return total / n

    @staticmethod
    def backward(ctx, scale):
        (gradient,) = ctx.saved_tensors
        return gradient * scale, None, None


def fused_kl(hidden: torch.Tensor, original: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean KL(p || q) in nats over rows; hidden (of q) fp32 [N, H], original (of p) [N, H], output layer [V, H].

    Only `hidden` gets a gradient. The products run in the dtype of `weight`.
    """
    return _FusedKL.apply(hidden, original, weight)


@dataclass
class Fidelity:
    """Per row, float32 [N]."""

    kl: np.ndarray  # KL(p || q), nats
    nll_original: np.ndarray  # -log p(token)
    nll: np.ndarray  # -log q(token)
    agrees: np.ndarray  # 1 where p and q have the same best token

    def summary(self) -> dict[str, float]:
        """Means; perplexity = exp(mean negative log likelihood of the stored tokens)."""
        return {
            "rows": len(self.kl),
            "kl": round(float(self.kl.mean()), 6),
            "perplexity_original": round(float(np.exp(self.nll_original.mean())), 4),
            "perplexity": round(float(np.exp(self.nll.mean())), 4),
            "greedy_agreement": round(float(self.agrees.mean()), 5),
        }

    def select(self, rows: np.ndarray) -> Fidelity:
        return Fidelity(self.kl[rows], self.nll_original[rows], self.nll[rows], self.agrees[rows])


@torch.no_grad()
def measure_fidelity(hidden: np.ndarray, original: np.ndarray, tokens: np.ndarray, weight: torch.Tensor) -> Fidelity:
    """States of the changed backbone and of the original, [N, H]; the token after each; output layer fp32 [V, H]."""
    parts: list[np.ndarray] = []
    for start in range(0, len(tokens), _ROWS):
        rows = slice(start, start + _ROWS)

        def log_probabilities(states: np.ndarray, rows: slice = rows) -> torch.Tensor:
            return (torch.from_numpy(states[rows]).to(weight.device).float() @ weight.t()).log_softmax(-1)

        log_q, log_p = log_probabilities(hidden), log_probabilities(original)
        truth = torch.from_numpy(tokens[rows].astype(np.int64)).to(weight.device)[:, None]
        columns = (
            (log_p.exp() * (log_p - log_q)).sum(-1),
            -log_p.gather(1, truth)[:, 0],
            -log_q.gather(1, truth)[:, 0],
            (log_p.argmax(-1) == log_q.argmax(-1)).float(),
        )
        parts.append(torch.stack(columns).cpu().numpy())
    kl, nll_original, nll, agrees = np.concatenate(parts, axis=1) if parts else np.zeros((4, 0), np.float32)
    return Fidelity(kl, nll_original, nll, agrees)
