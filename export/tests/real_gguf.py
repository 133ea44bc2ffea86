"""A GGUF model with its real weights against transformers, which reads such files with code of its own.

`python export/tests/real_gguf.py FILE.gguf` (PYTHONPATH as in test/python.ts, plus the package accelerate) prints token
ids, logits and greedy tokens in float32. Token ids may differ where a tokenizer splits digits (SmolLM2): transformers'
reader leaves that out. Not in CI, for such files are large; docs/models.md says what was tried.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from medusa_export.export import export_backbone
from medusa_export.measure.split_runner import SplitRunner
from medusa_export.tokenizer_files import write_tokenizer
from medusa_export.weights import open_source

TEXT = Path(__file__).resolve().parents[2] / "docs" / "how-it-works.md"
TOKENS, GREEDY = 1400, 48  # more than Gemma's windows of 512


def compare(path: Path, folder: Path) -> None:
    source = open_source(path)
    write_tokenizer(source, folder)
    export_backbone(source, folder, "fp32", "split", 0, lambda *_: None)
    ours = SplitRunner(folder / "backbone.fp32.onnx", capacity=2048)
    theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()

    text = TEXT.read_text(encoding="utf-8")
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    expected = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).encode(text)
    print(f"{source.config.family}, {source.quantization}: ids of {len(ids)} tokens equal: {ids == expected}")

    ids = ids[:TOKENS]
    got = ours.run(np.asarray(ids), want_logits=True).logits
    with torch.no_grad():
        wanted = theirs(torch.tensor([ids])).logits[0].numpy()
        prompt = torch.tensor([ids[:600]])
        greedy = theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=GREEDY,
            min_new_tokens=GREEDY,
            do_sample=False,
        )
    worst = np.max(np.abs(got - wanted) / (1 + np.abs(wanted)))
    best = np.mean(got.argmax(1) == wanted.argmax(1))
    print(f"logits of {len(ids)} tokens within {worst:.1e}; best token equal: {best:.4f}")

    ours.reset()
    fed, written = ids[:600], []
    for _ in range(GREEDY):
        step = ours.run(np.asarray(fed))
        ours.append(step)
        fed = [int(step.next_tokens[-1])]
        written += fed
    same = sum(a == b for a, b in zip(written, greedy[0, 600:].tolist(), strict=True))
    print(f"greedy tokens equal: {same} of {GREEDY}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        compare(Path(sys.argv[1]), Path(name))
