"""The default model's real weights: graphs against transformers' own reading of the same GGUF file.

Runs when MEDUSA_PLUS_TEST_GGUF names the file; a wrong name is a failure, not a skip.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medusa_export.export import export_backbone
from medusa_export.split_runner import SplitRunner
from medusa_export.tokenizer_files.from_gguf import tokenizer_from_gguf
from medusa_export.weights import open_source
from medusa_export.weights.gguf_file import GgufSource

pytestmark = pytest.mark.skipif("MEDUSA_PLUS_TEST_GGUF" not in os.environ, reason="MEDUSA_PLUS_TEST_GGUF names no file")
QUESTION = (
    "<|im_start|>user\nName three rivers of Europe and the sea each flows into.<|im_end|>\n<|im_start|>assistant\n"
)
TREE = [-1, 0, 0, 1, 1, 3]


def silent(done: int, total: int) -> None:
    """Progress of no interest."""


@pytest.fixture(scope="module")
def path() -> Path:
    found = Path(os.environ["MEDUSA_PLUS_TEST_GGUF"])
    if not found.is_file():
        pytest.fail(f"MEDUSA_PLUS_TEST_GGUF={found} is no file; name SmolLM2-135M-Instruct.Q4_1.gguf or unset it")
    return found


@pytest.fixture(scope="module")
def folder(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real")
    for name in ("fp32", "int8", "int4"):
        export_backbone(open_source(path), out, name, "split", 0, silent)
    return out


@pytest.fixture(scope="module")
def ids(path: Path) -> list[int]:
    import json

    from tokenizers import Tokenizer

    return list(Tokenizer.from_str(json.dumps(tokenizer_from_gguf(GgufSource(path)).tokenizer)).encode(QUESTION).ids)


@pytest.fixture(scope="module")
def model(path: Path) -> Any:
    """A transformers model with the dequantised weights, rows of q and k put back by this module's own formula."""
    import gguf
    from gguf_files import _gguf_name
    from transformers import LlamaConfig, LlamaForCausalLM

    reader = gguf.GGUFReader(path)
    tensors = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, rope_theta=100000.0, rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).float().eval()
    state = {}
    for name, value in model.state_dict().items():
        found = tensors["token_embd.weight" if name == "lm_head.weight" else _gguf_name(name)]
        if "q_proj" in name or "k_proj" in name:
            found = np.concatenate(
                [np.concatenate([head[0::2], head[1::2]]) for head in np.split(found, len(found) // 64)]
            )
        state[name] = torch.tensor(np.array(found, np.float32)).reshape(value.shape)
    model.load_state_dict(state)
    return model


@torch.inference_mode()
def causal(model: Any, ids: list[int]) -> tuple[Any, Any]:
    out = model(torch.tensor([ids]), output_hidden_states=True)
    return out.hidden_states[-1][0].numpy(), out.logits[0].numpy()


def test_fp32_prefill_step_and_tree(folder: Path, ids: list[int], model: Any) -> None:
    runner = SplitRunner(folder / "backbone.fp32.onnx")
    step = runner.run(np.array(ids), want_logits=True)
    hidden, logits = causal(model, ids)
    np.testing.assert_allclose(step.hidden, hidden, atol=2e-3)
    np.testing.assert_allclose(step.logits, logits, atol=2e-3)
    assert step.next_tokens.tolist() == logits.argmax(-1).tolist()
    runner.append(step)
    tokens = [int(step.next_tokens[-1]), 253, 260, 3575, 1123, 33]
    tree = runner.run(np.array(tokens), parents=TREE)
    for leaf, way in ((5, [0, 1, 3, 5]), (4, [0, 1, 4]), (2, [0, 2])):
        hidden, _ = causal(model, ids + [tokens[i] for i in way])
        np.testing.assert_allclose(tree.hidden[leaf], hidden[-1], atol=2e-3)


@pytest.mark.parametrize(("name", "limit"), [("int8", 0.03), ("int4", 0.02)])
def test_quantised_next_token_distributions(folder: Path, ids: list[int], model: Any, name: str, limit: float) -> None:
    """Mean KL(fp32 || precision) over the prompt; results/ has it over thousands of tokens."""
    _, logits = causal(model, ids)
    step = SplitRunner(folder / f"backbone.{name}.onnx").run(np.array(ids), want_logits=True)
    true, found = (torch.log_softmax(torch.tensor(x, dtype=torch.float64), -1) for x in (logits, step.logits))
    assert float((true.exp() * (true - found)).sum(-1).mean()) < limit


@pytest.mark.parametrize("name", ["int8", "int4", "fp32"])
def test_greedy_steps_equal_tree_rows_to_the_bit(folder: Path, ids: list[int], name: str) -> None:
    runner = SplitRunner(folder / f"backbone.{name}.onnx", capacity=128)
    runner.append(runner.run(np.array(ids)))
    past = runner.length
    plain, token = [], 520
    tokens = [token]
    for _ in range(5):
        step = runner.run(np.array([token]), want_logits=True)
        runner.append(step)
        plain.append(step.logits[0])
        token = int(step.next_tokens[0])
        tokens.append(token)
    runner.length = past
    wide = [t for token in tokens[:5] for t in (token, 77)]  # each true token with a false sibling
    parents = [-1, -1, 0, 0, 2, 2, 4, 4, 6, 6]
    step = runner.run(np.array(wide), parents=parents, want_logits=True)
    for i in range(5):
        np.testing.assert_array_equal(step.logits[2 * i], plain[i])
