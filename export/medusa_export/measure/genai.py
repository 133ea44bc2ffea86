"""onnxruntime-genai for scripts/peers.ts: builds its models of a GGUF file's weights, and answers prompts with them.

    python genai.py build FILE.gguf FOLDER         # FOLDER/int8 and FOLDER/int4, by its own builder, with its defaults
    python genai.py answer THREADS FOLDER...       # requests and replies are lines of JSON

Runs by itself, in a virtual environment of its own: onnxruntime-genai is no package of this project.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Its drafts are the last tokens before the same n - 1 tokens. As its page on speculative decoding shows.
DRAFTS = {"ngram_size": 4, "max_draft_tokens": 8, "ngram_chained_lookup": True, "min_adaptive_k": 2, "cooldown": False}


def build(file: Path, folder: Path) -> None:
    """Writes the weights in float32 for its builder, and runs that once for each precision."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as weights:
        source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
        read = AutoModelForCausalLM.from_pretrained(**source, dtype="float32")
        # What came from a GGUF file counts as quantised, and is not saved: its weights go into a model that does not.
        del read.config.quantization_config
        model = AutoModelForCausalLM.from_config(read.config, dtype="float32")
        model.load_state_dict(read.state_dict())
        model.save_pretrained(weights)
        AutoTokenizer.from_pretrained(**source).save_pretrained(weights)
        for precision in ("int8", "int4"):
            builder = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", weights, "-e", "cpu"]
            output = ["-p", precision, "-o", str(folder / precision), "-c", weights]
            subprocess.run([*builder, *output, "--extra_options", "hf_token=false"], check=True)


class Peer:
    """One model of onnxruntime-genai."""

    def __init__(self, folder: str, threads: int) -> None:
        import onnxruntime_genai as genai

        self._genai = genai
        config = genai.Config(folder)
        session = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
        self._model = genai.Model(config)

    def _begin(self, ids: list[int], most: int, drafts: bool) -> Any:
        params = self._genai.GeneratorParams(self._model)
        params.set_search_options(do_sample=False, max_length=len(ids) + most)
        if drafts:
            params.set_speculative_options(**DRAFTS)
        generator = self._genai.Generator(self._model, params)
        generator.append_tokens(ids)
        return generator

    def answer(self, ids: list[int], tokens: int, drafts: bool) -> list[int]:
        """At most `tokens` greedy tokens after `ids`, from an empty cache."""
        generator = self._begin(ids, tokens, drafts)
        while not generator.is_done():
            generator.generate_next_token()
        return generator.get_sequence(0)[len(ids) :].tolist()

    def best(self, prompt: list[int], answer: list[int]) -> list[int]:
        """What it would write after the prompt and after each token of the answer but the last."""
        generator = self._begin([*prompt, *answer[:-1]], 1, False)
        logits = generator.get_output("logits")[0]  # [n, V]
        return logits[len(prompt) - 1 :].argmax(-1).tolist()


def answer(threads: int, folders: list[str]) -> None:
    """Replies to each request of standard input on standard output, the versions first."""
    names = ("onnxruntime-genai", "onnxruntime")
    print(json.dumps({"versions": {name: version(name) for name in names}, "drafts": DRAFTS}), flush=True)
    peers = [Peer(folder, threads) for folder in folders]
    for line in sys.stdin:
        request = json.loads(line)
        peer = peers[request["model"]]
        if "answer" in request:
            ids = peer.best(request["prompt"], request["answer"])
        else:
            ids = peer.answer(request["prompt"], request["tokens"], request["drafts"])
        print(json.dumps(ids), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "build":
        build(Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve())
    else:
        answer(int(sys.argv[2]), sys.argv[3:])
