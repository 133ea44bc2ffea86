"""Continuous batched generation with its state on the device: thousands of slots, no look at a token between steps.

The step-wise generator (generation.py) drives every slot from Python and copies every state to the host; on an
accelerator both cost far more than the model. Here a slot is a row of tensors, and the host looks every few steps only:
it collects the slots whose phase (a question, an answer) has ended, lets their conversations say what follows, and
writes that back in one transfer. States are not kept: teacher_forcing.py computes them from finished answers.

B slots, S cache positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F

from .backbone import Backbone
from .conversations import Conversation
from .generation import prefix_of


class BatchedGenerator:
    """Drives conversations to their end; a conversation gets the tokens that the step-wise generator gives it."""

    def __init__(
        self, backbone: Backbone, slots: int, capacity: int, prefix: list[int], end: int, interval: int = 8
    ) -> None:
        """`end` is the token that ends a phase; the host looks every `interval` steps."""
        self.backbone, self.capacity, self.prefix = backbone, capacity, prefix
        self.end, self.interval = end, interval
        self.slots: list[Conversation | None] = [None] * slots
        self.cache = backbone.new_cache(slots, capacity)
        self.steps = self.generated = 0
        device = backbone.device

        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.tokens = zeros(slots, capacity + 1)  # all known tokens of a slot; one spare column for idle slots
        self.position = zeros(slots)  # of the token to feed next
        self.given = zeros(slots)  # tokens known in advance; from there on they are generated
        self.stop = zeros(slots)  # no token is generated at or beyond
        self.temperature = zeros(slots, dtype=torch.float32)
        self.uniform = zeros(slots, capacity + 1, dtype=torch.float32)  # the draw for the token at each position
        self.active = zeros(slots, dtype=torch.bool)
        self.draws: list[np.ndarray] = [np.zeros(0)] * slots  # what is left of each conversation's own random stream
        self.reach = 1  # positions that any slot has reached
        self.prefix_keys, self.prefix_values = prefix_of(backbone, prefix)

    @torch.inference_mode()
    def run(self, queue: Iterator[Conversation], finished: Callable[[Conversation], None]) -> None:
        """Until the queue is empty and every slot is done; `finished` gets each conversation as it ends."""
        self._refill(range(len(self.slots)), queue)
        while any(c is not None for c in self.slots):
            for _ in range(self.interval):
                self._step()
            self._refill(self._collect(finished), queue)

    def _step(self) -> None:
        self.reach = min(self.capacity, self.reach + 1)
        fed = self.tokens.gather(1, self.position[:, None])[:, 0]
        hidden = self.backbone.step(fed, self.position, self.cache, reach=self.reach)
        following = self.position + 1
        chosen = self._choose(hidden, self.uniform.gather(1, following[:, None]))
        known = self.tokens.gather(1, following[:, None])[:, 0]
        generating = following >= self.given
        token = torch.where(generating & self.active, chosen, known)
        self.tokens.scatter_(1, following[:, None], token[:, None])
        # A slot whose phase is over stands still, feeding its last token again, until the host looks.
        self.position = torch.where(self.active, following, self.position)
        over = generating & ((token == self.end) | (following + 1 >= self.stop))
        self.active &= ~over
        self.steps += 1

    def _choose(self, hidden: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """int64 [B]: the best token, or one by inverse CDF where the temperature is above 0."""
        # fp32 logits: those of bf16 products tie, and ties change the best token.
        logits = F.linear(hidden, self.backbone.lm_head)  # [B, V]
        best = logits.argmax(-1)
        scaled = logits / self.temperature.clamp(min=1e-3)[:, None]
        cumulative = torch.softmax(scaled, -1).cumsum(-1)
        drawn = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)[:, 0]
        return torch.where(self.temperature > 0, drawn.clamp(max=logits.shape[1] - 1), best)

    def _collect(self, finished: Callable[[Conversation], None]) -> list[int]:
        """Tell the conversations of slots that stand still what was generated; returns the slots that are free."""
        resting = (~self.active).cpu().numpy()
        slots = [s for s, c in enumerate(self.slots) if c is not None and resting[s]]
        if not slots:
            return []
        index = torch.tensor(slots, device=self.backbone.device)
        rows, given, position = (t[index].cpu().numpy() for t in (self.tokens, self.given, self.position))
        free, resumed = [], []
        for row, start, at, slot in zip(rows, given, position, slots, strict=True):
            conversation = self.slots[slot]
            tokens = row[start : at + 1].tolist()
            if conversation.temperature > 0:
                self.draws[slot] = self.draws[slot][len(tokens) :]
            self.generated += len(tokens) * conversation.recording
            for token in tokens:
                conversation.accept(token)
            if conversation.done or len(conversation.known) >= self.capacity:
                finished(conversation)
                self.slots[slot] = None
                free.append(slot)
            else:
                resumed.append(slot)
        self._write(resumed, [len(self.slots[s].history) for s in resumed])
        return free

    def _refill(self, free: list[int] | range, queue: Iterator[Conversation]) -> None:
        taken = []
        for slot in free:
            conversation = self._next(queue)
            if conversation is None:
                break
            self.slots[slot] = conversation
            # One stream for all draws of a conversation, so that batching does not change them.
            self.draws[slot] = conversation.rng.random(self.capacity)
            taken.append(slot)
        if taken and self.prefix:
            self.cache.load_prefix(taken, self.prefix_keys, self.prefix_values)
        self._write(taken, [len(self.prefix)] * len(taken))
        self._set_reach()

    def _next(self, queue: Iterator[Conversation]) -> Conversation | None:
        """The next conversation whose first prompt leaves room for an answer."""
        for conversation in queue:
            if self.prefix:
                conversation.skip(self.prefix)
            if len(conversation.known) < self.capacity:
                return conversation
        return None

    def _write(self, slots: list[int], positions: list[int]) -> None:
        """Put the known tokens of slots on the device, to go on from `positions`."""
        if not slots:
            return
        size, width = len(slots), self.capacity + 1
        tokens, uniform = np.zeros((size, width), np.int64), np.zeros((size, width), np.float32)
        given, stop, temperature = np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size, np.float32)
        for i, slot in enumerate(slots):
            conversation = self.slots[slot]
            known = conversation.feed_all()[: self.capacity]
            tokens[i, : len(known)] = known
            given[i], temperature[i] = len(known), conversation.temperature
            stop[i] = min(self.capacity, len(known) + conversation.phase_limit)
            draws = self.draws[slot][: stop[i] - given[i]]
            uniform[i, given[i] : given[i] + len(draws)] = draws
        index = torch.tensor(slots, device=self.backbone.device)
        for target, values in (
            (self.tokens, tokens),
            (self.uniform, uniform),
            (self.given, given),
            (self.stop, stop),
            (self.temperature, temperature),
            (self.position, np.array(positions)),
        ):
            target[index] = torch.from_numpy(values).to(self.backbone.device)
        self.active[index] = True

    def _set_reach(self) -> None:
        self.reach = int((self.position * self.active).max()) + 1
