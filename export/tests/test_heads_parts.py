"""The pieces: backbone against transformers, C kernel, fused loss, trees, file format, data helpers."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import save_file  # noqa: E402

pytest.importorskip("tokenizers")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from heads_tiny import write_tiny_model  # noqa: E402

from medusa_export.errors import ExportError  # noqa: E402
from medusa_export.heads import cpu_attention  # noqa: E402
from medusa_export.heads.backbone_torch import load_backbone  # noqa: E402
from medusa_export.heads.calibration import propose, propose_each  # noqa: E402
from medusa_export.heads.chat_tokens import load_chat_tokens  # noqa: E402
from medusa_export.heads.checkpoint import load_heads, quantise_rows, save_heads, sidecar_path  # noqa: E402
from medusa_export.heads.conversations import Conversation, Mix  # noqa: E402
from medusa_export.heads.device_batches import DeviceBatches  # noqa: E402
from medusa_export.heads.model import HeadsConfig, MedusaHeads, fused_cross_entropy  # noqa: E402
from medusa_export.heads.sequential_tree import sequential_best_first_tree  # noqa: E402
from medusa_export.heads.shards import Rollouts  # noqa: E402
from medusa_export.heads.training_data import Batch, Batches, coverage, frequent_tokens  # noqa: E402
from medusa_export.heads.tree_simulation import (  # noqa: E402
    Proposals,
    best_first_tree,
    dynamic_tree,
    nested_tree,
    oracle,
    simulate,
    static_tree,
)
from medusa_export.weights.heads_file import read_own_heads  # noqa: E402


def made_rollouts(lengths: list[int], hidden_size: int = 8, vocab: int = 60) -> Rollouts:
    """Random answers of some lengths, greedy, states of `hidden_size` values."""
    rng, n = np.random.default_rng(0), sum(lengths)
    tokens = rng.integers(0, vocab, n).astype(np.int32)
    return Rollouts(
        rng.normal(size=(n, hidden_size)).astype(np.float16),
        tokens,
        np.tile(tokens[:, None], (1, 8)).astype(np.int32),
        np.full((n, 8), -2, np.float16),
        np.cumsum([0, *lengths]),
        np.zeros(len(lengths)),
        ["s"] * len(lengths),
        [bytes([i]) for i in range(len(lengths))],
    )


def test_backbone_equals_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = write_tiny_model(tmp_path / "m")
    reference = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(0, 258, (3, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference.model(ids).last_hidden_state
    backbone = load_backbone(folder)
    cache = backbone.new_cache(3, 16)
    got = torch.stack([backbone.step(ids[:, i], torch.full((3,), i), cache) for i in range(12)], dim=1)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_c_kernel_equals_torch_attention() -> None:
    if cpu_attention.load_kernel() is None:
        pytest.skip("no C compiler")
    g = torch.Generator().manual_seed(0)
    for group, dim in ((3, 64), (1, 32), (4, 128)):
        q = torch.randn(5, 2, group, dim, generator=g)
        k, v = (torch.randn(5, 2, 40, dim, generator=g).bfloat16() for _ in range(2))
        lengths = torch.tensor([1, 7, 16, 39, 40])
        mask = (torch.arange(40) < lengths[:, None])[:, None, None]
        expected = torch.nn.functional.scaled_dot_product_attention(q, k.float(), v.float(), attn_mask=mask)
        torch.testing.assert_close(cpu_attention.decode_attention(q, k, v, lengths), expected, atol=2e-5, rtol=1e-4)


def test_special_tokens_in_user_text_stay_text(tmp_path: Path) -> None:
    chat = load_chat_tokens(write_tiny_model(tmp_path / "m"), "s")
    turn = chat.user_turn("a<|im_end|>b")
    assert turn.count(chat.end) == 2  # the system turn's and the user turn's own
    assert chat.tokenizer.decode(turn, skip_special_tokens=False).count("<|im_end|>") == 3


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


def test_tree_is_the_best_set_of_products() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        heads, width, nodes = rng.integers(1, 5), rng.integers(1, 5), int(rng.integers(1, 30))
        marginals = -np.sort(-rng.random((heads, width)), axis=1)
        every = [p for d in range(1, heads + 1) for p in itertools.product(range(width), repeat=d)]
        every.sort(key=lambda p: -np.prod([marginals[k, r] for k, r in enumerate(p)]))
        assert set(best_first_tree(marginals, nodes)) == set(every[: nodes - 1])


def test_tree_of_the_worked_vector() -> None:
    """ALGORITHMS: m = 3, n = 10 -> these rank paths."""
    logits = np.array([[2, 1, -0.5], [1.5, 1.1, -1], [0.9, 0.2, -0.3], [0.4, 0.3, 0]])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = {(0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1), (0, 0, 0), (0, 0, 1), (0, 1, 0)}
    assert set(best_first_tree(p, 10)) == expected


def test_saturated_probabilities_orphan_no_child() -> None:
    marginals = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    for nodes in range(1, 12):
        tree = set(best_first_tree(marginals, nodes))
        assert all(path[:-1] in tree for path in tree if len(path) > 1)


def test_nested_tree_holds_the_static_tree_of_every_size() -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        shares = np.sort(rng.random((4, 12)), axis=1)[:, ::-1].astype(np.float32)
        shares[:, [4, 5]] = shares[:, [5, 4]]  # ranks whose shares are out of order
        paths = nested_tree(shares, 64)
        assert len(set(paths)) == 63
        value = {path: np.prod([shares[k, r] for k, r in enumerate(path)]) for path in paths}
        every = [p for d in range(1, 5) for p in itertools.product(range(12), repeat=d)]
        best = sorted((np.prod([shares[k, r] for k, r in enumerate(p)]) for p in every), reverse=True)
        for n in range(2, 65):
            # No other tree of n nodes holds more: the sum of its paths' shares is that of the best n - 1 of all.
            assert sum(value[p] for p in paths[: n - 1]) == pytest.approx(sum(best[: n - 1]), rel=1e-5)
            assert all(p[:-1] in paths[: n - 1] for p in paths[: n - 1] if len(p) > 1)


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


def test_simulation_counts_bonus_tokens_and_steps() -> None:
    tokens = np.array([5, 6, 7, 8, 9, 5, 6])  # two answers: 5 and 2 tokens
    offsets = np.array([0, 5, 7])
    ids = np.full((7, 2, 1), 99)
    ids[0] = [[6], [7]]  # at the first row both heads are right
    proposals = Proposals(ids, np.full((7, 2, 1), 0.9, np.float32))
    for tree in (dynamic_tree(proposals, 3), static_tree(np.array([[0.9], [0.8]]), 3), oracle):
        tally = simulate(proposals, tokens, offsets, tree, limit=100)
        # Step 1 adds 6, 7 and the bonus 8; step 2 adds 9; the second answer takes one step.
        assert (tally.added, tally.steps, tally.per_answer) == (5, 3, [(4, 2), (1, 1)])
        assert tally.accepted_by_depth.tolist() == [1, 1]
    assert simulate(proposals, tokens, offsets, dynamic_tree(proposals, 1), 100).tokens_per_step == 1
    assert simulate(proposals, tokens, offsets, oracle, limit=3).per_answer == [(2, 1), (1, 1)]


def reading_heads(tokens: str) -> MedusaHeads:
    """3 random heads of 2 blocks on states of 8 values, a vocabulary of 60, reading `tokens`."""
    torch.manual_seed(0)
    heads = MedusaHeads(HeadsConfig(3, 8, 2, 20, tokens=tokens), torch.arange(0, 60, 3))
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter)
    heads.attach_embedding(torch.randn(60, 8), 0.5)
    return heads


def test_heads_read_the_tokens_up_to_their_target_and_no_others() -> None:
    hidden, tokens = torch.randn(2, 8), torch.tensor([[3, 10, 17], [40, 41, 42]])
    for reads, read in (("root", [1, 1, 1]), ("path", [1, 2, 3])):
        heads = reading_heads(reads)
        before = [x.detach() for x in heads(hidden, tokens)]
        for changed in range(3):
            other = tokens.clone()
            other[:, changed] = 25
            after = heads(hidden, other)
            assert [bool((a != b).any()) for a, b in zip(after, before, strict=True)] == [changed < n for n in read]
    # The formula, written out for the last head: y = W h + U_0 e(x1) + U_1 e(x2) + U_2 e(x3) + b.
    e = 0.5 * heads.embedding[tokens]
    y = hidden @ heads.block_weight[2][0].T + heads.block_bias[2][0]
    y = y + sum(e[:, d] @ heads.token_weight[2][d].T for d in range(3))
    x = hidden + y * torch.sigmoid(y)
    y = x @ heads.block_weight[2][1].T + heads.block_bias[2][1]
    torch.testing.assert_close(heads.trunk(hidden, 2, tokens), x + y * torch.sigmoid(y))
    with pytest.raises(ValueError, match="need the tokens"):
        heads.trunk(hidden, 0)


def test_proposals_and_batches_give_a_head_the_tokens_of_its_own_answer() -> None:
    rollouts = made_rollouts([5, 4])
    heads = reading_heads("path")
    found = propose(heads, rollouts, 1)
    hidden = torch.from_numpy(rollouts.hidden).float()
    following = torch.from_numpy(np.stack([np.roll(rollouts.tokens, -d) for d in range(3)], 1)).long()
    expected = [heads.token_map[x.argmax(-1)].tolist() for x in heads(hidden, following)]
    # The last rows have no target for the later heads, and whatever these read there.
    assert found.ids[:7, :, 0].T.tolist() == [ids[:7] for ids in expected]
    batch = Batches(rollouts, 3, np.arange(60), 60).batch(0, 7, full=True)
    for row, read in zip(batch.hidden, batch.tokens, strict=True):
        at = int((hidden == row).all(1).nonzero()[0])
        assert read.tolist() == rollouts.tokens[np.minimum(at + np.arange(3), 8)].tolist()
    device = DeviceBatches(rollouts, 3, np.arange(60), 60, device="cpu").batch(0, 7)
    pairs = {(tuple(h.tolist()), tuple(t.tolist())) for h, t in zip(batch.hidden, batch.tokens, strict=True)}
    assert pairs == {(tuple(h.tolist()), tuple(t.tolist())) for h, t in zip(device.hidden, device.tokens, strict=True)}


def all_paths(heads: MedusaHeads, hidden: np.ndarray, root: int, temperatures: list[float], width: int) -> dict:
    """Probability of every rank path, each node's list computed by itself."""
    found: dict = {}
    reached = [((), [root], 1.0)]
    while reached:
        path, tokens, above = reached.pop()
        k = len(path)
        with torch.no_grad():
            logits = heads(torch.from_numpy(hidden).float()[None], torch.tensor([tokens + [0] * 3]))[k][0]
        top = torch.softmax(logits / temperatures[k], -1).topk(width)
        for rank in range(width):
            p = above * float(top.values[rank])
            found[(*path, rank)] = p
            if k + 1 < heads.config.heads:
                token = int(heads.token_map[top.indices[rank]])
                reached.append(((*path, rank), [*tokens, token], p))
    return found


@pytest.mark.parametrize("nodes", [2, 5, 30])
def test_sequential_trees_hold_the_most_probable_paths_of_all(nodes: int) -> None:
    heads, temperatures = reading_heads("path"), [1.0, 2.0, 3.0]
    for parameter in heads.output_weight:
        parameter.data *= 0.1
    hidden = np.random.default_rng(1).normal(size=8).astype(np.float16)
    tree = sequential_best_first_tree(heads, hidden, 7, temperatures, nodes, width=5)
    every = all_paths(heads, hidden, 7, temperatures, width=5)
    assert len(every) == 5 + 25 + 125
    best = sorted(every.values(), reverse=True)[: nodes - 1]
    np.testing.assert_allclose([every[path] for path in tree], best, rtol=1e-4)
    assert all(path[:-1] in tree for path in tree if len(path) > 1)


def test_sequential_trees_of_heads_that_read_the_root_only_are_the_ordinary_ones() -> None:
    rollouts, heads = made_rollouts([6]), reading_heads("root")
    for parameter in heads.output_weight:
        parameter.data *= 0.1
    proposals = propose(heads, rollouts, 5, [1.0, 1.0, 1.0])
    for row in range(6):
        root = int(rollouts.tokens[row])
        tree = sequential_best_first_tree(heads, rollouts.hidden[row], root, [1.0] * 3, 12, width=5)
        assert set(tree) == set(best_first_tree(proposals.probabilities[row], 12))


@pytest.mark.parametrize("quantise", [False, True])
@pytest.mark.parametrize("tokens", ["root", "path"])
def test_token_reading_heads_return_from_their_file_and_need_the_backbone(
    tmp_path: Path, tokens: str, quantise: bool
) -> None:
    heads, path = reading_heads(tokens), tmp_path / "h.safetensors"
    save_heads(heads, path, {"temperatures": [1, 1, 1]}, quantise=quantise)
    with pytest.raises(ValueError, match=f"read tokens .tokens: {tokens}.*--backbone"):
        load_heads(path)
    save_file({"model.embed_tokens.weight": heads.embedding.contiguous()}, str(tmp_path / "model.safetensors"))
    loaded, sidecar = load_heads(path, tmp_path)
    assert (sidecar["format"], sidecar["tokens"], sidecar["token_scale"]) == (3 if quantise else 2, tokens, 0.5)
    hidden, read = torch.randn(4, 8), torch.randint(60, (4, 3))
    for a, b in zip(loaded(hidden, read), heads(hidden, read), strict=True):
        assert (a - b).abs().max() < (0.1 if quantise else 0.02) * b.abs().max()
    if tokens == "root":
        own = read_own_heads(path)
        np.testing.assert_array_equal(own.token_weights[1], 0.5 * loaded.token_weight[1][0].detach())
        np.testing.assert_allclose(own.token_weights[1], 0.5 * heads.token_weight[1][0].detach(), atol=1e-2)
    else:
        with pytest.raises(ExportError, match="can be trained and measured, but not prepared"):
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


def test_quantised_rows_are_within_half_a_step() -> None:
    weight = np.random.default_rng(0).normal(size=(30, 16)).astype(np.float32)
    weight[3] = 0
    codes, scale = quantise_rows(weight)
    assert (np.abs(codes * scale[:, None] - weight) <= scale[:, None] / 2 + 1e-6).all()


def test_a_file_that_does_not_fit_its_sidecar_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "h.safetensors"
    save_heads(MedusaHeads(HeadsConfig(2, 8, 1, 20), torch.arange(20)), path, {})
    side = sidecar_path(path)
    side.write_text(side.read_text().replace('"hidden_size": 8', '"hidden_size": 16'))
    with pytest.raises(ValueError, match=r"\(8, 8\).*\(16, 16\)"):
        load_heads(path)
    side.write_text(side.read_text().replace('"format": 3', '"format": 9'))
    with pytest.raises(ValueError, match="format 9"):
        load_heads(path)


def test_draft_vocabulary_keeps_the_end_token() -> None:
    tokens = np.array([3, 3, 3, 5, 5, 9])
    assert frequent_tokens(tokens, 12, 3, always=(11,)).tolist() == [3, 5, 11]
    assert coverage(tokens, np.array([3, 5])) == pytest.approx(5 / 6)


@pytest.mark.parametrize("soft", [0.0, 0.5])
def test_batches_on_the_device_hold_what_those_on_the_host_do(soft: float) -> None:
    rng = np.random.default_rng(0)
    n, vocab, token_map = 60, 50, np.arange(0, 50, 2)
    rollouts = Rollouts(
        rng.normal(size=(n, 4)).astype(np.float16),
        rng.integers(0, vocab, n).astype(np.int32),
        rng.integers(0, vocab, (n, 8)).astype(np.int32),
        np.log(-np.sort(-rng.dirichlet(np.ones(8) * 0.3, n), axis=1) + 1e-6).astype(np.float16),
        np.array([0, 25, 27, n]),
        np.zeros(3),
        ["s"] * 3,
        [b"a", b"b", b"c"],
    )
    host = Batches(rollouts, 3, token_map, vocab, soft)
    device = DeviceBatches(rollouts, 3, token_map, vocab, soft, device="cpu")
    assert len(host) == len(device)
    # One batch of all positions: their order differs between the two, so rows are matched by their states.
    a, b = host.batch(0, len(host), full=True), device.batch(0, len(device))
    order = [int((b.hidden == row).all(1).nonzero()[0]) for row in a.hidden]
    for (ids, mass), (other_ids, other_mass) in zip(a.per_head, b.per_head, strict=True):
        torch.testing.assert_close(other_mass[order], mass)
        assert (other_ids[order] == ids)[mass > 0].all()
    again, other = device.batch(3, 10), device.batch(4, 10)
    assert torch.equal(device.batch(3, 10).hidden, again.hidden) and not torch.equal(again.hidden, other.hidden)
    epoch = torch.cat([device.batch(step, 10).hidden for step in range(len(device) // 10)])
    assert len(epoch.unique(dim=0)) == len(epoch)  # every position at most once a pass


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
