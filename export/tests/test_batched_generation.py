"""The batched generator of a CUDA device, run on a CPU: tokens equal those of the step-wise one, states those of its
steps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from heads_tiny import made_rollouts, write_tiny_model
from medusa_export.training.backbone import Backbone, load_backbone
from medusa_export.training.batched_generation import BatchedGenerator
from medusa_export.training.chat_tokens import ChatTokens, load_chat_tokens
from medusa_export.training.conversations import MAGPIE, Answer, Conversation
from medusa_export.training.generation import Generator
from medusa_export.training.recipes import Mix
from medusa_export.training.teacher_forcing import fill_states
from medusa_export.training.training_data import Batches

MIX = Mix(greedy_share=0.4, second_turn_share=0.7, max_question=12, max_answer=20)
CAPACITY = 110


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Backbone, ChatTokens]:
    folder = write_tiny_model(tmp_path_factory.mktemp("m"))
    backbone, chat = load_backbone(folder), load_chat_tokens(folder, "s")
    # A random model hardly ever ends an answer: make the end token likely enough that all phases occur.
    backbone.lm_head = backbone.lm_head.clone()
    backbone.lm_head[chat.end] *= 8
    backbone.output_weight = backbone.lm_head
    return backbone, chat


def conversations(chat: ChatTokens) -> list[Conversation]:
    pairs = [(MAGPIE, "") if i % 3 == 0 else ("s", f"Say {i}{'!' * (i % 7)}") for i in range(40)]
    return [Conversation(i, source, prompt, chat, MIX, 0) for i, (source, prompt) in enumerate(pairs)]


def run(generator: Generator | BatchedGenerator, chat: ChatTokens) -> dict[int, list[Answer]]:
    done: dict[int, list[Answer]] = {}
    generator.run(iter(conversations(chat)), lambda c: done.update({c.index: [x for x in c.answers if x.tokens]}))
    assert sorted(done) == list(range(40))
    return done


@pytest.mark.parametrize(("slots", "interval"), [(7, 1), (16, 8), (64, 5)])
def test_tokens_equal_the_step_wise_generators(model: tuple[Backbone, ChatTokens], slots: int, interval: int) -> None:
    backbone, chat = model
    expected = run(Generator(backbone, 16, CAPACITY, chat.opening), chat)
    generator = BatchedGenerator(backbone, slots, CAPACITY, chat.opening, chat.end, interval)
    got = run(generator, chat)
    answers = 0
    for index, both in expected.items():
        # A conversation that fills its slot is cut a token earlier or later.
        assert [(x.turn, x.temperature, x.context) for x in got[index]] == [
            (x.turn, x.temperature, x.context) for x in both
        ]
        for ours, theirs in zip(got[index], both, strict=True):
            at_the_end = len(theirs.context) + len(theirs.tokens) >= CAPACITY
            assert ours.tokens == (theirs.tokens[: len(ours.tokens)] if at_the_end else theirs.tokens)
            answers += 1
    endings = [x.tokens[-1] == chat.end for both in expected.values() for x in both]
    turns = [x.turn for both in expected.values() for x in both]
    sampled = [x.temperature > 0 for both in expected.values() for x in both]
    assert any(endings) and not all(endings) and 1 in turns and any(sampled) and not all(sampled)
    assert generator.generated == sum(len(x.tokens) for both in got.values() for x in both) and answers > 40


def test_states_of_finished_texts_equal_those_of_the_steps(model: tuple[Backbone, ChatTokens]) -> None:
    backbone, chat = model
    stepped = [x for both in run(Generator(backbone, 16, CAPACITY, chat.opening), chat).values() for x in both]
    for batch_tokens, rows in ((200, 7), (10000, 4096)):
        filled = [Answer(x.conversation, x.source, x.temperature, x.turn, x.context, x.tokens) for x in stepped]
        fill_states(backbone, filled, batch_tokens, rows)
        for a, b in zip(filled, stepped, strict=True):
            np.testing.assert_allclose(a.hidden, np.stack(b.hidden), atol=4e-3)
            np.testing.assert_allclose(a.top_logprobs, np.stack(b.top_logprobs), atol=6e-3, rtol=2e-3)
            same = (a.top_ids == np.stack(b.top_ids)).mean()
            assert same > 0.97  # two of equal logits may change places
            assert a.hidden.dtype == np.float16 and a.top_ids.dtype == np.int32


def test_a_first_prompt_beyond_the_slots_is_left_out(model: tuple[Backbone, ChatTokens]) -> None:
    backbone, chat = model
    long, short = Conversation(0, "s", "x" * 200, chat, MIX, 0), Conversation(1, "s", "hi", chat, MIX, 0)
    done: list[int] = []
    generator = BatchedGenerator(backbone, 2, CAPACITY, chat.opening, chat.end)
    generator.run(iter([long, short]), lambda c: done.append(c.index))
    assert done == [1]


def test_no_step_waits_for_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of the device "meta" have no values: a step that reads one, or mixes in one of main memory, fails."""
    folder = write_tiny_model(tmp_path)
    chat = load_chat_tokens(folder, "s")
    generator = BatchedGenerator(load_backbone(folder, torch.bfloat16, "meta"), 4, 64, chat.opening, chat.end)
    with torch.inference_mode():
        generator._step()
    assert generator.tokens.is_meta and generator.steps == 1
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 30, 1 << 30))
    batch = Batches(made_rollouts([20]), 3, np.arange(60), 60, soft=0.5, device="meta").batch(0, 16)
    assert all(x.is_meta for x in (batch.hidden, batch.tokens, batch.bias, *batch.per_head[0]))
