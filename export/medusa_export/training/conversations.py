"""What to distil: conversations as little state machines that a batched generator drives one token at a time.

A conversation is a pure function of (seed, index): which prompt, which temperatures, how many turns. So a rerun
continues where shards end, and the number of workers does not change the data's make-up.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .chat_tokens import ChatTokens
from .inputs import json_lines_of
from .recipes import Mix

MAGPIE = "magpie"  # the model writes the question itself


@dataclass
class Answer:
    """One recorded answer. Row i of `hidden` is the state that predicts `tokens[i]`."""

    conversation: int
    source: str
    temperature: float
    turn: int
    context: list[int]  # every token before the answer
    tokens: list[int] = field(default_factory=list)
    # One row a token, as a list while it grows or as one array.
    hidden: list[np.ndarray] | np.ndarray = field(default_factory=list)  # float16 [H] each
    top_ids: list[np.ndarray] | np.ndarray = field(default_factory=list)  # int32 [8] each
    top_logprobs: list[np.ndarray] | np.ndarray = field(default_factory=list)  # float16 [8] each


class PromptPool:
    """Prompts by source; sources are drawn equally often so that large ones do not swamp small ones."""

    def __init__(self, path: str | Path | None, seed: int) -> None:
        self.by_source: dict[str, list[str]] = {}
        seen: set[str] = set()
        if path is not None:
            for row in json_lines_of("--prompts", path, {"source": str, "prompt": str}):
                if row["prompt"] not in seen:
                    seen.add(row["prompt"])
                    self.by_source.setdefault(row["source"], []).append(row["prompt"])
        rng = np.random.default_rng([seed, 1])
        for prompts in self.by_source.values():
            rng.shuffle(prompts)

    def plan(self, count: int, mix: Mix, seed: int) -> list[tuple[str, str]]:
        """(source, prompt) of conversations 0..count-1; the prompt of a Magpie conversation is empty.

        Each prompt is used at most once; a source that has run dry gives its turn to Magpie.
        """
        rng = np.random.default_rng([seed, 2])
        sources = sorted(self.by_source)
        queues = {s: deque(self.by_source[s]) for s in sources}
        rows: list[tuple[str, str]] = []
        for _ in range(count):
            draw, source = rng.random(), sources[rng.integers(len(sources))] if sources else MAGPIE
            if draw < mix.magpie_share or not sources or not queues[source]:
                rows.append((MAGPIE, ""))
            else:
                rows.append((source, queues[source].popleft()))
        return rows


class Conversation:
    """Feeds the generator: `next_input` is the token to feed; `accept` takes what the model produced after it."""

    def __init__(self, index: int, source: str, prompt: str, chat: ChatTokens, mix: Mix, seed: int) -> None:
        self.index, self.source, self.chat, self.mix = index, source, chat, mix
        self.rng = np.random.default_rng([seed, 3, index])
        self.answer_temperature = 0.0 if self.rng.random() < mix.greedy_share else mix.sample_temperature
        self.turns = 2 if self.rng.random() < mix.second_turn_share else 1
        self.history: list[int] = []  # every token fed so far
        self.forced: deque[int] = deque()
        self.answers: list[Answer] = []
        self.question: list[int] = []
        self.state = "question"
        if source == MAGPIE:
            self.forced.extend(chat.question_prompt())
        else:
            self.forced.extend(chat.user_turn(prompt))
            self._open_answer()
        self.next_input = self.forced.popleft()

    @property
    def position(self) -> int:
        return len(self.history)

    @property
    def done(self) -> bool:
        return self.state == "done"

    @property
    def generating(self) -> bool:
        """Whether the output of the coming step is used: the last forced token is the one being fed."""
        return not self.forced

    @property
    def recording(self) -> bool:
        return self.generating and self.state == "answer"

    @property
    def temperature(self) -> float:
        return self.mix.question_temperature if self.state == "question" else self.answer_temperature

    @property
    def known(self) -> list[int]:
        """Every token known so far: those fed, and those to be fed next."""
        return [*self.history, self.next_input, *self.forced]

    @property
    def phase_limit(self) -> int:
        """Tokens the model may still write in this phase, before the conversation ends it."""
        if self.state == "question":
            return self.mix.max_question + 1 - len(self.question)
        return self.mix.max_answer - len(self.answers[-1].tokens)

    def feed_all(self) -> list[int]:
        """Take all known tokens as fed, up to the one whose successor the model writes; returns them all."""
        known = self.known
        self.history, self.next_input = known[:-1], known[-1]
        self.forced.clear()
        return known

    def skip(self, prefix: list[int]) -> None:
        """Take the shared prefix as already fed (its keys and values were copied into the slot)."""
        fed = [self.next_input, *self.forced]
        assert fed[: len(prefix)] == prefix and len(fed) > len(prefix)
        self.history = list(prefix)
        self.forced = deque(fed[len(prefix) :])
        self.next_input = self.forced.popleft()

    def advance(self) -> None:
        """After a step whose output is not used: feed the next forced token."""
        self.history.append(self.next_input)
        self.next_input = self.forced.popleft()

    def accept(self, token: int) -> None:
        """After a step whose output is used: `token` is the model's next token."""
        self.history.append(self.next_input)
        self.next_input = token
        if self.state == "question":
            self._accept_question(token)
        else:
            self._accept_answer(token)

    def _open_answer(self) -> None:
        self.state = "answer"
        turn = len(self.answers)
        self.answers.append(Answer(self.index, self.source, self.answer_temperature, turn, context=[]))

    def _accept_question(self, token: int) -> None:
        if token != self.chat.end:
            self.question.append(token)
            if len(self.question) > self.mix.max_question:
                self.state = "done"  # no question ends here: keep what was answered before it, if anything
            return
        if len(self.question) < 3:
            self.state = "done"
            return
        self.forced.extend(self.chat.to_answer[1:])
        self._open_answer()

    def _accept_answer(self, token: int) -> None:
        answer = self.answers[-1]
        if not answer.tokens:
            answer.context = list(self.history)
        answer.tokens.append(token)
        if token != self.chat.end:
            if len(answer.tokens) >= self.mix.max_answer:
                self.state = "done"
            return
        if len(self.answers) >= self.turns:
            self.state = "done"
            return
        self.question = []
        self.forced.extend(self.chat.to_question)
        self.state = "question"
