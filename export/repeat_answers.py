"""Answers that fall into a loop, made from stored ones: what teaches MEDUSA-2 to look ahead where text repeats itself.

    python export/repeat_answers.py --data DIR --backbone model.gguf --out DIR2 --answers 4000

Greedy text of a small model repeats itself a good deal (repetition.py says how much), and there all of the next tokens
stand in the context. A frozen backbone's state does not hold them: its attention fetches one token, the next. An
adapted one can learn to fetch those after it, but ordinary answers hold too little repeated text to learn that soon.

Each made answer is a stretch of a training answer, preceded by what stood before it and then said over and over. Its
states and best tokens are the backbone's own on that very text, so the targets and the KL of training hold there too.
The shards are those of distil.py, all of the training split; hand them to train_medusa2.py as --repeated.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch

from medusa_export.heads.backbone_torch import load_backbone
from medusa_export.heads.repeated_answers import RepeatMix, repeated_answers
from medusa_export.heads.run_facts import write_distil_record
from medusa_export.heads.shards import load_rollouts, write_shard
from medusa_export.heads.teacher_forcing import fill_states


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    m = RepeatMix()
    p.add_argument("--data", required=True, help="folder of shards (distil.py)")
    p.add_argument("--backbone", required=True, help=".gguf file or HF folder, as given to distil.py")
    p.add_argument("--out", required=True, help="folder for the shards of made answers")
    p.add_argument("--answers", type=int, default=4000, help="how many to make (default %(default)s)")
    p.add_argument("--shortest", type=int, default=m.shortest, help="tokens of a stretch (default %(default)s)")
    p.add_argument("--longest", type=int, default=m.longest, help="tokens of a stretch (default %(default)s)")
    p.add_argument("--before", type=int, default=m.before, help="most tokens kept before it (default %(default)s)")
    p.add_argument("--most", type=int, default=m.most, help="most repeated tokens (default %(default)s)")
    p.add_argument("--shard", type=int, default=500, help="answers per shard (default %(default)s)")
    p.add_argument("--limit-shards", type=int)
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    p.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's default)")
    p.add_argument("--seed", type=int, default=0)
    return p.parse_args(argv)


def make(a: argparse.Namespace) -> None:
    if a.threads:
        torch.set_num_threads(a.threads)
    mix = RepeatMix(a.shortest, a.longest, a.before, a.most)
    out = Path(a.out)
    if (out / "distil.json").exists():  # written last: shards without it are an unfinished run's, to be made again
        raise SystemExit(f"error: --out {out} holds made answers already: name another folder")
    out.mkdir(parents=True, exist_ok=True)
    answers = repeated_answers(load_rollouts(a.data, ("train",), a.limit_shards), mix, a.answers, a.seed)
    backbone = load_backbone(a.backbone, getattr(torch, a.dtype), a.device)
    started, done = time.time(), 0
    for start in range(0, len(answers), a.shard):
        part = answers[start : start + a.shard]
        fill_states(backbone, part, batch_tokens=4096 if a.device == "cpu" else 32768)
        path = out / f"shard-r-{start:07d}.safetensors"
        write_shard(path, part, [x.conversation for x in part], backbone.config.hidden)
        done += sum(len(x.tokens) for x in part)
        print(
            f"{path.name}: {start + len(part)}/{len(answers)} answers, {done} tokens, {time.time() - started:.0f} s",
            flush=True,
        )
    write_distil_record(out, {"arguments": vars(a), "torch": torch.__version__})


if __name__ == "__main__":
    make(parse_arguments())
