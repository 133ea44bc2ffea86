"""Continuous batched generation: B slots, each running one conversation; a finished slot takes the next one at once.

Prompts are fed through the same one-token steps as answers. At a few hundred slots' tokens per step this costs no more
than a separate prefill, and there is one code path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from .backbone import Backbone
from .conversations import Conversation
from .shards import TOP


class Generator:
    """Drives conversations to their end on a backbone."""

    def __init__(self, backbone: Backbone, slots: int, capacity: int, prefix: list[int]) -> None:
        self.backbone, self.capacity, self.prefix = backbone, capacity, prefix
        self.cache = backbone.new_cache(slots, capacity)
        self.slots: list[Conversation | None] = [None] * slots
        self.prefix_keys, self.prefix_values = prefix_of(backbone, prefix)
        self.steps = self.generated = 0

    def _ids(self, values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self.backbone.device)

    def run(self, queue: Iterator[Conversation], finished: Callable[[Conversation], None]) -> None:
        """Until the queue is empty and every slot is done; `finished` gets each conversation as it ends."""
        exhausted = False
        while True:
            for slot, conversation in enumerate(self.slots):
                if conversation is None and not exhausted:
                    self.slots[slot] = self._take(queue, slot)
                    exhausted = self.slots[slot] is None
            active = [s for s, c in enumerate(self.slots) if c is not None]
            if not active:
                return
            self._step(active)
            for slot in active:
                conversation = self.slots[slot]
                if conversation.done or conversation.position >= self.capacity:
                    finished(conversation)
                    self.slots[slot] = None

    def _take(self, queue: Iterator[Conversation], slot: int) -> Conversation | None:
        conversation = next(queue, None)
        if conversation is not None and self.prefix:
            self.cache.load_prefix([slot], self.prefix_keys, self.prefix_values)
            conversation.skip(self.prefix)
        return conversation

    def _step(self, active: list[int]) -> None:
        # Idle slots (only at the very end of a run) feed token 0 at position 0: harmless, and shapes stay fixed.
        inputs = [(c.next_input, c.position) if c else (0, 0) for c in self.slots]
        hidden = self.backbone.step(self._ids([t for t, _ in inputs]), self._ids([p for _, p in inputs]), self.cache)
        self.steps += 1
        using = [s for s in active if self.slots[s].generating]
        for slot in set(active) - set(using):
            self.slots[slot].advance()
        if not using:
            return
        rows = hidden[self._ids(using)]
        logits = self.backbone.logits(rows)
        values, ids = self.backbone.top_logits(rows, logits, TOP)
        logprobs = (values - logits.float().logsumexp(-1, keepdim=True)).cpu().numpy().astype(np.float16)
        top_ids, states = ids.cpu().numpy().astype(np.int32), rows.cpu().numpy().astype(np.float16)
        for i, slot in enumerate(using):
            c = self.slots[slot]
            token = int(top_ids[i, 0]) if c.temperature == 0 else _sample(logits[i], c.temperature, c.rng)
            if c.recording:
                answer = c.answers[-1]
                answer.hidden.append(states[i])
                answer.top_ids.append(top_ids[i])
                answer.top_logprobs.append(logprobs[i])
                self.generated += 1
            c.accept(token)


def prefix_of(backbone: Backbone, prefix: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of tokens that all conversations begin with, [L, Hkv, n, D] each."""
    cache = backbone.new_cache(1, max(1, len(prefix)))
    for position, token in enumerate(prefix):
        fed, at = (torch.tensor([value], device=backbone.device) for value in (token, position))
        backbone.step(fed, at, cache, reach=position + 1)
    return cache.keys[:, 0], cache.values[:, 0]


def _sample(logits: torch.Tensor, temperature: float, rng: np.random.Generator) -> int:
    """Inverse-CDF sampling with the conversation's own random stream, so that batching does not change the draw."""
    cumulative = torch.softmax(logits.float() / temperature, -1).cumsum(-1)
    draw = torch.tensor(rng.random(), dtype=torch.float32, device=logits.device) * cumulative[-1]
    return min(int(torch.searchsorted(cumulative, draw, right=True)), logits.shape[0] - 1)
