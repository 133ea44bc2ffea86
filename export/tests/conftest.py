"""Shared fixtures: tiny random Hugging Face models, saved as folders, with their torch twins."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from medusa_export.__main__ import parse

torch.set_num_threads(1)
SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
LONG = SIZES | {"max_position_embeddings": 1024}
GEMMA = LONG | {"num_key_value_heads": 1, "initializer_range": 0.1, "head_dim": 32}
# Of the 8 frequencies of a head, 2 turn too fast to be scaled, 1 lies in between, 5 are divided by the factor.
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 256}
# Its original context is as long as these tests' texts: beyond it, it is another model.
PHI = {key: value for key, value in LONG.items() if key != "num_key_value_heads"} | {
    "max_position_embeddings": 4096, "original_max_position_embeddings": 1024, "initializer_range": 0.15,
    "pad_token_id": None,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def longrope(pairs: int) -> dict[str, Any]:
    return {
        "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 1024,
        "short_factor": [1 + 0.1 * i for i in range(pairs)], "long_factor": [4.0] * pairs,
    }  # fmt: skip


FAMILIES: dict[str, Callable[[], torch.nn.Module]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=False)),
    "llama-tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True, rope_theta=100000.0)),
    "llama3": lambda: LlamaForCausalLM(LlamaConfig(**LONG, tie_word_embeddings=True, rope_parameters=dict(LLAMA3))),
    "llama-linear": lambda: LlamaForCausalLM(
        LlamaConfig(**LONG, tie_word_embeddings=False, rope_parameters=dict(LINEAR))
    ),
    # Vicuna 7B has as many key-value heads as query heads: one row of attention a head.
    "vicuna": lambda: LlamaForCausalLM(LlamaConfig(**(SIZES | {"num_key_value_heads": 4}), tie_word_embeddings=False)),
    "mistral": lambda: MistralForCausalLM(
        MistralConfig(**SIZES, head_dim=32, sliding_window=None, tie_word_embeddings=False)
    ),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True, rms_norm_eps=1e-6)),
    "llama-yarn": lambda: LlamaForCausalLM(LlamaConfig(**LONG, tie_word_embeddings=False, rope_parameters=dict(YARN))),
    # As in Mistral 7B v0.1, but for the window's size.
    "mistral-window": lambda: MistralForCausalLM(
        MistralConfig(**LONG, head_dim=32, sliding_window=100, tie_word_embeddings=False)
    ),
    "qwen2-window": lambda: Qwen2ForCausalLM(
        Qwen2Config(**LONG, tie_word_embeddings=True, use_sliding_window=True, sliding_window=64, max_window_layers=1)
    ),
    # Phi-3.5-mini and Phi-4-mini: joined matrices, longrope; the latter tied, with groups, a part of each head rotated.
    "phi3.5": lambda: Phi3ForCausalLM(
        Phi3Config(**PHI, num_key_value_heads=4, tie_word_embeddings=False, rope_parameters=longrope(8))
    ),
    "phi4": lambda: Phi3ForCausalLM(
        Phi3Config(
            **PHI,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            sliding_window=120,
            rope_parameters=longrope(6) | {"partial_rotary_factor": 0.75},
        )
    ),
    # As Gemma 3 270m and 1b: the heads together are wider than the hidden state, and every sixth layer sees all.
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(
            **(GEMMA | {"num_hidden_layers": 7}),
            sliding_window=100,
            query_pre_attn_scalar=32,
            pad_token_id=None,
            bos_token_id=1,
            eos_token_id=2,
        )
    ),
    # As the larger ones: scores scaled by another number than the head size, positions of some layers scaled.
    "gemma3-scaled": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(
            **(GEMMA | {"num_hidden_layers": 3}),
            sliding_window=100,
            layer_types=["sliding_attention", "sliding_attention", "full_attention"],
            query_pre_attn_scalar=64,
            pad_token_id=None,
            bos_token_id=1,
            eos_token_id=2,
            rope_parameters={
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        )
    ),
    # As in Qwen3-0.6B, the heads together are wider than the hidden state.
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**LONG, head_dim=32, tie_word_embeddings=True)),
}


def command(*words: object) -> Any:
    """Runs `python -m medusa_export WORDS`, less its handling of errors, and gives back what the command returns."""
    module, args = parse([str(word) for word in words])
    return module.run(args)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skipped test is no test."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter.stats.get("skipped"):
        reporter.write_line("tests were skipped, which counts as a failure")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def default_weights() -> Path:
    """The default model's .gguf file."""
    path = Path(os.environ.get("MEDUSA_PLUS_TEST_GGUF", ""))
    if not path.is_file():
        pytest.fail("MEDUSA_PLUS_TEST_GGUF must name SmolLM2-135M-Instruct.Q4_1.gguf; npm run test:python sets it")
    return path


@dataclass(frozen=True)
class TorchTwin:
    """A torch model and the folder it was saved to."""

    model: torch.nn.Module
    folder: Path

    @torch.inference_mode()
    def causal(self, ids: list[int]) -> tuple[Any, Any]:
        """Hidden [n, H] after the final norm and logits [n, V] of a plain causal run."""
        out = self.model(torch.tensor([ids]), output_hidden_states=True)
        return out.hidden_states[-1][0].numpy(), out.logits[0].numpy()


def make_twin(family: str, folder: Path, **save: Any) -> TorchTwin:
    torch.manual_seed(11)
    model = FAMILIES[family]().float().eval()
    with torch.no_grad():  # biases start at zero and gains at one, which would hide a forgotten one
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.5)
            if name.endswith(("q_norm.weight", "k_norm.weight", "layernorm.weight")) and "gemma3" in family:
                parameter.uniform_(-0.5, 1)
            elif name.endswith(("q_norm.weight", "k_norm.weight")):
                parameter.uniform_(0.5, 2)
    model.save_pretrained(folder, **save)
    return TorchTwin(model, folder)


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def twin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TorchTwin:
    return make_twin(request.param, tmp_path_factory.mktemp("hf") / request.param)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> TorchTwin:
    return make_twin("llama", tmp_path_factory.mktemp("hf") / "llama")
