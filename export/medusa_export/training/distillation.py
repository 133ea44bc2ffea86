"""The run of `distil`: a plan of conversations, answered and written to shards."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from ..errors import ExportError
from ..weights.adapter import Adapter, read_adapter_of
from ..weights.hashing import sha256_of
from .backbone import load_backbone
from .batched_generation import BatchedGenerator
from .chat_tokens import load_chat_tokens
from .conversations import Conversation, PromptPool
from .generation import Generator
from .machine import set_up
from .recipes import Mix
from .run_facts import check_made_with, distil_record, write_distil_record
from .shards import finished_conversations, write_shard
from .teacher_forcing import fill_states


def distil(a: argparse.Namespace) -> None:
    """Answer what is left of the plan; see commands/distil.py for the options."""
    set_up(a)
    torch.set_float32_matmul_precision("high")  # TF32 for fp32 products on CUDA; nothing changes on a CPU
    pool, out = PromptPool(a.prompts, a.seed), Path(a.out)
    adapter = read_adapter_of(a.adapter, a.backbone) if a.adapter else None
    check_made_with(out, adapter.sha256 if adapter else None, f"--out {out}")
    out.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone(a.backbone, getattr(torch, a.dtype), a.device, adapter)
    chat = load_chat_tokens(a.backbone, a.system, a.template)
    if not chat.writes_questions and (a.magpie or a.second_turns):
        raise ExportError(f"--template {a.template} cannot let the model write questions: --magpie 0 --second-turns 0")
    mix = Mix(
        magpie_share=a.magpie,
        greedy_share=a.greedy,
        sample_temperature=a.temperature,
        second_turn_share=a.second_turns,
        max_answer=a.max_answer,
    )
    plan = pool.plan(a.conversations, mix, a.seed)
    done = finished_conversations(out)
    mine = [i for i in range(a.first, a.conversations) if i % a.workers == a.worker and i not in done]
    _describe(out, a, mix, adapter)
    capacity = len(chat.question_prompt()) + mix.max_prompt + 2 * mix.max_answer + mix.max_question + 32
    capacity = -(-capacity // 64) * 64  # fused attention wants rows of the mask aligned
    slots, kind = min(a.slots, max(1, len(mine))), a.generator or ("step" if a.device == "cpu" else "batched")
    if kind == "step":
        generator = Generator(backbone, slots, capacity, chat.opening)
    else:
        generator = BatchedGenerator(backbone, slots, capacity, chat.opening, chat.end)
    writer = ShardWriter(out, a.worker, a.shard, generator, len(mine))
    deadline = time.time() + a.minutes * 60 if a.minutes else float("inf")

    def queue() -> Iterator[Conversation]:
        for index in mine:
            if time.time() > deadline:
                return
            source, prompt = plan[index]
            if prompt and len(chat.encode(prompt)) > mix.max_prompt:
                continue
            yield Conversation(index, source, prompt, chat, mix, a.seed)

    # Ctrl-C or a kill ends the run between two steps; what is finished is kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        generator.run(queue(), writer.add)
    except KeyboardInterrupt:
        print("stopped", flush=True)
    writer.flush()


class ShardWriter:
    """Collects finished conversations and writes a shard whenever enough are there."""

    def __init__(
        self, out: Path, worker: int, per_shard: int, generator: Generator | BatchedGenerator, total: int
    ) -> None:
        self.out, self.worker, self.per_shard = out, worker, per_shard
        self.generator, self.total, self.started, self.count = generator, total, time.time(), 0
        self.pending: list[Conversation] = []

    def add(self, conversation: Conversation) -> None:
        self.pending.append(conversation)
        if len(self.pending) >= self.per_shard:
            self.flush()

    def flush(self) -> None:
        if not self.pending:
            return
        # Named by its smallest conversation: unique, because a conversation is finished once.
        indices = sorted(c.index for c in self.pending)
        answers = [x for c in self.pending for x in c.answers if x.tokens]
        fill_states(self.generator.backbone, [x for x in answers if not len(x.hidden)])
        path = self.out / f"shard-w{self.worker}-{indices[0]:07d}.safetensors"
        write_shard(path, answers, indices, self.generator.backbone.config.hidden_size)
        self.count += len(self.pending)
        self.pending = []
        seconds, g = time.time() - self.started, self.generator
        print(
            f"{path.name}: {self.count}/{self.total} conversations, {g.generated} tokens, {g.steps} steps, "
            f"{seconds:.0f} s, {g.generated / seconds:.0f} tokens/s",
            flush=True,
        )


def _describe(out: Path, a: argparse.Namespace, mix: Mix, adapter: Adapter | None) -> None:
    """Record how the data came about, once."""
    if distil_record(out) is not None or a.worker != 0:
        return
    sha = sha256_of(Path(a.backbone)) if Path(a.backbone).is_file() else None
    record = {"arguments": vars(a), "mix": vars(mix), "backbone_sha256": sha, "torch": torch.__version__}
    record |= {} if adapter is None else {"adapter_sha256": adapter.sha256}
    write_distil_record(out, record)
