"""Made answers that repeat a stretch of stored ones: what they hold, that they train, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tokenizers")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from heads_tiny import write_tiny_model  # noqa: E402

import distil  # noqa: E402
import repeat_answers  # noqa: E402
import train_medusa2  # noqa: E402
from medusa_export.heads.backbone_torch import load_backbone  # noqa: E402
from medusa_export.heads.checkpoint import load_heads  # noqa: E402
from medusa_export.heads.lora import run_sequences  # noqa: E402
from medusa_export.heads.repeated_answers import RepeatMix, repeated_answers  # noqa: E402
from medusa_export.heads.shards import Rollouts, load_rollouts, split_of  # noqa: E402


def stored(lengths: list[int], seed: int = 0) -> Rollouts:
    """Answers of random tokens behind contexts of random tokens; no token occurs twice."""
    rng = np.random.default_rng(seed)
    total = sum(lengths)
    tokens = rng.permutation(10_000)[: total + 20 * len(lengths)].astype(np.int32)
    contexts = [tokens[total + 20 * a :][:20].tobytes() for a in range(len(lengths))]
    empty = np.zeros((total, 8))
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    zeros = np.zeros(len(lengths), np.float32)
    return Rollouts(empty, tokens[:total], empty, empty, offsets, zeros, ["s"] * len(lengths), contexts)


def test_a_made_answer_goes_on_with_what_its_context_ends_in() -> None:
    data = stored([300, 40, 3, 9, 120])
    mix = RepeatMix(shortest=6, longest=50, before=30, most=70)
    made = repeated_answers(data, mix, 400, seed=1)
    texts = [[*np.frombuffer(c, np.int32).tolist(), *data.tokens[s:e].tolist()]
             for c, s, e in zip(data.contexts, data.offsets[:-1], data.offsets[1:], strict=True)]  # fmt: skip
    lengths, kept = [], []
    for x in made:
        # No token occurs twice in the data, so the period is where the first repeated token stood.
        length = len(x.context) - x.context.index(x.tokens[0])
        whole = x.context + x.tokens
        assert all(t == whole[len(x.context) + i - length] for i, t in enumerate(x.tokens))
        assert any(x.context == text[i : i + len(x.context)] for text in texts for i in range(len(text)))
        assert 6 <= length <= 50 and len(x.tokens) <= min(70, 3 * length) and len(x.tokens) >= min(70, length)
        assert split_of(x.conversation) == "train" and x.source == "repeated"
        lengths.append(length)
        kept.append(len(x.context) - length)
    assert len({x.conversation for x in made}) == len(made)
    assert max(kept) <= 30 and min(kept) == 0 and np.mean(kept) > 10
    middle = np.sqrt(6 * 50)  # half of the stretches are shorter, were every answer long enough
    assert 0.4 < np.mean(np.array(lengths) < middle) < 0.75


def test_they_are_a_function_of_seed_and_number() -> None:
    data, mix = stored([100, 50]), RepeatMix()
    few, many, other = (repeated_answers(data, mix, n, seed) for n, seed in ((5, 0), (9, 0), (5, 1)))
    assert few == many[:5] and few != other


def test_what_cannot_be_repeated_is_refused() -> None:
    with pytest.raises(ValueError, match="no training answer has 8 tokens to repeat"):
        repeated_answers(stored([7, 3]), RepeatMix(), 1, 0)
    for wrong in ({"shortest": 0}, {"shortest": 20, "longest": 10}, {"before": -1}, {"most": 5}):
        with pytest.raises(ValueError, match="repeated answers need"):
            RepeatMix(**wrong)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(model folder, shards, shards of made answers)."""
    root = tmp_path_factory.mktemp("repeated")
    model, data, out = write_tiny_model(root / "model"), root / "data", root / "made"
    text = f"--backbone {model} --out {data} --conversations 60 --slots 32 --shard 30 --max-answer 24 --dtype float32"
    prompts = root / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"source": "a", "prompt": f"Say {i}."}) + "\n" for i in range(80)))
    distil.distil(distil.parse_arguments([*text.split(), "--prompts", str(prompts), "--magpie", "0", "--system", "s"]))
    text = f"--data {data} --backbone {model} --out {out} --answers 30 --shard 20 --dtype float32 --shortest 4"
    repeat_answers.make(repeat_answers.parse_arguments(text.split()))
    return model, data, out


def test_the_shards_hold_the_backbones_states_on_the_made_text(made: tuple[Path, Path, Path]) -> None:
    model, _, out = made
    backbone, rollouts = load_backbone(model), load_rollouts(out, ("train",))
    assert len(list(out.glob("shard-*.safetensors"))) == 2
    assert json.loads((out / "distil.json").read_text())["arguments"]["shortest"] == 4
    for a in (0, len(rollouts.sources) - 1):
        rows = slice(rollouts.offsets[a], rollouts.offsets[a + 1])
        context = np.frombuffer(rollouts.contexts[a], np.int32)
        whole = torch.from_numpy(np.concatenate((context, rollouts.tokens[rows])).astype(np.int64))[None]
        states = run_sequences(backbone, whole)[0, len(context) - 1 : -1]
        np.testing.assert_allclose(rollouts.hidden[rows], states.numpy(), atol=6e-3)
        best = (states @ backbone.lm_head.t()).log_softmax(-1).topk(8)
        np.testing.assert_allclose(rollouts.top_logprobs[rows], best.values.numpy(), atol=6e-3)
    with pytest.raises(SystemExit, match="holds made answers already"):
        repeat_answers.make(repeat_answers.parse_arguments(["--data", str(out), "--backbone", str(model),
                                                            "--out", str(out)]))  # fmt: skip


def test_they_train_with_the_others_and_a_frozen_output_stays(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, data, out = made
    text = f"--data {data} --repeated {out} --backbone {model} --backbone-id tiny --run {tmp_path / 'run'} --steps 6"
    text += f" --out {tmp_path / 'out'} --batch 600 --micro-tokens 300 --rank 4 --alpha 8 --dtype float32 --lr 3e-3"
    text += " --heads-lr-scale 1 --stage1-steps 20 --stage1-draft-vocab 128 --max-overlap 1"
    text += " --head-ramp 0.5 --freeze-output"
    train_medusa2.train(train_medusa2.parse_arguments(text.split()))
    first, _ = load_heads(tmp_path / "run" / "stage1" / "medusa1.safetensors")
    last, sidecar = load_heads(tmp_path / "out" / "medusa2.safetensors")
    # The file holds int8 rows: equal to their rounding, while the blocks have moved.
    scale = first.output_weight[0].abs().amax(1, keepdim=True) / 127
    assert ((first.output_weight[0] - last.output_weight[0]).abs() <= 0.51 * scale).all()
    assert (first.block_weight[0] - last.block_weight[0]).abs().max() > 1e-4
    alone = len(load_rollouts(data, ("train",)).tokens)
    assert sidecar["training"]["tokens"] == alone + len(load_rollouts(out, ("train",)).tokens)
    assert sidecar["training"]["repeated"]["arguments"]["answers"] == 30
    recipe = sidecar["training"]["recipe"]
    assert recipe["freeze_output"] and recipe["head_ramp"] == 0.5
    # With heads that were given, their file keeps the output layer, to the bit.
    given = ["--heads", str(tmp_path / "run" / "stage1" / "medusa1.safetensors"), "--run", str(tmp_path / "again")]
    train_medusa2.train(train_medusa2.parse_arguments([*text.split(), *given, "--out", str(tmp_path / "slim")]))
    slim, sidecar = load_heads(tmp_path / "slim" / "medusa2.safetensors")
    assert sidecar["format"] == 4 and torch.equal(slim.output_weight[0], first.output_weight[0])
    with pytest.raises(SystemExit):
        train_medusa2.parse_arguments([*text.split(), "--head-ramp", "0"])
