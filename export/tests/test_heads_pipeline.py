"""distil -> train -> checkpoint -> evaluate on a tiny random backbone, and what must survive an interruption."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import command
from heads_tiny import write_tiny_model
from medusa_export.errors import ExportError
from medusa_export.graph.heads import build_heads
from medusa_export.measure.session import open_session
from medusa_export.training.calibration import propose
from medusa_export.training.checkpoint import load_heads
from medusa_export.training.conditional_data import load_text
from medusa_export.training.shards import finished_conversations, load_rollouts
from medusa_export.weights import open_source
from medusa_export.weights.heads_file import read_own_heads

# A random backbone falls into the same few loops whatever it is asked, so every answer repeats another.
LOOPS = ("--max-overlap", "1")


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(model folder, shard folder)."""
    root = tmp_path_factory.mktemp("heads")
    model, data = write_tiny_model(root / "model"), root / "data"
    prompts = root / "prompts.jsonl"
    rows = [{"source": "abc"[i % 3], "prompt": f"Say {i}."} for i in range(150)]
    prompts.write_text("".join(json.dumps(r) + "\n" for r in rows))
    command("distil", *distil_arguments(model, data, prompts))
    return model, data


def distil_arguments(model: Path, data: Path, prompts: Path) -> list[str]:
    text = f"--backbone {model} --prompts {prompts} --out {data} --conversations 120 --slots 32 --shard 40"
    return [*text.split(), "--max-answer", "24", "--magpie", "0", "--dtype", "float32", "--system", "s"]


def train_arguments(model: Path, data: Path, run: Path, steps: int, out: Path | None = None) -> list[str]:
    text = f"--data {data} --backbone {model} --run {run} --layers 1 --draft-vocab 128 --steps {steps} --batch 256"
    more = ["--out", str(out)] if out else []
    return [*text.split(), "--dtype", "float32", "--lr", "3e-3", "--common", "32", "--sampled", "32", *LOOPS, *more]


def test_shards_are_aligned_and_a_rerun_adds_nothing(distilled: tuple[Path, Path]) -> None:
    model, data = distilled
    before = sorted(p.name for p in data.iterdir())
    assert finished_conversations(data) == set(range(120))
    command("distil", *distil_arguments(model, data, data.parent / "prompts.jsonl"))
    assert sorted(p.name for p in data.iterdir()) == before
    rollouts = load_rollouts(data, ("train", "validation", "calibration"))
    greedy = np.repeat(rollouts.temperature == 0, np.diff(rollouts.offsets))
    assert greedy.any() and not greedy.all()
    # A greedy answer is the argmax of its own rows; top-8 are descending.
    assert (rollouts.tokens[greedy] == rollouts.top_ids[greedy, 0]).all()
    assert (np.diff(rollouts.top_logprobs.astype(np.float32), axis=1) <= 0).all()
    assert np.isfinite(rollouts.hidden).all() and len(set(rollouts.contexts)) == len(rollouts.contexts)


def test_the_batched_generator_writes_the_same_answers(distilled: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = distilled
    words = distil_arguments(model, tmp_path / "data", data.parent / "prompts.jsonl")
    command("distil", *words, "--generator", "batched", "--conversations", "40")
    splits = ("train", "validation", "calibration")
    stepped, batched = load_rollouts(data, splits), load_rollouts(tmp_path / "data", splits)
    # Another plan length leaves the first conversations as they are; answers are matched by their contexts.
    place = {context: i for i, context in enumerate(stepped.contexts)}
    assert len(batched.contexts) > 30
    for i, context in enumerate(batched.contexts):
        here, there = (slice(*r.offsets[j : j + 2]) for r, j in ((batched, i), (stepped, place[context])))
        assert batched.tokens[here].tolist() == stepped.tokens[there].tolist()
        np.testing.assert_allclose(batched.hidden[here], stepped.hidden[there], atol=4e-3)


def test_splits_share_no_context(distilled: tuple[Path, Path]) -> None:
    train = load_rollouts(distilled[1], ("train",))
    held_out = load_rollouts(distilled[1], ("validation", "calibration"))
    assert held_out.contexts and not set(train.contexts) & set(held_out.contexts)


def test_losses_fall_and_the_checkpoint_returns(distilled: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = distilled
    out = tmp_path / "medusa1.safetensors"
    command("train", *train_arguments(model, data, tmp_path / "run", 120, out))
    with (tmp_path / "run" / "losses.csv").open() as f:
        rows = list(csv.DictReader(f))
    for k in range(1, 5):
        assert float(rows[-1][f"loss_{k}"]) < 0.7 * float(rows[0][f"loss_{k}"])
    heads, sidecar = load_heads(out)
    assert sidecar["format"] == 3 and len(sidecar["accuracies"]) == 4 and len(sidecar["accuracies"][0]) == 64
    assert len(sidecar["static_tree"]) == 63 and sidecar["static_tree"][0] == [0]
    assert 257 in heads.token_map.tolist()  # the end token is always in the draft vocabulary
    report = command(
        "evaluate", "--heads", str(out), "--data", str(data), "--nodes", "1", "16", "--write", "held_out", *LOOPS
    )
    assert report["trees"]["1"]["dynamic"]["tokens_per_step"] == 1
    for kind in ("static", "dynamic"):
        assert 1 < report["trees"]["16"][kind]["tokens_per_step"] <= report["oracle_top_m"]["tokens_per_step"]
    assert load_heads(out)[1]["evaluation"]["held_out"]["top1"] == report["top1"]


def test_heads_that_read_the_chosen_token_are_trained_prepared_and_equal_torch(
    distilled: tuple[Path, Path], tmp_path: Path
) -> None:
    model, data = distilled
    losses = {}
    for tokens in ("none", "root"):
        out = tmp_path / f"{tokens}.safetensors"
        arguments = train_arguments(model, data, tmp_path / tokens, 60, out)
        command("train", *arguments, "--tokens", tokens, "--backbone-id", "x")
        with (tmp_path / tokens / "losses.csv").open() as f:
            losses[tokens] = float(list(csv.DictReader(f))[-1]["loss_1"])
    # The same batches: knowing the token in between makes the next one easier to guess.
    assert losses["root"] < 0.95 * losses["none"]
    heads, sidecar = load_heads(out, model)
    assert sidecar["format"] == 3 and sidecar["token_scale"] > 0
    folder = tmp_path / "prepared"
    assert command("prepare", "--output", folder, "--from", model, "--id", "x", "--heads", out) == 0
    entry = json.loads((folder / "manifest.json").read_text())["heads"][0]
    assert [i["name"] for i in entry["inputs"]] == ["hidden", "row", "top_m", "token"]
    own = replace(read_own_heads(out), embedding=open_source(model).tensor("embed.weight"))
    path = build_heads(own, "fp32", tmp_path / "heads.onnx").finish()[0]
    answers = load_rollouts(data, ("validation",))
    rows = np.arange(0, len(answers.tokens), 7)
    expected = propose(heads, answers, 8, sidecar["temperatures"])
    session = open_session(path)
    for row in rows:
        feed = {"hidden": answers.hidden[row : row + 1].astype(np.float32), "row": np.array([0])}
        feed |= {"top_m": np.array([8]), "token": answers.tokens[row : row + 1].astype(np.int64)}
        np.testing.assert_allclose(session.run(["top_probs"], feed)[0], expected.probabilities[row], atol=1e-4)


def test_a_resumed_run_equals_an_unbroken_one(distilled: tuple[Path, Path], tmp_path: Path, monkeypatch) -> None:
    model, data = distilled
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    command("train", *train_arguments(model, data, tmp_path / "whole", 30, whole))

    class Stopped(Exception):
        pass

    from medusa_export.training.trainer import Trainer

    step = Trainer._train_step

    def stop_at_15(self: Trainer):
        if self.step == 15:
            self.save_state()
            raise Stopped
        return step(self)

    monkeypatch.setattr(Trainer, "_train_step", stop_at_15)
    with pytest.raises(Stopped):
        command("train", *train_arguments(model, data, tmp_path / "broken", 30, broken))
    monkeypatch.setattr(Trainer, "_train_step", step)
    command("train", *train_arguments(model, data, tmp_path / "broken", 30, broken))
    for a, b in zip(load_heads(whole)[0].parameters(), load_heads(broken)[0].parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_questions_are_answered_once_and_greedily(distilled: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = distilled
    out = tmp_path / "h.safetensors"
    command("train", *train_arguments(model, data, tmp_path / "run", 10, out))
    questions = tmp_path / "q.jsonl"
    rows = [{"question_id": 5 + i, "category": "c", "turns": [f"Ask {i}?"]} for i in range(3)]
    questions.write_text("".join(json.dumps(r) + "\n" for r in rows))
    text = f"--heads {out} --questions {questions} --backbone {model} --cache {tmp_path / 'cache'} --max-new-tokens 12"
    first = command("evaluate", *text.split())
    stamp = (tmp_path / "cache" / "shard-questions.safetensors").stat().st_mtime_ns
    second = command("evaluate", *text.split())
    assert first == second and first["answers"] == 3 and first["tokens"] == 36
    assert (tmp_path / "cache" / "shard-questions.safetensors").stat().st_mtime_ns == stamp


def test_a_conditional_joint_is_trained_and_measured(distilled: tuple[Path, Path], tmp_path: Path) -> None:
    """From the shards that the heads did not see; the rest of the way is in test_conditional.py."""
    model, data = distilled
    shards = sorted(p.name for p in data.glob("shard-*.safetensors"))
    seen, half = tmp_path / "seen.txt", tmp_path / "half"
    seen.write_text("\n".join(shards[:1]))
    half.mkdir()
    (half / shards[0]).symlink_to(data / shards[0])
    heads = tmp_path / "medusa1.safetensors"
    command("train", *train_arguments(model, half, tmp_path / "run", 80, heads))
    text = f"--heads {heads} --data {data} --backbone {model} --run {tmp_path / 'conditional'} --rank 16 --steps 80"
    arguments = [*text.split(), "--trained-shards", str(seen), "--batch", "128", "--max-overlap", "1"]
    other = tmp_path / "other.txt"
    other.write_text(shards[1])
    arguments += ["--also", str(heads), str(other), "--text", str(half), "--members", "2"]
    with pytest.raises(SystemExit):
        command("train-conditional", *arguments, "--members", "0")
    path = command("train-conditional", *arguments)
    for member in ("member-1", "member-2"):
        with (tmp_path / "conditional" / member / "losses.csv").open() as f:
            rows = list(csv.DictReader(f))
        assert float(rows[-1]["loss"]) < 0.9 * float(rows[0]["loss"])
    facts = json.loads(path.with_suffix(".json").read_text())
    assert (facts["rank"], facts["training"]["members"]) == (32, 2)
    unseen = load_rollouts(data, ("train",), without=frozenset(shards[:1]))
    twice = load_rollouts(data, ("train",), only=frozenset(shards[1:2]))
    assert facts["training"]["tokens"] == len(unseen.tokens) + len(twice.tokens)
    everything, again = load_rollouts(data, ("train",)), load_rollouts(half, ("train",))
    assert facts["training"]["text_tokens"] == len(everything.tokens) + len(again.tokens)
    assert facts["training"]["with_other_heads"] == {"answers": len(twice.sources), "tokens": len(twice.tokens)}
    assert facts["training"]["held_out_loss"] < facts["training"]["held_out_loss_product"]
    text = f"--heads {heads} --data {data} --backbone {model} --conditional --nodes 1 16 --max-overlap 1"
    report = command("evaluate", *text.split())
    trees = {n: report["trees"][n]["dynamic_conditional"]["tokens_per_step"] for n in ("1", "16")}
    assert trees["1"] == 1 < trees["16"] <= report["oracle_top_m"]["tokens_per_step"]
    with pytest.raises(ExportError, match=r"--text .*nowhere holds no shard-.*: run distil first"):
        load_text([data, tmp_path / "nowhere"], ("train",))
    # The tiny model's next token depends on the last one, which the marginals leave out.
    assert report["gains"]["16"]["dynamic_conditional_over_dynamic_temperature"]["percent"] > 0


def test_heads_are_calibrated_on_shards_they_never_saw(distilled: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = distilled
    out = tmp_path / "h.safetensors"
    command("train", *train_arguments(model, data, tmp_path / "run", 60, out))
    tensors, before = out.read_bytes(), load_heads(out)[1]
    _, *others = sorted(data.glob("shard-*.safetensors"))
    assert len(others) == 2
    listed = tmp_path / "shards.txt"
    listed.write_text("".join(f"/elsewhere/{p.name}\n" for p in others))
    text = f"--heads {out} --data {data} --trained-shards {listed} --write"
    fitted = command("calibrate", *text.split(), *LOOPS)
    after = load_heads(out)[1]
    assert out.read_bytes() == tensors
    assert after["temperatures"] == fitted["temperatures"] != before["temperatures"]
    assert after["accuracies"] != before["accuracies"] and len(after["static_tree"]) == 63
    assert after["training"] == before["training"]
    # What is counted: greedy answers of the first shard's training split, and of the calibration split everywhere.
    pool = load_rollouts(data, ("train", "calibration"), without=frozenset(p.name for p in others))
    assert after["calibration"]["answers"] == (pool.temperature == 0).sum()
    assert sum(after["calibration"]["sources"].values()) == after["calibration"]["answers"]
    more = [*text.split()[:-1], "--source", "nowhere", *LOOPS]
    with pytest.raises(ExportError, match=r"--source nowhere: no such source .*\(a, b, c\)"):
        command("calibrate", *more)
