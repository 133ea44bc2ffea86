"""States of finished texts in one pass per batch: what a decoder needs hundreds of steps for, a prefill does in one.

A decoding run on an accelerator therefore keeps tokens only; states, the bulk of the data, are computed afterwards, in
whatever precision is wanted and free of the rounding of a decoding run in half precision.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from .backbone_torch import Backbone
from .conversations import Answer
from .lora import run_sequences
from .shards import TOP


@torch.inference_mode()
def sequence_states(backbone: Backbone, tokens: torch.Tensor) -> torch.Tensor:
    """States after the final norm, fp32 [B, T, H], of texts int64 [B, T]; text is padded at its end, if at all."""
    return run_sequences(backbone, tokens)


@torch.inference_mode()
def fill_states(backbone: Backbone, answers: list[Answer], batch_tokens: int = 32768, batch_rows: int = 4096) -> None:
    """Give every answer its `hidden`, `top_ids` and `top_logprobs`; batches hold at most `batch_tokens` positions,
    padding included, and at most `batch_rows` rows go through the output layer at once."""
    order = sorted(range(len(answers)), key=lambda i: len(answers[i].context) + len(answers[i].tokens))
    for batch in _batches([answers[i] for i in order], batch_tokens):
        longest = max(_length(a) for a in batch)
        texts = np.zeros((len(batch), longest), np.int64)
        for row, a in zip(texts, batch, strict=True):
            row[: _length(a)] = (a.context + a.tokens)[:-1]  # the last token is predicted, never read
        states = sequence_states(backbone, torch.from_numpy(texts).to(backbone.device))
        wanted = [i * longest + j for i, a in enumerate(batch) for j in range(len(a.context) - 1, _length(a))]
        rows = states.flatten(0, 1)[torch.tensor(wanted, device=backbone.device)]
        parts = [_best(backbone, part) for part in rows.split(batch_rows)]
        hidden = rows.half().cpu().numpy()
        ids, logprobs = (torch.cat(each).cpu().numpy() for each in zip(*parts, strict=True))
        start = 0
        for a in batch:
            own = slice(start, start + len(a.tokens))
            a.hidden, a.top_ids, a.top_logprobs = hidden[own], ids[own], logprobs[own]
            start = own.stop


def _length(answer: Answer) -> int:
    """Positions to run: all but the last token."""
    return len(answer.context) + len(answer.tokens) - 1


def _batches(answers: list[Answer], batch_tokens: int) -> list[list[Answer]]:
    """Answers of ascending length in groups of at most `batch_tokens` padded positions (at least one answer each)."""
    batches: list[list[Answer]] = []
    for a in answers:
        if not batches or (len(batches[-1]) + 1) * _length(a) > batch_tokens:
            batches.append([])
        batches[-1].append(a)
    return batches


def _best(backbone: Backbone, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(int32 ids, fp16 log-probabilities) [B, 8] of the backbone's best tokens, from fp32 logits."""
    logits = F.linear(rows, backbone.lm_head)
    values, ids = logits.topk(TOP, dim=-1)
    return ids.int(), (values - logits.logsumexp(-1, keepdim=True)).half()
