"""Writes a tiny model folder with random weights: the fixture of the TypeScript tests. `python export/tests/tiny.py`.

Untrained weights give heads nothing to predict, so these are drawn with a structure: the LM head looks for the
embedding of the successor of the current token (a fixed permutation), the layers disturb it, and head k looks k + 2
successors ahead. So greedy text has variety, depends on the context, and the heads are right about half of the time.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from medusa_export.export import export_backbone, export_heads, export_keep
from medusa_export.manifest import NAME, dump, model_section, new_manifest, put, set_defaults
from medusa_export.tokenizer_files.byte_level import CONTROL, byte_alphabet, byte_level_tokenizer
from medusa_export.tokenizer_files.facts import TokenizerFacts, TokenizerFiles
from medusa_export.tokenizer_files.write import write_tokenizer_files
from medusa_export.weights import ModelConfig, WeightTensor
from medusa_export.weights.heads_checkpoint import HeadMatrix, HeadsCheckpoint
from medusa_export.weights.source import Array

VOCAB, DRAFT, HEADS, CAPACITY = 512, 256, 4, 512
CONFIG = ModelConfig(
    family="llama", layers=2, hidden_size=64, query_heads=4, kv_heads=2, head_dim=16, intermediate_size=128,
    vocab_size=VOCAB, context_length=512, rope_theta=10000.0, rms_norm_eps=1e-5, tied_embeddings=False,
)  # fmt: skip
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>'"
    " + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
WORDS = (
    "the of and to in is that for it was on are as with his they at be this from have or by one had not but what all "
    "were when we there can an your which their said if do will each about how up out them then she many some so "
    "these would other into has more her two like him see time could no make than first been its who now people my "
    "made over did down only way find use may water long little very after words called just where most know user "
    "assistant system write story hello world question answer please example number mountain river morning evening "
    "because through before another between country school never started city earth light thought under last father "
    "keep tree start might something always next hard open together white children begin got walk paper group music "
    "those both mark book letter until mile feet care second enough plain girl usual young ready above ever red list"
)


class TinySource:
    """Seeded random weights as a `WeightSource`."""

    kind, quantization, path = "random", "F32", Path("tiny")

    def __init__(self, seed: int = 20240817, noise: float = 0.35) -> None:
        self.config = CONFIG
        random = np.random.default_rng(seed)
        self.successor = _successors(random)
        embedding = random.standard_normal((VOCAB, CONFIG.hidden_size)).astype(np.float32)
        self._arrays: dict[str, Array] = {}
        for name, shape in CONFIG.tensor_shapes().items():
            if len(shape) == 1:
                values = 1 + 0.1 * random.standard_normal(shape)
            else:
                gain = noise if name.endswith(("o.weight", "down.weight")) else 1
                values = gain * random.standard_normal(shape) / np.sqrt(shape[1])
            self._arrays[name] = values.astype(np.float32)
        self._arrays["embed.weight"] = embedding
        self._arrays["lm_head.weight"] = self.rows_ahead(1)

    def rows_ahead(self, steps: int) -> Array:
        """[V, H]: row t is the direction of the token from which `steps` successors lead to t."""
        origin = np.arange(VOCAB)
        for _ in range(steps):
            origin = np.argsort(self.successor)[origin]
        return self._arrays["embed.weight"][origin] * np.float32(0.25)

    def tensor(self, name: str) -> WeightTensor:
        values = self._arrays[name]
        return WeightTensor(name, name, values.shape, "F32", lambda: values)


def _successors(random: np.random.Generator) -> Array:
    """One cycle through all tokens, so that no text repeats early."""
    order = random.permutation(VOCAB)
    successor = np.empty(VOCAB, np.int64)
    successor[order] = np.roll(order, -1)
    return successor


def tiny_heads(source: TinySource, name: str = "tiny", reads_token: bool = False) -> HeadsCheckpoint:
    """Heads over half of the vocabulary with small random blocks; accuracies are made up, but fall as real ones do.
    With `reads_token` the blocks read the chosen token too, with weights large enough to change the proposals.
    """
    random, size = np.random.default_rng(7), CONFIG.hidden_size
    token_map = np.sort(random.permutation(VOCAB)[:DRAFT]).astype(np.int32)
    blocks = [
        [((0.05 * random.standard_normal((size, size))).astype(np.float32), np.zeros(size, np.float32))]
        for _ in range(HEADS)
    ]
    outputs = [HeadMatrix(source.rows_ahead(k + 2)[token_map], None) for k in range(HEADS)]
    accuracies = [[round(0.5 * 0.8**k * 0.6**r, 6) for r in range(64)] for k in range(HEADS)]
    temperatures, digest = [1.0, 1.1, 1.2, 1.3], "0" * 64
    heads = HeadsCheckpoint(name, blocks, outputs, token_map, temperatures, accuracies, digest, "tiny", None)
    if not reads_token:
        return heads
    weights = [(0.1 * random.standard_normal((size, size))).astype(np.float32) for _ in range(HEADS)]
    return replace(heads, token_weights=weights, embedding=source.tensor("embed.weight"))


def tiny_tokenizer(vocab: int = VOCAB) -> TokenizerFiles:
    """Byte-level BPE: 3 control tokens, 256 bytes, and merges learnt from a few common words."""
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = byte_alphabet()
    merges = learn_merges(vocab - len(control) - len(alphabet))
    tokens = control + alphabet + [left + right for left, right in merges]
    types = [CONTROL] * len(control) + [1] * (len(tokens) - len(control))
    document = byte_level_tokenizer(tokens, types, [f"{a} {b}" for a, b in merges], "smollm")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False, "add_bos_token": False,
        "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>",
        "pad_token": "<|im_end|>", "model_max_length": CONFIG.context_length,
        "clean_up_tokenization_spaces": False, "chat_template": TEMPLATE,
    }  # fmt: skip
    return TokenizerFiles(document, config, TokenizerFacts(1, [2], False))


def learn_merges(count: int) -> list[tuple[str, str]]:
    """Plain BPE training on WORDS, most frequent pair first, ties by text order."""
    words = [["Ġ", *word] for word in WORDS.split()]
    merges: list[tuple[str, str]] = []
    made: set[str] = set()
    while len(merges) < count:
        pairs: dict[tuple[str, str], int] = {}
        for word in words:
            for pair in itertools.pairwise(word):
                if "".join(pair) not in made:
                    pairs[pair] = pairs.get(pair, 0) + 1
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        made.add("".join(best))
        words = [_apply(word, best) for word in words]
    return merges


def _apply(word: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for piece in word:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def write_tiny(folder: Path, reads_token: bool = False) -> None:
    """All graphs of the fixture: split and shared fp32, split int8, keep, heads in fp32 and int8."""
    folder.mkdir(parents=True, exist_ok=True)
    source, tokenizer = TinySource(), tiny_tokenizer()
    write_tokenizer_files(tokenizer, folder)
    origin = {"kind": "random", "name": "tiny", "sha256": "0" * 64, "quantization": "F32"}
    manifest = new_manifest(model_section(CONFIG, "tiny"), tokenizer.facts, folder, origin)

    def silent(done: int, total: int) -> None:
        """The fixture takes a moment only."""

    for precision, layout in (("int8", "split"), ("fp32", "split"), ("fp32", "shared")):
        put(manifest, "backbones", export_backbone(source, folder, precision, layout, CAPACITY, silent))
    put(manifest, "keep", export_keep(CONFIG, folder, "fp32", CAPACITY))
    for precision in ("int8", "fp32"):
        put(manifest, "heads", export_heads(tiny_heads(source, reads_token=reads_token), folder, precision))
    set_defaults(manifest)
    (folder / NAME).write_text(dump(manifest), encoding="utf-8")


def write_tiny_half(folder: Path) -> None:
    """The graphs of the same weights that a CUDA device runs: float16, layout "shared"; no manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    source = TinySource()
    export_backbone(source, folder, "fp16", "shared", CAPACITY, lambda done, total: None)
    export_keep(CONFIG, folder, "fp16", CAPACITY)
    export_heads(tiny_heads(source), folder, "fp16")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the tiny random model that the tests use.")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--reads-token", action="store_true", help="heads that read the chosen token")
    parser.add_argument("--half", action="store_true", help="only the float16 graphs (test/fixtures/tiny16)")
    args = parser.parse_args()
    folder = args.output
    if args.half:
        write_tiny_half(folder)
    else:
        write_tiny(folder, args.reads_token)
    print(json.dumps({"stage": "done", "folder": str(folder)}))


if __name__ == "__main__":
    main()
