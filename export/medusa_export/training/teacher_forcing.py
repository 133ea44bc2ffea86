"""States of finished answers: what decoding needs hundreds of steps for, one pass over whole texts gives at once."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from .backbone import Backbone
from .conversations import Answer
from .sequences import Sequences, states_of
from .shards import TOP, Rollouts


@torch.inference_mode()
def fill_states(backbone: Backbone, answers: list[Answer], most_tokens: int = 8192, most_rows: int = 2048) -> None:
    """Give every answer its `hidden`, `top_ids` and `top_logprobs`.

    A pass reads at most `most_tokens` positions, padding included (more where one answer has more); `most_rows` rows go
    through the output layer at once.
    """
    if not answers:
        return
    rollouts = _without_states(answers, backbone.config.hidden_size)
    longest = max(len(a.context) + len(a.tokens) for a in answers)
    sequences = Sequences(rollouts, max(most_tokens, longest), backbone.device)
    for group in sequences.plan():
        batch = sequences.micro_batch(group)
        cuts = range(most_rows, len(batch.rows), most_rows)
        for some, at in zip(states_of(backbone, batch).split(most_rows), np.split(batch.rows, cuts), strict=True):
            logits = F.linear(some, backbone.lm_head)  # fp32: bf16 logits tie
            values, ids = logits.topk(TOP, dim=-1)
            rollouts.hidden[at] = some.half().cpu().numpy()
            rollouts.top_ids[at] = ids.int().cpu().numpy()
            rollouts.top_logprobs[at] = (values - logits.logsumexp(-1, keepdim=True)).half().cpu().numpy()
    for i, answer in enumerate(answers):
        own = slice(*rollouts.offsets[i : i + 2])
        answer.hidden = rollouts.hidden[own]
        answer.top_ids, answer.top_logprobs = rollouts.top_ids[own], rollouts.top_logprobs[own]


def _without_states(answers: list[Answer], hidden_size: int) -> Rollouts:
    rows = sum(len(a.tokens) for a in answers)
    return Rollouts(
        hidden=np.zeros((rows, hidden_size), np.float16),
        tokens=np.concatenate([np.array(a.tokens, np.int32) for a in answers]),
        top_ids=np.zeros((rows, TOP), np.int32),
        top_logprobs=np.zeros((rows, TOP), np.float16),
        offsets=np.cumsum([0, *(len(a.tokens) for a in answers)]),
        temperature=np.array([a.temperature for a in answers], np.float32),
        sources=[a.source for a in answers],
        contexts=[np.array(a.context, np.int32).tobytes() for a in answers],
    )
