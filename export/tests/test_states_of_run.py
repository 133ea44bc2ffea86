"""States of a bench run: those of the graph however its rows are grouped, with foreign tokens found."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import states_of_run
from medusa_export.split_runner import SplitRunner
from states_of_run import find_graph

TINY = Path(__file__).resolve().parents[2] / "test/fixtures/tiny"
PROMPTS = [[1, 5, 9, 30], [7]]


def greedy(runner: SplitRunner, prompt: list[int], count: int) -> tuple[list[int], list[np.ndarray]]:
    """Token by token: the answer and the state behind each of its tokens."""
    runner.reset()
    tokens, states, rows = [], [], prompt
    for _ in range(count):
        step = runner.run(rows, want_logits=True)
        runner.append(step)
        tokens.append(int(step.logits[-1].argmax()))
        states.append(step.hidden[-1])
        rows = tokens[-1:]
    return tokens, states


def write_run(folder: Path, answers: list[list[int]], temperature: float = 0) -> None:
    folder.mkdir()
    turns = [{"prompt_token_ids": prompt, "token_ids": tokens} for prompt, tokens in zip(PROMPTS, answers, strict=True)]
    record = {"question_id": 81, "category": "math", "repeats": [{"temperature": temperature, "turns": turns}]}
    (folder / "records.jsonl").write_text(json.dumps(record) + "\n")
    info = {"model": {"precision": "int8", "backbone_sha256": find_graph(TINY, "int8")[1]}}
    (folder / "run.json").write_text(json.dumps(info))


def arguments(tmp_path: Path) -> list[str]:
    return ["--run", str(tmp_path / "run"), "--model", str(TINY), "--out", str(tmp_path / "out"), "--rows", "3"]


@pytest.fixture(scope="module")
def runner() -> SplitRunner:
    return SplitRunner(find_graph(TINY, "int8")[0])


def test_states_are_those_of_decoding_token_by_token(tmp_path: Path, runner: SplitRunner) -> None:
    found = [greedy(runner, prompt, 10) for prompt in PROMPTS]
    write_run(tmp_path / "run", [tokens for tokens, _ in found])
    states_of_run.main(states_of_run.parse_arguments(arguments(tmp_path)))
    shard = load_file(tmp_path / "out/shard-run.safetensors")
    expected = np.stack([row for _, states in found for row in states]).astype(np.float16)
    np.testing.assert_array_equal(shard["hidden"], expected)
    np.testing.assert_array_equal(shard["tokens"], [token for tokens, _ in found for token in tokens])
    np.testing.assert_array_equal(shard["top_ids"][:, 0], shard["tokens"])
    assert shard["offsets"].tolist() == [0, 10, 20] and shard["turn"].tolist() == [0, 1]
    assert (shard["top_logprobs"][:, 0] <= 0).all() and (np.diff(shard["top_logprobs"], axis=1) <= 0).all()


def test_a_token_the_graph_would_not_choose_is_counted(
    tmp_path: Path, runner: SplitRunner, capsys: pytest.CaptureFixture
) -> None:
    answers = [greedy(runner, prompt, 6)[0] for prompt in PROMPTS]
    answers[1][5] = (answers[1][5] + 1) % 64
    write_run(tmp_path / "run", answers)
    with pytest.raises(SystemExit) as stop:
        states_of_run.main(states_of_run.parse_arguments(arguments(tmp_path)))
    assert stop.value.code == 1
    assert "12 tokens; 1 are not the graph's own choice" in capsys.readouterr().out


def test_refusals_name_the_matter(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [[5], [6]], temperature=0.7)
    with pytest.raises(SystemExit, match="question 81 was sampled"):
        states_of_run.main(states_of_run.parse_arguments(arguments(tmp_path)))
    info = {"model": {"precision": "int8", "backbone_sha256": "another"}}
    (tmp_path / "run/run.json").write_text(json.dumps(info))
    with pytest.raises(SystemExit, match="another graph"):
        states_of_run.main(states_of_run.parse_arguments(arguments(tmp_path)))
    with pytest.raises(SystemExit, match="no CPU graph of precision fp16"):
        find_graph(TINY, "fp16")
