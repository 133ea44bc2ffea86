"""The exported graphs against transformers: prefill, single steps, tree rows; both layouts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from conftest import TorchTwin
from medusa_export.export import export_backbone, export_keep
from medusa_export.graph.attention_split import BLOCKS
from medusa_export.measure.split_runner import SplitRunner, ancestors
from medusa_export.weights import open_source
from shared_runner import SharedRunner

PROMPT = [5, 17, 300, 8, 8, 41, 199, 77, 3, 260, 12]
# A tree: node 0 is the root; node i hangs on TREE[i].
TREE = [-1, 0, 0, 1, 1, 2, 3, 6]
TREE_IDS = [9, 30, 31, 32, 33, 34, 35, 36]
TOLERANCE = 2e-4


def path_to(node: int) -> list[int]:
    """The nodes from the root to `node`."""
    return [] if node < 0 else [*path_to(TREE[node]), node]


def silent(done: int, total: int) -> None:
    """Progress of no interest."""


@pytest.fixture(scope="module")
def exported(twin: TorchTwin, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    source = open_source(twin.folder)
    export_backbone(source, folder, "fp32", "split", 0, silent)
    export_backbone(source, folder, "fp32", "shared", 64, silent)
    export_keep(source.config, folder, "fp32", 64)
    return folder


def split(folder: Path) -> SplitRunner:
    return SplitRunner(folder / "backbone.fp32.onnx", capacity=32)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_prefill(twin: TorchTwin, exported: Path) -> None:
    hidden, logits = twin.causal(PROMPT)
    step = split(exported).run(np.array(PROMPT), want_logits=True)
    close(step.hidden, hidden)
    close(step.logits, logits)
    assert step.next_tokens.tolist() == logits.argmax(-1).tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_embeddings_of_sixteen_bits_stay_so(llama: TorchTwin, tmp_path: Path, dtype: torch.dtype) -> None:
    model = copy.deepcopy(llama.model).to(dtype)
    model.save_pretrained(tmp_path / "hf")
    again = type(model).from_pretrained(tmp_path / "hf", dtype=torch.float32).eval()
    twin = TorchTwin(again, tmp_path / "hf")
    entry = export_backbone(open_source(twin.folder), tmp_path, "fp32", "split", 0, silent)
    table = next(each for each in onnx.load(tmp_path / entry["file"]).graph.initializer if each.name == "embed.weight")
    assert table.data_type in (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    step = split(tmp_path).run(np.array(PROMPT), want_logits=True)
    hidden, logits = twin.causal(PROMPT)
    close(step.hidden, hidden)
    close(step.logits, logits)


def test_prefill_in_chunks_and_single_steps(twin: TorchTwin, exported: Path) -> None:
    runner = split(exported)
    for chunk in (PROMPT[:4], PROMPT[4:9], PROMPT[9:]):
        runner.append(runner.run(np.array(chunk)))
    ids = list(PROMPT)
    for token in (7, 300, 7):
        ids.append(token)
        step = runner.run(np.array([token]), want_logits=True)
        runner.append(step)
        hidden, logits = twin.causal(ids)
        close(step.hidden[0], hidden[-1])
        close(step.logits[0], logits[-1])


def test_tree_rows_equal_their_paths_run_causally(twin: TorchTwin, exported: Path) -> None:
    runner = split(exported)
    runner.append(runner.run(np.array(PROMPT)))
    step = runner.run(np.array(TREE_IDS), parents=TREE, want_logits=True)
    for node in range(len(TREE)):
        hidden, logits = twin.causal(PROMPT + [TREE_IDS[i] for i in path_to(node)])
        close(step.hidden[node], hidden[-1])
        close(step.logits[node], logits[-1])


def test_accepted_rows_continue_as_a_plain_run(twin: TorchTwin, exported: Path) -> None:
    runner = split(exported)
    runner.append(runner.run(np.array(PROMPT)))
    accepted = path_to(7)
    runner.append(runner.run(np.array(TREE_IDS), parents=TREE), rows=np.array(accepted))
    step = runner.run(np.array([50]))
    hidden, _ = twin.causal([*PROMPT, *(TREE_IDS[i] for i in accepted), 50])
    close(step.hidden[0], hidden[-1])


def test_output_rows_in_any_order_and_logits_only_on_request(exported: Path) -> None:
    runner = split(exported)
    full = runner.run(np.array(PROMPT), want_logits=True)
    some = runner.run(np.array(PROMPT), rows=np.array([9, 2]))
    assert some.logits.shape == (0, 320)
    close(some.hidden, full.hidden[[9, 2]])
    assert some.next_tokens.tolist() == full.next_tokens[[9, 2]].tolist()


def test_padding_of_the_past_changes_nothing(exported: Path) -> None:
    """The padded columns hold rubbish on purpose: only the mask keeps it out."""
    results = []
    for capacity in (12, 16, 256):
        runner = split(exported)
        runner.reset(capacity)
        runner.past[:] = 1e3
        runner.append(runner.run(np.array(PROMPT)))
        results.append(runner.run(np.array(TREE_IDS), parents=TREE).hidden)
    for other in results[1:]:
        close(other, results[0])


def test_an_empty_past_has_one_column_a_block_at_least(twin: TorchTwin, exported: Path) -> None:
    runner = split(exported)
    runner.reset(BLOCKS)
    close(runner.run(np.array(PROMPT)).hidden, twin.causal(PROMPT)[0])


def test_shared_layout_prefill_steps_and_tree(twin: TorchTwin, exported: Path) -> None:
    runner = SharedRunner(exported)
    first = runner.run(PROMPT)
    hidden, logits = twin.causal(PROMPT)
    close(first.hidden, hidden)
    close(first.logits, logits)
    runner.length = len(PROMPT)
    step = runner.run(TREE_IDS, ancestors(TREE))
    for node in range(len(TREE)):
        hidden, _ = twin.causal(PROMPT + [TREE_IDS[i] for i in path_to(node)])
        close(step.hidden[node], hidden[-1])


def test_shared_layout_keeps_the_accepted_rows(twin: TorchTwin, exported: Path) -> None:
    runner = SharedRunner(exported)
    runner.run(PROMPT)
    runner.length = len(PROMPT)
    runner.run(TREE_IDS, ancestors(TREE))
    accepted = path_to(7)
    runner.keep([runner.length + i for i in accepted], exported)
    runner.length += len(accepted)
    hidden, _ = twin.causal([*PROMPT, *(TREE_IDS[i] for i in accepted), 50])
    close(runner.run([50]).hidden[0], hidden[-1])
