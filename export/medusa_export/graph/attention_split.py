"""Attention of layout "split": the past comes in read-only and padded, the step's own keys and values go out.

    qkv [n, (Q + 2G) D]
     | Reshape, Transpose, Split
     |-- q,k [1, Q + G, n, D] -- RotaryEmbedding(position_ids [1, n]) -- Split -- q [1, Q, n, D], k [1, G, n, D]
     '-- v [1, G, n, D]
                  where queries and keys have norms: Split -- q, k, v; q and k each -- norm -- RotaryEmbedding
                                          q grouped by key-value head: [1, G, 1, (Q/G) n, D]
                                          past as blocks of C/B tokens: [1, G, B, C/B, D], the same memory
    q x past_k^T / sqrt(D) + bias: [1, G, B, (Q/G) n, C/B]     q x k^T / sqrt(D) + bias: [1, G, 1, (Q/G) n, n]
    softmax over all, x past_v and x v, summed over blocks -> [1, G, 1, (Q/G) n, D] -> [n, Q D]

Past and new rows are multiplied apart. Joined, the past would be copied at every layer, which takes longer than its
products. ONNX Runtime gives the products of a head to one thread where there are as many heads as threads or more: of 2
threads with 3 heads, one would wait. So the past is cut into B blocks, and C is a multiple of B. The bias [n, C + n] is
split once a run. Rows of layers without a window all see the same of the past, so one row of its bias is added there;
the rest is repeated for the query heads of a group.

| symbol | meaning | symbol | meaning |
|---|---|---|---|
| n | rows of this run | Q | query heads |
| C | padded past | G | key-value heads |
| D | head size | B | BLOCKS |

A row must give the same bits wherever its ancestors stand: in the past or among the rows of this run. Everything else
in the graph works row by row, but the last bit of a float32 sum over tokens depends on their order, and an int8
rounding after it makes that another code (docs/exactness.md). So the sums over tokens, sum(exp) and weights x values,
come in three kinds:

| sums | how | for |
|---|---|---|
| float | Softmax, float32 products | comparisons only: rows differ by 1e-4 |
| double | exp in float32, sums in float64 | fp32, and block-quantised products on weights as they are |
| whole | whole numbers below 2^24 in float32 | rotated weights, whose values have a known size |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from ..weights.config import ModelConfig
from .builder import GraphBuilder
from .head_norm import HeadNorms

UNIT = 2**13  # steps between probability 0 and 1 where sums are "whole"
BLOCKS = 4  # of the past
_BLOCK = f"C/{BLOCKS}"  # tokens of each
CLOSED = -1e9  # added to scores of what a row does not see, as the runtime's bias does


@dataclass(frozen=True)
class SplitInputs:
    """Values that every layer shares."""

    position_ids: str  # int64 [1, n]
    # By window (0: none), what is added to scores of the past and of this run's rows:
    # float32 [B, 1, C/B], with a window [B, (Q/G) n, C/B]; and [(Q/G) n, n].
    biases: dict[int, tuple[str, str]]
    tables: tuple[str, str]  # cos and sin, [positions, D / 2] each
    local_tables: tuple[str, str]  # of the layers with a window


def shared_inputs(
    b: GraphBuilder, config: ModelConfig, bias: str, position_ids: str, tables: tuple[str, str], local: tuple[str, str]
) -> SplitInputs:
    """Computes once a run what all layers use."""
    heads_a_group = config.query_heads // config.kv_heads
    positions = b.node("Unsqueeze", [position_ids, b.ints(0)])
    past = b.node("Shape", ["past_key.0"], start=2, end=3)  # [1]: C
    sizes = b.node("Concat", [past, b.node("Shape", [position_ids])], axis=0)
    biases = {}
    for window in sorted(set(config.windows or (0,))):
        own = windowed(b, bias, position_ids, window) if window else bias
        old, new = b.nodes("Split", [own, sizes], [f"bias.{window}.past", f"bias.{window}.new"], axis=1)
        if window:
            old = b.node("Concat", [old] * heads_a_group, axis=0)
        else:
            old = b.node("Slice", [old, b.ints(0), b.ints(1), b.ints(0)])
        rows = f"{heads_a_group}n"
        cut = b.sized(b.node("Reshape", [old, b.ints(0, BLOCKS, -1)]), [rows if window else 1, BLOCKS, _BLOCK])
        each_head = b.sized(b.node("Concat", [new] * heads_a_group, axis=0), [rows, "n"])
        biases[window] = b.node("Transpose", [cut], perm=[1, 0, 2]), each_head
    return SplitInputs(positions, biases, tables, local)


def windowed(b: GraphBuilder, bias: str, position_ids: str, window: int) -> str:
    """Bias [n, C + n], closed where a column's token lies `window` positions before the row's or more.

    Column j < C is position j of the text, the others are the rows themselves. A node of a tree has the position that
    it would have in the text, so it sees of its path and of the past what the text would see.
    """

    def distances() -> str:
        past = b.node("Squeeze", [b.node("Shape", ["past_key.0"], start=2, end=3), b.ints(0)])  # C
        zero, one = b.constant("i64.zero", np.int64(0)), b.constant("i64.one", np.int64(1))
        columns = b.node("Concat", [b.node("Range", [zero, past, one]), position_ids], axis=0)
        return b.node("Sub", [b.node("Unsqueeze", [position_ids, b.ints(1)]), columns])

    far = b.node(
        "GreaterOrEqual", [b.once("distances", distances), b.constant(f"i64.window.{window}", np.int64(window))]
    )
    return b.node("Where", [far, b.constant("f32.closed", CLOSED), bias])


def split_attention(
    b: GraphBuilder,
    config: ModelConfig,
    name: str,
    qkv: str,
    past_key: str,
    past_value: str,
    shared: SplitInputs,
    sums: str,
    norms: HeadNorms | None = None,
    window: int = 0,
) -> tuple[str, str, str]:
    """Returns (mixed values [n, Q D], new keys [1, G, n, D], new values [1, G, n, D]); `sums` as above.

    `window`: tokens that a row sees, itself included; 0: all.
    """

    def rotate(x: str, result: str) -> str:
        tables = shared.local_tables if window else shared.tables
        return b.contrib("RotaryEmbedding", [x, shared.position_ids, *tables], result)

    heads, groups, size = config.query_heads, config.kv_heads, config.head_dim
    each = b.reshape(qkv, (1, -1, heads + 2 * groups, size), "n")
    by_head = b.node("Transpose", [each], perm=[0, 2, 1, 3])
    if norms is None:
        qk, v = b.nodes("Split", [by_head, b.ints(heads + groups, groups)], [name + ".qk", name + ".v"], axis=1)
        rotated = rotate(qk, name + ".rotated")
        q, k = b.nodes("Split", [rotated, b.ints(heads, groups)], [name + ".q", name + ".k"], axis=1)
    else:
        parts = [f"{name}.{part}" for part in ("q_plain", "k_plain", "v")]
        q, k, v = b.nodes("Split", [by_head, b.ints(heads, groups, groups)], parts, axis=1)
        q, k = norms.apply(b, name, q, k)
        q, k = rotate(q, name + ".q"), rotate(k, name + ".k")
    if sums == "whole":
        v = b.node("Round", [v], name + ".v_whole")
    grouped = b.reshape(q, (1, groups, 1, -1, size), f"{heads // groups}n")
    parts = []
    old, new = shared.biases[window]
    for keys, values, count, tokens, bias in ((past_key, past_value, BLOCKS, _BLOCK, old), (k, v, 1, "n", new)):
        keys, values = (b.reshape(x, (1, groups, count, -1, size), tokens) for x in (keys, values))
        scores = b.contrib("FusedMatMul", [grouped, keys], transB=1, alpha=config.score_scale)
        parts.append((b.node("Add", [scores, bias]), values))
    mixed = _MIXERS[sums](b, parts)
    rows = b.node("Transpose", [b.reshape(mixed, (1, heads, -1, size), "n")], perm=[0, 2, 1, 3])
    return b.reshape(rows, (-1, heads * size), "n", name=name + ".mixed"), k, v


# Of the past and of the new rows: scores [1, G, b, (Q/G) n, T] and values [1, G, b, T, D] of b blocks of T tokens.
Parts = list[tuple[str, str]]


def _mix_float(b: GraphBuilder, parts: Parts) -> str:
    """softmax(scores) x values over the tokens of all parts: [1, G, 1, (Q/G) n, D]."""
    top = _top(b, parts)
    weights = [b.node("Exp", [b.node("Sub", [scores, top])]) for scores, _ in parts]
    summed = _sum(b, [b.node("MatMul", [w, values]) for w, (_, values) in zip(weights, parts, strict=True)])
    return b.node("Div", [summed, _total(b, weights)])


def _mix_double(b: GraphBuilder, parts: Parts) -> str:
    """The same with both sums in float64."""
    top = _top(b, parts)
    weights, products = [], []
    for scores, values in parts:
        weight = b.node("Cast", [b.node("Exp", [b.node("Sub", [scores, top])])], to=TensorProto.DOUBLE)
        weights.append(weight)
        products.append(b.node("MatMul", [weight, b.node("Cast", [values], to=TensorProto.DOUBLE)]))
    return b.node("Cast", [b.node("Div", [_sum(b, products), _total(b, weights)])], to=TensorProto.FLOAT)


def _mix_whole(b: GraphBuilder, parts: Parts) -> str:
    """The same with probabilities in whole multiples of 1 / UNIT and whole values below 2^11.

    e = round(UNIT exp(s - max)), p = round(e UNIT / sum(e)). All terms and partial sums are whole numbers below 2^24,
    so float32 adds them without error, in any order, and so are the parts' products, counted in 1 / UNIT.
    """
    base = b.node("Sub", [_top(b, parts), b.constant("f32.log_unit", float(np.log(UNIT)))])
    weights = [_rounded(b, b.node("Exp", [b.node("Sub", [scores, base])])) for scores, _ in parts]
    factor = b.node("Div", [b.constant("f32.unit", float(UNIT)), _total(b, weights)])
    products = []
    for e, (_, values) in zip(weights, parts, strict=True):
        p = _rounded(b, b.node("Mul", [e, factor]))
        products.append(b.contrib("FusedMatMul", [p, values], alpha=1 / UNIT))
    return _sum(b, products)


def _rounded(b: GraphBuilder, x: str) -> str:
    """X in 0..2^22 rounded to whole numbers: its float32 sum with 1.5 * 2^23 has no place for more.

    The same bits as Round, in about 1% less of a step's time.
    """
    shift = b.constant("f32.shift", 1.5 * 2**23)
    return b.node("Sub", [b.node("Add", [x, shift]), shift])


def _top(b: GraphBuilder, parts: Parts) -> str:
    """The largest score of each row: [1, G, 1, (Q/G) n, 1]."""
    return _over_blocks(b, "ReduceMax", [b.node("ReduceMax", [scores, b.ints(-1)], keepdims=1) for scores, _ in parts])


def _total(b: GraphBuilder, weights: list[str]) -> str:
    """The sum of each row's weights: [1, G, 1, (Q/G) n, 1]."""
    return _sum(b, [b.node("ReduceSum", [each, b.ints(-1)], keepdims=1) for each in weights])


def _sum(b: GraphBuilder, terms: list[str]) -> str:
    return _over_blocks(b, "ReduceSum", terms)


def _over_blocks(b: GraphBuilder, op: str, parts: list[str]) -> str:
    """Values [1, G, b, ...] of each part -> [1, G, 1, ...]."""
    return b.node(op, [b.node("Concat", parts, axis=2), b.ints(2)], keepdims=1)


_MIXERS = {"float": _mix_float, "double": _mix_double, "whole": _mix_whole}
