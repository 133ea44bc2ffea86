"""Self-distillation: the backbone answers prompts; its states and tokens go to shards that heads train on.

    python export/distil.py --backbone model.gguf --prompts train_prompts.jsonl --out DIR --conversations 20000

Resumable: shards are written atomically and a rerun continues after them. Several workers (--worker i --workers n)
share one folder and one plan; on a small machine one single-threaded worker per core is fastest.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch

from medusa_export.heads.backbone_torch import Backbone
from medusa_export.heads.batched_generation import BatchedGenerator
from medusa_export.heads.chat_tokens import TEMPLATES, ChatTokens, load_chat_tokens
from medusa_export.heads.conversations import Answer, Conversation, Mix, PromptPool
from medusa_export.heads.generation import Generator
from medusa_export.heads.lora import merged_backbone
from medusa_export.heads.run_facts import check_made_with, distil_record, write_distil_record
from medusa_export.heads.shards import finished_conversations, write_shard
from medusa_export.heads.teacher_forcing import fill_states
from medusa_export.weights.adapter import Adapter, read_adapter_of
from medusa_export.weights.hashing import sha256_of

Completion = Callable[[list[Answer]], None]


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--backbone", required=True, help=".gguf file or HF folder; the weights inference will use")
    p.add_argument("--adapter", help="MEDUSA-2 adapter: the answers of the merged model, with its states")
    p.add_argument("--prompts", help="JSONL with {source, prompt}; without it the model writes every question")
    p.add_argument("--out", required=True, help="folder for the shards")
    p.add_argument("--template", choices=TEMPLATES, default="chatml")
    p.add_argument("--system", help="system prompt (default: the chat template's)")
    p.add_argument("--conversations", type=int, default=20000, help="size of the plan (default %(default)s)")
    p.add_argument(
        "--first",
        type=int,
        default=0,
        help="leave out the plan's conversations before this one: an adapter's answers to prompts of its own training "
        "are no new text to its heads (default %(default)s)",
    )
    p.add_argument("--slots", type=int, default=96, help="conversations generated at once (default %(default)s)")
    p.add_argument("--shard", type=int, default=100, help="conversations per shard (default %(default)s)")
    p.add_argument("--max-answer", type=int, default=256, help="tokens per answer (default %(default)s)")
    p.add_argument("--magpie", type=float, default=0.45, help="share of questions written by the model")
    p.add_argument("--greedy", type=float, default=0.7, help="share of greedy answers")
    p.add_argument("--temperature", type=float, default=0.7, help="temperature of the other answers")
    p.add_argument("--second-turns", type=float, default=0.25, help="share of conversations with a second turn")
    p.add_argument("--worker", type=int, default=0)
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--minutes", type=float, default=0, help="stop after this long (0: run to the end)")
    p.add_argument(
        "--generator",
        choices=["step", "batched"],
        help="step: states as they are decoded (default on a CPU); batched: tokens first, with everything on the "
        "device, then states in one pass per batch (default on CUDA)",
    )
    p.add_argument(
        "--states-dtype",
        choices=["float32", "bfloat16"],
        default="float32",
        help="with the batched generator: precision of the states' pass (default %(default)s, TF32 on CUDA)",
    )
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    p.add_argument("--threads", type=int, default=1, help="CPU threads (default %(default)s)")
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args(argv)
    if not 0 <= a.first < a.conversations:
        p.error(f"--first {a.first}: must be 0 to {a.conversations - 1}, a conversation of the plan (--conversations)")
    return a


def distil(a: argparse.Namespace) -> None:
    torch.set_num_threads(a.threads)
    torch.set_float32_matmul_precision("high")  # TF32 for fp32 products on CUDA; nothing changes on a CPU
    out = Path(a.out)
    out.mkdir(parents=True, exist_ok=True)
    adapter = read_adapter_of(a.adapter, a.backbone) if a.adapter else None
    check_made_with(out, adapter.sha256 if adapter else None, f"--out {out}")
    backbone = merged_backbone(a.backbone, adapter, getattr(torch, a.dtype), a.device)
    chat = load_chat_tokens(a.backbone, a.system, a.template)
    if not chat.writes_questions and (a.magpie or a.second_turns):
        raise ValueError(f"--template {a.template} cannot let the model write questions: --magpie 0 --second-turns 0")
    mix = Mix(
        magpie_share=a.magpie,
        greedy_share=a.greedy,
        sample_temperature=a.temperature,
        second_turn_share=a.second_turns,
        max_answer=a.max_answer,
    )
    plan = PromptPool(a.prompts, a.seed).plan(a.conversations, mix, a.seed)
    done = finished_conversations(out)
    mine = [i for i in range(a.first, a.conversations) if i % a.workers == a.worker and i not in done]
    _describe(out, a, mix, adapter)
    capacity = len(chat.question_prompt()) + mix.max_prompt + 2 * mix.max_answer + mix.max_question + 32
    capacity = -(-capacity // 64) * 64  # fused attention wants rows of the mask aligned
    slots = min(a.slots, max(1, len(mine)))
    generator, complete = _generator(a, backbone, slots, capacity, chat, adapter)
    writer = ShardWriter(out, a.worker, a.shard, backbone.config.hidden, generator, len(mine), complete)
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


def _generator(
    a: argparse.Namespace,
    backbone: Backbone,
    slots: int,
    capacity: int,
    chat: ChatTokens,
    adapter: Adapter | None,
) -> tuple[Generator | BatchedGenerator, Completion]:
    """The generator, and what gives its finished answers their states."""
    if (a.generator or ("step" if a.device == "cpu" else "batched")) == "step":
        return Generator(backbone, slots, capacity, chat.opening), lambda answers: None
    same = a.states_dtype == a.dtype
    reader = backbone if same else merged_backbone(a.backbone, adapter, getattr(torch, a.states_dtype), a.device)
    generator = BatchedGenerator(backbone, slots, capacity, chat.opening, chat.end)
    return generator, lambda answers: fill_states(reader, answers)


class ShardWriter:
    """Collects finished conversations and writes a shard whenever enough are there."""

    def __init__(
        self,
        out: Path,
        worker: int,
        per_shard: int,
        hidden: int,
        generator: Generator | BatchedGenerator,
        total: int,
        complete: Completion,
    ) -> None:
        """`complete` is called with the answers of a shard before they are written."""
        self.out, self.worker, self.per_shard, self.hidden = out, worker, per_shard, hidden
        self.complete = complete
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
        path = self.out / f"shard-w{self.worker}-{indices[0]:07d}.safetensors"
        self.complete(answers)
        write_shard(path, answers, indices, self.hidden)
        self.count += len(self.pending)
        self.pending = []
        seconds, g = time.time() - self.started, self.generator
        rate = g.generated / seconds
        print(
            f"{path.name}: {self.count}/{self.total} conversations, {g.generated} tokens, {g.steps} steps, "
            f"{seconds:.0f} s, {rate:.0f} tokens/s",
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


if __name__ == "__main__":
    distil(parse_arguments())
