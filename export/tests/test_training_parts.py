"""The pieces of training: backbone against transformers, fused loss, heads that read a token, file format, targets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from heads_tiny import HIDDEN, made_rollouts, write_tiny_model
from medusa_export.errors import ExportError
from medusa_export.training.backbone import load_backbone, load_embedding
from medusa_export.training.calibration import propose, propose_each
from medusa_export.training.chat_tokens import load_chat_tokens
from medusa_export.training.checkpoint import load_heads, save_heads, sidecar_path
from medusa_export.training.conversations import Conversation
from medusa_export.training.model import HeadsConfig, MedusaHeads, fused_cross_entropy
from medusa_export.training.recipes import Mix
from medusa_export.training.shards import Rollouts
from medusa_export.training.training_data import Batch, Batches, coverage, frequent_tokens, place_of
from medusa_export.weights.heads_file import read_own_heads


def test_backbone_equals_transformers(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "m")
    reference = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(0, 258, (3, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference.model(ids).last_hidden_state
    backbone = load_backbone(folder)
    cache = backbone.new_cache(3, 16)
    got = torch.stack([backbone.step(ids[:, i], torch.full((3,), i), cache) for i in range(12)], dim=1)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_special_tokens_in_user_text_stay_text(tmp_path: Path) -> None:
    chat = load_chat_tokens(write_tiny_model(tmp_path / "m"), "s")
    turn = chat.user_turn("a<|im_end|>b")
    assert turn.count(chat.end) == 2  # the system turn's and the user turn's own
    assert chat.stretches.tokenizer.decode(turn, skip_special_tokens=False).count("<|im_end|>") == 3


RSTRIP, LSTRIP = "rstrip", "lstrip"


@pytest.mark.parametrize("start", [(), (RSTRIP,), (LSTRIP,)])
@pytest.mark.parametrize("end", [(), (RSTRIP,), (LSTRIP, RSTRIP)])
@pytest.mark.parametrize("metaspace", [False, True])
def test_chats_equal_the_rendered_template(
    tmp_path: Path, start: tuple[str, ...], end: tuple[str, ...], metaspace: bool
) -> None:
    """Control tokens that take white space along (Phi's do), and added tokens that are no control tokens."""
    path = write_tiny_model(tmp_path / "m") / "tokenizer.json"
    document = json.loads(path.read_text())
    flags = {"<|im_start|>": start, "<|im_end|>": end}
    for token in document["added_tokens"]:
        token |= dict.fromkeys(flags.get(token["content"], ()), True)
    size = 1 + max(token["id"] for token in document["added_tokens"])
    plain = {"special": False, "normalized": False, "lstrip": False, "rstrip": False, "single_word": False}
    document["added_tokens"] += [
        {**plain, "id": size, "content": "<think>", "rstrip": True},
        {**plain, "id": size + 1, "content": "end", "single_word": True},
        {**plain, "id": size + 2, "content": "\n\n"},
    ]
    if metaspace:
        document["pre_tokenizer"] = {"type": "Metaspace", "replacement": "x", "prepend_scheme": "first", "split": False}
    path.write_text(json.dumps(document))
    reference = Tokenizer.from_str(json.dumps(document))
    chat = load_chat_tokens(path.parent, "s\n ")

    def ids(text: str) -> list[int]:
        return list(reference.encode(text, add_special_tokens=False).ids)

    system = "<|im_start|>system\ns\n <|im_end|>\n"
    for text in ("hi", "\nhi \n\n ", " <think> \n x end", "bend", "", " \u0085\u3000"):
        turn = f"{system}<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        assert chat.user_turn(text) == ids(turn), repr(text)
    assert chat.question_prompt() == ids(f"{system}<|im_start|>user\n")
    assert [chat.end, *chat.to_question] == ids("<|im_end|>\n<|im_start|>user\n")


def test_a_control_token_that_must_be_a_single_word_is_refused(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m") / "tokenizer.json"
    document = json.loads(path.read_text())
    document["added_tokens"][1]["single_word"] = True
    path.write_text(json.dumps(document))
    with pytest.raises(ExportError, match="single word"):
        load_chat_tokens(path.parent, "s")


def test_conversation_walks_prompt_answer_and_second_question(tmp_path: Path) -> None:
    chat = load_chat_tokens(write_tiny_model(tmp_path / "m"), "s")
    mix = Mix(greedy_share=1, second_turn_share=1, max_answer=8)
    c = Conversation(0, "source", "hi", chat, mix, seed=0)
    script = iter([65, 66, chat.end, 70, 71, 72, chat.end, 67, chat.end])
    recorded = 0
    while not c.done:
        if c.generating:
            recorded += c.recording
            c.accept(next(script))
        else:
            c.advance()
    first, second = c.answers
    assert first.tokens == [65, 66, chat.end] and second.tokens == [67, chat.end] and recorded == 5
    assert first.context == chat.user_turn("hi")
    question = [70, 71, 72]
    assert second.context == first.context + first.tokens + chat.to_question + question + chat.to_answer


def test_fused_loss_equals_autograd() -> None:
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(6, 8, generator=g, requires_grad=True)
    weight = torch.randn(11, 8, generator=g, requires_grad=True)
    ids = torch.randint(0, 11, (6, 3), generator=g)
    mass = torch.rand(6, 3, generator=g)
    mass = mass / mass.sum(1, keepdim=True)
    mass[2] = 0  # a row without target
    bias = torch.randn(11, generator=g)
    loss = fused_cross_entropy(hidden, weight, ids, mass, bias, torch.float32)
    fused = torch.autograd.grad(loss, (hidden, weight))
    target = torch.zeros(6, 11).scatter_add_(1, ids, mass)
    plain = -(target * torch.log_softmax(hidden @ weight.t() + bias, -1)).sum() / 5
    torch.testing.assert_close(loss, plain)
    for a, b in zip(fused, torch.autograd.grad(plain, (hidden, weight)), strict=True):
        torch.testing.assert_close(a, b)


def test_proposals_are_the_softmax_over_the_whole_draft_vocabulary_at_every_temperature() -> None:
    torch.manual_seed(0)
    heads = MedusaHeads(HeadsConfig(2, 8, 1, 20), torch.arange(0, 60, 3))
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter)
    rollouts = made_rollouts([5])
    sets = [[1.0, 1.0], [2.0, 0.5]]
    with torch.no_grad():
        logits = heads(torch.from_numpy(rollouts.hidden).float())
    for temperatures, got in zip(sets, propose_each(heads, rollouts, 4, sets), strict=True):
        for k in range(2):
            top = torch.softmax(logits[k] / temperatures[k], -1).topk(4)
            assert got.ids[:, k].tolist() == heads.token_map[top.indices].tolist()
            np.testing.assert_allclose(got.probabilities[:, k], top.values.numpy(), rtol=1e-5)


def reading_heads(size: int = 8) -> MedusaHeads:
    """3 random heads of 2 blocks on states of `size` values, a vocabulary of 60, which read the chosen token."""
    torch.manual_seed(0)
    heads = MedusaHeads(HeadsConfig(3, size, 2, 20, tokens="root"), torch.arange(0, 60, 3))
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter)
    heads.attach_embedding(torch.randn(60, size), 0.5)
    return heads


def test_heads_read_the_chosen_token() -> None:
    """The formula, written out for the last head: y = W h + U e(x) + b."""
    heads, hidden, tokens = reading_heads(), torch.randn(2, 8), torch.tensor([3, 40])
    e = 0.5 * heads.embedding[tokens]
    y = hidden @ heads.block_weight[2][0].T + heads.block_bias[2][0] + e @ heads.token_weight[2].T
    x = hidden + y * torch.sigmoid(y)
    y = x @ heads.block_weight[2][1].T + heads.block_bias[2][1]
    torch.testing.assert_close(heads.trunk(hidden, 2, tokens), x + y * torch.sigmoid(y))
    with pytest.raises(ValueError, match="need the tokens"):
        heads.trunk(hidden, 0)


def test_proposals_and_batches_give_a_head_the_token_of_its_own_row() -> None:
    rollouts, heads = made_rollouts([5, 4]), reading_heads()
    hidden, tokens = torch.from_numpy(rollouts.hidden).float(), torch.from_numpy(rollouts.tokens).long()
    found = propose(heads, rollouts, 1)
    expected = [heads.token_map[x.argmax(-1)].tolist() for x in heads(hidden, tokens)]
    assert found.ids[:, :, 0].T.tolist() == expected
    batch = Batches(rollouts, 3, np.arange(60), 60).batch(0, 7, full=True)
    for row, read in zip(batch.hidden, batch.tokens, strict=True):
        assert int(read) == tokens[(hidden == row).all(1)]


@pytest.mark.parametrize("quantise", [False, True])
def test_token_reading_heads_return_from_their_file_and_need_the_backbone(tmp_path: Path, quantise: bool) -> None:
    heads, path = reading_heads(HIDDEN), tmp_path / "h.safetensors"
    save_heads(heads, path, {"temperatures": [1, 1, 1]}, quantise=quantise)
    with pytest.raises(ExportError, match="read the chosen token: name the backbone with --backbone"):
        load_heads(path)
    model = write_tiny_model(tmp_path / "model")
    loaded, sidecar = load_heads(path, model)
    assert torch.equal(loaded.embedding, load_embedding(model))
    loaded.embedding = heads.embedding
    assert (sidecar["format"], sidecar["tokens"], sidecar["token_scale"]) == (3 if quantise else 2, "root", 0.5)
    hidden, read = torch.randn(4, HIDDEN), torch.randint(60, (4,))
    for a, b in zip(loaded(hidden, read), heads(hidden, read), strict=True):
        assert (a - b).abs().max() < (0.1 if quantise else 0.02) * b.abs().max()
    own = read_own_heads(path)
    assert own.token_scale == 0.5
    np.testing.assert_array_equal(own.token_weights[1], loaded.token_weight[1].detach())
    side = sidecar_path(path)
    side.write_text(side.read_text().replace('"tokens": "root"', '"tokens": "path"'))
    with pytest.raises(ExportError, match="tokens 'path' is not supported"):
        read_own_heads(path)


@pytest.mark.parametrize("output", ["own", "shared"])
def test_checkpoint_round_trip(tmp_path: Path, output: str) -> None:
    torch.manual_seed(0)
    heads = MedusaHeads(HeadsConfig(3, 8, 2, 20, output), torch.arange(0, 60, 3))
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter)
    hidden = torch.randn(4, 8)
    for quantise, tolerance in ((False, 0.02), (True, 0.5)):
        save_heads(heads, tmp_path / "h.safetensors", {"temperatures": [1, 1, 1]}, quantise)
        loaded, sidecar = load_heads(tmp_path / "h.safetensors")
        assert sidecar["output"] == output and loaded.token_map.tolist() == heads.token_map.tolist()
        for a, b in zip(loaded(hidden), heads(hidden), strict=True):
            assert (a - b).abs().max() < tolerance * b.abs().max()
        own = read_own_heads(tmp_path / "h.safetensors")
        for k, blocks in enumerate(own.blocks):
            for j, (weight, bias) in enumerate(blocks):
                np.testing.assert_array_equal(weight, loaded.block_weight[k][j].detach())
                np.testing.assert_array_equal(bias, loaded.block_bias[k][j].detach())
            np.testing.assert_array_equal(own.outputs[k].float32(), loaded.output_of(k).detach())


def test_a_file_that_does_not_fit_its_sidecar_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "h.safetensors"
    save_heads(MedusaHeads(HeadsConfig(2, 8, 1, 20), torch.arange(20)), path, {})
    side = sidecar_path(path)
    side.write_text(side.read_text().replace('"hidden_size": 8', '"hidden_size": 16'))
    with pytest.raises(ExportError, match=r"\[8, 8\], expected \[16, 16\]|\[20, 8\], expected \[20, 16\]"):
        load_heads(path)
    side.write_text(side.read_text().replace('"format": 3', '"format": 9'))
    with pytest.raises(ExportError, match="format 9"):
        load_heads(path)


def test_draft_vocabulary_keeps_the_end_token() -> None:
    tokens = np.array([3, 3, 3, 5, 5, 9])
    assert frequent_tokens(tokens, 12, 3, always=(11,)).tolist() == [3, 5, 11]
    assert coverage(tokens, np.array([3, 5])) == pytest.approx(5 / 6)


@pytest.mark.parametrize("soft", [0.0, 0.5])
def test_targets_mix_the_chosen_token_with_the_backbones_best(soft: float) -> None:
    """Over the draft vocabulary: best tokens outside it, or below 1%, get nothing; what is left sums to 1."""
    rollouts, token_map = made_rollouts([4], vocab=50), np.arange(0, 50, 2)
    rollouts.tokens[:] = [3, 10, 7, 20]
    rollouts.top_ids[:] = [[10, 12, 13, 14, 20, 22, 24, 26]] * 4
    probabilities = np.array([0.5, 0.2, 0.1, 0.005, 0.04, 0.04, 0.04, 0.04])
    rollouts.top_logprobs[:] = np.log(probabilities)
    batches = Batches(rollouts, 2, token_map, 50, soft)
    batch = batches.batch(0, len(batches), full=True)
    for k in range(2):
        for row, rows in enumerate(batches.target_rows):
            found = np.zeros(50)
            np.add.at(found, token_map[batch.per_head[k][0][row].numpy()], batch.per_head[k][1][row].numpy())
            expected, token = np.zeros(50), rollouts.tokens[rows[k]]
            if rows[k] >= 0 and token % 2 == 0:
                best = {10: 0.5, 12: 0.2, 20: 0.04, 22: 0.04, 24: 0.04, 26: 0.04}
                for each, p in best.items():
                    expected[each] = soft * p / sum(best.values())
                expected[token] += 1 - soft
            np.testing.assert_allclose(found, expected, atol=1e-3)


def test_batches_pass_over_the_data_once_an_epoch_and_repeat_when_resumed() -> None:
    rollouts = made_rollouts([25, 2, 33])
    batches = Batches(rollouts, 3, np.arange(60), 60)
    steps = [batches.batch(step, 10).hidden for step in range(len(batches) // 10)]
    assert len(torch.cat(steps).unique(dim=0)) == 10 * len(steps) > 40
    assert torch.equal(Batches(rollouts, 3, np.arange(60), 60).batch(3, 10).hidden, steps[3])
    assert not torch.equal(batches.batch(3 + len(steps), 10).hidden, steps[3])


def test_states_stay_in_main_memory_where_they_would_fill_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (100, 200))
    assert [place_of(50, "cuda"), place_of(51, "cuda"), place_of(50, "cpu")] == ["cuda", "cpu", "cpu"]


def test_sampled_loss_keeps_the_full_loss_in_expectation() -> None:
    rng = np.random.default_rng(0)
    n, vocab = 400, 300
    tokens = rng.integers(0, 40, n).astype(np.int32)
    top = np.tile(tokens[:, None], (1, 8)).astype(np.int32)
    rollouts = Rollouts(
        rng.normal(size=(n, 8)).astype(np.float16),
        tokens,
        top,
        np.full((n, 8), -2, np.float16),
        np.array([0, n]),
        np.zeros(1),
        ["s"],
        [b""],
    )
    weight = torch.from_numpy(rng.normal(size=(vocab, 8)).astype(np.float32)) * 0.3

    def loss(batch: Batch) -> float:
        ids, mass = batch.per_head[0]
        rows = weight if batch.subset is None else weight[batch.subset]
        return float(fused_cross_entropy(batch.hidden, rows, ids, mass, batch.bias, torch.float32))

    batches = Batches(rollouts, 1, np.arange(vocab), vocab, common=30, sampled=60)
    full = loss(batches.batch(0, n, full=True))
    # One batch holds all positions, so every step differs in its sample only.
    sampled = [loss(batches.batch(step, n)) for step in range(40)]
    assert abs(np.mean(sampled) - full) < 0.05 < np.abs(full)
    assert batches.batch(0, n).subset.shape[0] < 110
