"""MEDUSA-2 on a tiny random backbone: the adapter, the joint training, the merge, and what does not fit."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from conftest import command
from heads_tiny import write_tiny_model
from medusa_export.errors import ExportError
from medusa_export.training.backbone import Backbone, load_backbone
from medusa_export.training.checkpoint import load_heads
from medusa_export.training.fidelity import fused_kl, measure_fidelity
from medusa_export.training.lora import Lora, run_sequences, save_adapter
from medusa_export.training.medusa2_trainer import Medusa2Trainer
from medusa_export.training.recipes import LoraConfig
from medusa_export.training.sequences import Sequences, states_of, with_states
from medusa_export.training.shards import finished_conversations, load_rollouts
from medusa_export.weights.adapter import read_adapter
from medusa_export.weights.hashing import sha256_of


def first_heads(distilled: tuple[Path, Path]) -> Path:
    return distilled[1].with_name("medusa1.safetensors")


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(model folder, shard folder); MEDUSA-1 heads to start from lie beside them."""
    root = tmp_path_factory.mktemp("medusa2")
    model, data = write_tiny_model(root / "model"), root / "data"
    text = f"--backbone {model} --out {data} --conversations 120 --slots 32 --shard 40 --max-answer 24 --dtype float32"
    prompts = root / "prompts.jsonl"
    rows = [{"source": "abc"[i % 3], "prompt": f"Say {i}."} for i in range(150)]
    prompts.write_text("".join(json.dumps(r) + "\n" for r in rows))
    more = ["--prompts", str(prompts), "--magpie", "0", "--system", "s"]
    command("distil", *text.split(), *more)
    text = (
        f"--data {data} --backbone {model} --backbone-id tiny --run {root / 'run'} --out {first_heads((model, data))}"
    )
    text += " --output shared --tokens root --draft-vocab 128 --steps 60 --soft 0.5 --max-overlap 1 --dtype float32"
    command("train", *text.split())
    return model, data


@pytest.fixture
def backbone(distilled: tuple[Path, Path]) -> Backbone:
    return load_backbone(distilled[0])


def changed_lora(backbone: Backbone, first_layer: int = 0) -> Lora:
    """An adapter that changes something: B is not zero."""
    lora = Lora(LoraConfig(rank=3, alpha=6, first_layer=first_layer), backbone.config, seed=1)
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for b in lora.b.values():
            b.copy_(torch.randn(b.shape, generator=g) * 0.1)
    return lora


def saved(lora: Lora, folder: Path, model: Path, **base: str) -> Path:
    path = folder / "tiny.adapter.safetensors"
    save_adapter(lora, path, {"base": {"id": "tiny", "sha256": sha256_of(model)} | base})
    return path


def test_sequences_without_adapter_are_the_frozen_backbone(distilled: tuple[Path, Path], backbone: Backbone) -> None:
    tokens = torch.randint(0, 258, (2, 17), generator=torch.Generator().manual_seed(0))
    twin = AutoModelForCausalLM.from_pretrained(distilled[0]).eval()
    with torch.no_grad():
        expected = twin(tokens, output_hidden_states=True).hidden_states[-1]
        for lora in (None, Lora(LoraConfig(4, 8), backbone.config)):  # B = 0 changes nothing
            torch.testing.assert_close(run_sequences(backbone, tokens, lora), expected, atol=2e-5, rtol=1e-4)
        assert not torch.allclose(run_sequences(backbone, tokens, changed_lora(backbone)), expected, atol=1e-2)


def test_padded_sequences_give_the_states_of_the_shards(distilled: tuple[Path, Path], backbone: Backbone) -> None:
    rollouts = load_rollouts(distilled[1], ("validation", "calibration", "train"))
    for most in (200, 4096):
        kept, again = with_states(rollouts, backbone, most_tokens=most)
        assert len(kept.tokens) == len(rollouts.tokens)
        np.testing.assert_allclose(again.hidden, rollouts.hidden.astype(np.float32), atol=6e-3)


def test_every_answer_is_in_a_plan_once_and_micro_batches_keep_their_size(distilled: tuple[Path, Path]) -> None:
    sequences = Sequences(load_rollouts(distilled[1], ("train",)), 150)
    for rng in (None, np.random.default_rng(3)):
        plan = sequences.plan(rng, pool=40)
        assert sorted(np.concatenate(plan).tolist()) == sequences.usable.tolist()
        assert len(plan) > 5 and all(sequences.micro_batch(each).tokens.numel() <= 150 for each in plan)
    longest = int(sequences.lengths.max())
    short = Sequences(sequences.rollouts, longest - 1)
    assert short.left_out == int((sequences.lengths == longest).sum()) > 0
    with pytest.raises(ExportError, match="no answer fits in 5 tokens"):
        Sequences(sequences.rollouts, 5)


def test_gradient_reaches_adapter_and_heads(distilled: tuple[Path, Path], backbone: Backbone) -> None:
    lora = changed_lora(backbone, first_layer=1)
    sequences = Sequences(load_rollouts(distilled[1], ("train",)), 200)
    states = states_of(backbone, sequences.micro_batch(sequences.plan()[0]), lora)
    states.square().sum().backward()
    for name, parameter in lora.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert {name.split(".")[1].split("_")[0] for name, _ in lora.named_parameters()} == {"1"}


def test_fused_kl_equals_autograd_and_measures() -> None:
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(40, 8, generator=g)
    original = torch.randn(3000, 8, generator=g)  # more than one block of rows
    hidden = (original + 0.3 * torch.randn(3000, 8, generator=g)).requires_grad_()
    log_p, log_q = (original @ weight.t()).log_softmax(-1), (hidden @ weight.t()).log_softmax(-1)
    expected = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    (wanted,) = torch.autograd.grad(expected, hidden)
    found = fused_kl(hidden, original, weight)
    (gradient,) = torch.autograd.grad(found, hidden)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, wanted, atol=1e-7, rtol=1e-4)
    tokens = torch.randint(0, 40, (3000,), generator=g)
    measured = measure_fidelity(hidden.detach().numpy(), original.numpy(), tokens.numpy(), weight)
    assert abs(measured.kl.mean() - float(expected.detach())) < 1e-5
    nll = torch.nn.functional.cross_entropy(hidden.detach() @ weight.t(), tokens)
    assert abs(measured.summary()["perplexity"] - float(nll.exp())) < 2e-3 * float(nll.exp())
    agreement = (log_p.argmax(-1) == log_q.argmax(-1)).float().mean()
    assert abs(measured.agrees.mean() - float(agreement)) < 1e-6


def test_merged_weights_equal_the_adapter(distilled: tuple[Path, Path], backbone: Backbone, tmp_path: Path) -> None:
    model = distilled[0]
    for first_layer in (0, 1):
        lora = changed_lora(backbone, first_layer)
        adapter = read_adapter(saved(lora, tmp_path, model))
        assert (adapter.name, adapter.rank, adapter.scale) == ("tiny", 3, 2)
        with torch.no_grad():
            for part in (lora.a, lora.b):  # the file holds float16
                for value in part.values():
                    value.copy_(value.half().float())
            tokens = torch.randint(0, 258, (2, 20), generator=torch.Generator().manual_seed(5))
            merged = run_sequences(load_backbone(model, adapter=adapter), tokens)
            adapted = run_sequences(backbone, tokens, lora)
        torch.testing.assert_close(merged @ backbone.lm_head.t(), adapted @ backbone.lm_head.t(), atol=1e-4, rtol=1e-4)


def arguments(distilled: tuple[Path, Path], run: Path, steps: int, *more: object) -> list[str]:
    text = f"--data {distilled[1]} --backbone {distilled[0]} --backbone-id tiny --run {run} --steps {steps}"
    text += " --batch 600 --micro-tokens 300 --warmup 5 --rank 4 --alpha 8 --dtype float32 --lr 3e-3"
    text += (
        f" --heads-lr-scale 1 --head-weight 0.3 --evaluate-every 10 --max-overlap 1 --heads {first_heads(distilled)}"
    )
    return [*text.split(), *map(str, more)]


def test_losses_fall_and_the_files_return(distilled: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    command("train-medusa2", *arguments(distilled, tmp_path / "run", 60, "--out", out))
    with (tmp_path / "run" / "losses.csv").open() as f:
        rows = list(csv.DictReader(f))
    trained = [r for r in rows if r["loss_1"]]
    assert all(float(trained[-1][f"loss_{k}"]) < float(trained[0][f"loss_{k}"]) for k in range(1, 5))
    assert float(rows[0]["held_out_agreement"]) == 1 and float(rows[0]["held_out_kl"]) < 1e-4
    assert 0 < float(rows[-1]["held_out_kl"]) < 0.5
    adapter = read_adapter(out / "medusa2.adapter.safetensors")
    heads, sidecar = load_heads(out / "medusa2.safetensors", distilled[0])
    assert (
        sidecar["tokens"] == "root"
        and sidecar["kind"] == "medusa-2"
        and sidecar["backbone"]["adapter_sha256"] == adapter.sha256
    )
    assert len(sidecar["accuracies"]) == heads.config.heads == 4
    facts = json.loads((out / "medusa2.adapter.json").read_text())
    assert facts["base"] == {"id": "tiny", "sha256": sha256_of(distilled[0])}
    assert facts["training"]["steps"] == 60 and facts["training"]["tokens_per_second"] > 0
    check_measures(distilled, out)


def check_measures(distilled: tuple[Path, Path], out: Path) -> None:
    """`evaluate` reads the files and measures the heads on the merged backbone's states."""
    model, data = distilled
    adapter, heads = out / "medusa2.adapter.safetensors", out / "medusa2.safetensors"
    # A tiny random model says nearly the same in every answer: nothing would be left of the held-out ones.
    common = ["--backbone", str(model), "--adapter", str(adapter), "--data", str(data), "--max-overlap", "1"]
    report = command("evaluate", "--heads", heads, *common, "--nodes", "16")
    assert 1 < report["trees"]["16"]["dynamic"]["tokens_per_step"] <= report["oracle_top_m"]["tokens_per_step"]
    with pytest.raises(ExportError, match="no --adapter is given"):
        command("evaluate", "--heads", heads, "--backbone", model, "--data", data, "--max-overlap", "1")


def test_a_resumed_run_equals_an_unbroken_one(distilled: tuple[Path, Path], tmp_path: Path, monkeypatch) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command("train-medusa2", *arguments(distilled, whole, 24, "--out", whole / "out"))
    step = Medusa2Trainer._train_step

    class Stopped(Exception):
        pass

    def stop_at_13(self: Medusa2Trainer):
        if self.step == 13:
            self.save_state()
            raise Stopped
        return step(self)

    monkeypatch.setattr(Medusa2Trainer, "_train_step", stop_at_13)
    with pytest.raises(Stopped):
        command("train-medusa2", *arguments(distilled, broken, 24, "--out", broken / "out"))
    monkeypatch.setattr(Medusa2Trainer, "_train_step", step)
    command("train-medusa2", *arguments(distilled, broken, 24, "--out", broken / "out"))
    ours, theirs = (read_adapter(run / "out" / "medusa2.adapter.safetensors") for run in (whole, broken))
    for name, (a, b) in ours.factors.items():
        np.testing.assert_allclose(theirs.factors[name][0], a, atol=1e-3)
        np.testing.assert_allclose(theirs.factors[name][1], b, atol=1e-3)
    heads = [load_heads(run / "out" / "medusa2.safetensors", distilled[0])[0] for run in (whole, broken)]
    for p, q in zip(heads[0].parameters(), heads[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=2e-3, rtol=1e-3)
    with pytest.raises(ExportError, match="another recipe"):
        command("train-medusa2", *arguments(distilled, broken, 24, "--lr", "1e-4"))


def test_heads_of_other_weights_are_refused(distilled: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "medusa1.json"
    shutil.copy(first_heads(distilled), file.with_suffix(".safetensors"))
    facts = json.loads(first_heads(distilled).with_suffix(".json").read_text())
    facts["backbone"]["gguf_sha256"] = "ab" * 32
    file.write_text(json.dumps(facts))
    with pytest.raises(ExportError, match="sha256 abababababab"):
        heads = file.with_suffix(".safetensors")
        command("train-medusa2", *arguments(distilled, tmp_path / "other", 1, "--heads", heads))


@pytest.fixture(scope="module")
def finished(distilled: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: run/ with losses.csv, out/ with adapter and heads of a frozen output layer."""
    root = tmp_path_factory.mktemp("finished")
    frozen = ["--freeze-output", "--out", root / "out"]
    command("train-medusa2", *arguments(distilled, root / "run", 30, *frozen))
    return root


def go_on(finished: Path) -> list[object]:
    out = finished / "out"
    return ["--adapter", out / "medusa2.adapter.safetensors", "--heads", out / "medusa2.safetensors", "--freeze-output"]


def measures(run: Path) -> list[tuple[float, float]]:
    """(KL, top-1 of the first head) of every held-out measure of a run."""
    with (run / "losses.csv").open() as f:
        rows = [r for r in csv.DictReader(f) if r["held_out_kl"]]
    return [(float(r["held_out_kl"]), float(r["held_out_top1_1"])) for r in rows]


def test_a_run_goes_on_from_an_earlier_adapter(distilled: tuple[Path, Path], finished: Path, tmp_path: Path) -> None:
    again = [*go_on(finished), "--out", tmp_path / "out"]
    command("train-medusa2", *arguments(distilled, tmp_path / "run", 3, *again))
    (kl_before, _), *_, (kl, top1) = measures(finished / "run")
    kl_again, top1_again = measures(tmp_path / "run")[0]
    assert kl_before < 1e-4 < kl / 10
    assert kl_again == pytest.approx(kl, rel=0.02)  # fp16 factors, int8 rows of the heads
    assert top1_again == pytest.approx(top1, abs=0.02)
    facts = json.loads((tmp_path / "out" / "medusa2.json").read_text())
    adapter = finished / "out" / "medusa2.adapter.safetensors"
    assert facts["training"]["started_from"]["adapter_sha256"] == sha256_of(adapter)
    # Not a chain: the output layer is that of the first heads, also after a second run.
    named = (tmp_path / "out" / facts["output_of"]["file"]).resolve()
    assert named == first_heads(distilled).resolve()
    load_heads(tmp_path / "out" / "medusa2.safetensors", distilled[0])


def test_adapter_and_heads_of_two_runs_are_refused(
    distilled: tuple[Path, Path], finished: Path, tmp_path: Path
) -> None:
    flag, adapter, _, heads, _ = go_on(finished)
    first = first_heads(distilled)
    for more, message in (
        (["--heads", heads], r"belong to adapter \w{12}\.\.\., --adapter names no adapter"),
        (["--heads", first, flag, adapter], r"belong to no adapter, --adapter names adapter \w{12}"),
        (["--heads", heads, flag, adapter, "--rank", "5"], r"rank 4, alpha 8, 14 matrices; this run has rank 5"),
    ):
        with pytest.raises(ExportError, match=message):
            command("train-medusa2", *arguments(distilled, tmp_path / "run", 1, *more))


@pytest.fixture(scope="module")
def own_answers(distilled: tuple[Path, Path], finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run's merged model's answers to conversations 10..119 of the plan."""
    model, data = distilled
    own = tmp_path_factory.mktemp("own")
    _, adapter, *_ = go_on(finished)
    text = f"--backbone {model} --adapter {adapter} --out {own} --conversations 120 --first 10 --slots 32 --shard 60"
    text += f" --max-answer 24 --dtype float32 --prompts {data.parent / 'prompts.jsonl'} --magpie 0 --system s"
    command("distil", *text.split())
    return own


def test_first_leaves_conversations_out(own_answers: Path) -> None:
    assert finished_conversations(own_answers) == set(range(10, 120))
    for first in ("-1", "120"):
        with pytest.raises(SystemExit):
            command("distil", "--backbone", "b", "--out", "o", "--conversations", "120", "--first", first)


def learn_on(model: Path, finished: Path, root: Path, *more: object) -> Path:
    """`train --init` on the finished run's heads; returns the new ones."""
    *_, heads, _ = go_on(finished)
    out = root / "heads.safetensors"
    text = f"--backbone {model} --backbone-id tiny --init {heads} --freeze-output --draft-vocab 128 --output shared"
    text += " --tokens root --steps 40 --batch 64 --lr 3e-3 --dtype float32 --max-overlap 1"
    text += f" --out {out} --run {root / 'run'}"
    command("train", *text.split(), *map(str, more))
    return out


def test_heads_learn_on_with_the_merged_models_own_answers(
    distilled: tuple[Path, Path], finished: Path, own_answers: Path, tmp_path: Path
) -> None:
    model, _ = distilled
    _, adapter, _, heads, _ = go_on(finished)
    new = learn_on(model, finished, tmp_path, "--data", own_answers, "--adapter", adapter)
    before, (after, facts) = load_heads(heads, model)[0], load_heads(new, model)
    assert all(torch.equal(a, b) for a, b in zip(before.output_weight, after.output_weight, strict=True))
    assert not torch.equal(before.block_weight[0], after.block_weight[0])
    assert (facts["kind"], facts["backbone"]["adapter_sha256"]) == ("medusa-2", sha256_of(Path(adapter)))
    assert facts["output_of"]["file"].endswith("/medusa1.safetensors")
    assert facts["training"]["started_from"]["sha256"] == sha256_of(Path(heads))
    with pytest.raises(SystemExit):
        command("train", "--data", "d", "--backbone", "b", "--run", "r", "--freeze-output")


def test_heads_of_a_merged_model_are_fitted_on_its_own_answers_only(
    distilled: tuple[Path, Path], finished: Path, own_answers: Path, tmp_path: Path
) -> None:
    model, data = distilled
    _, adapter, _, heads, _ = go_on(finished)
    fitted = ["--heads", str(heads), "--backbone", str(model), "--max-overlap", "1"]
    command("calibrate", *fitted, "--data", str(own_answers))
    for name in ("calibrate", "train-conditional"):
        more = ["--run", tmp_path / "c"] if name == "train-conditional" else []
        with pytest.raises(ExportError, match="holds answers made with no adapter, not with the adapter of sha256"):
            command(name, *fitted, *more, "--data", data)
    with pytest.raises(ExportError, match=r"made with no adapter, not with the adapter of sha256 \w{12}"):
        learn_on(model, finished, tmp_path, "--data", data, "--adapter", adapter)
    with pytest.raises(ExportError, match=r"made with the adapter of sha256 \w{12}\.\.\., not with no adapter"):
        learn_on(model, finished, tmp_path, "--data", own_answers)


def test_the_merged_model_answers_with_its_own_states(
    distilled: tuple[Path, Path], backbone: Backbone, tmp_path: Path
) -> None:
    model, data = distilled
    path, prompts = saved(changed_lora(backbone), tmp_path, model), tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"source": "a", "prompt": f"Say {i}."}) + "\n" for i in range(8)))
    text = f"--backbone {model} --adapter {path} --conversations 6 --slots 4 --max-answer 12 --dtype float32 --system s"
    text += f" --prompts {prompts} --magpie 0"
    out = tmp_path / "out"
    command("distil", *text.split(), "--out", out)
    answers = load_rollouts(out, ("train", "validation", "calibration"))
    _, again = with_states(answers, load_backbone(model, adapter=read_adapter(path)))
    np.testing.assert_allclose(answers.hidden.astype(np.float32), again.hidden, atol=6e-3)
    _, original = with_states(answers, backbone)
    assert np.abs(original.hidden - again.hidden).max() > 0.05
    assert json.loads((out / "distil.json").read_text())["adapter_sha256"] == read_adapter(path).sha256
    with pytest.raises(ExportError, match=r"holds answers made with the adapter of sha256 .*, not with no adapter"):
        command("distil", "--backbone", model, "--out", out)
    with pytest.raises(ExportError, match="holds answers made with no adapter, not with the adapter"):
        command("distil", *text.split(), "--out", str(data))
    other = saved(changed_lora(backbone), tmp_path / "other", model, sha256="ab" * 32)
    with pytest.raises(ExportError, match="was trained on tiny \\(sha256 abababababab"):
        command("distil", "--backbone", model, "--out", tmp_path / "x", "--adapter", other)
