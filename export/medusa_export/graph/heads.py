"""The heads graph: the hidden state of one row -> for each head the top-m tokens and their probabilities.

hidden F [r, H] --Gather(row [1])--> h [1, H]
  block 0 of all heads as one product: h x [H, K H] -> [K, 1, H], + bias, SiLU, + h
  further blocks: [K, 1, H] x [K, H, H], the same
  heads that read the chosen token: token [1] --Gather(embedding [V, H])--> e [1, H]; block 0 reads h and e side by
  side, [1, 2 H] x [2 H, K H]
  outputs: K products [1, H] x [H, V'] --Concat--> [K, V'] --x 1/temperature--Softmax--TopK(top_m)-->
  top_probs [K, m], token_map --> top_ids [K, m]
With a conditional joint that depends on the hidden state, also, in float32:
  h x [H, K r] --> [K, r], + bias --> context [K, r]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto

from ..weights.conditional_file import ConditionalTables
from ..weights.heads_checkpoint import HeadMatrix, HeadsCheckpoint, LazyMatrix
from ..weights.source import Array
from .builder import GraphBuilder
from .embedding import embed
from .linear import Int8RowLinear, quantise_rows
from .linear_nbits import emit_nbits, quantise_blocks

MAX_TOP_M = 64


def build_heads(heads: HeadsCheckpoint, precision: str, path: Path) -> GraphBuilder:
    """`precision`: fp32, fp16 (hidden comes as float16) or int8 (hidden comes as float32)."""
    dtype = "float16" if precision == "fp16" else "float32"
    b = GraphBuilder("heads", path)
    size, count, draft = heads.hidden_size, heads.count, heads.draft_vocab_size
    hidden = b.input("hidden", dtype, ["r", size])
    row = b.input("row", "int64", [1])
    top_m = b.input("top_m", "int64", [1])
    emit = _HeadProducts(b, heads, precision, dtype)
    h = b.node("Gather", [hidden, row], axis=0)  # [1, H]
    e = None if heads.token_weights is None else _embedded(b, heads, precision, dtype)
    x = emit.outputs(emit.blocks(h, e))  # [K, V']
    if dtype == "float16":
        x = b.node("Cast", [x], to=TensorProto.FLOAT)
    if any(t != 1 for t in heads.temperatures):
        inverse = 1 / np.asarray(heads.temperatures, np.float32)[:, None]
        x = b.node("Mul", [x, b.constant("inverse_temperature", inverse)])
    probabilities = b.node("Softmax", [x], axis=-1)
    outputs = ["top_probs", "draft_ids" if heads.token_map is not None else "top_ids"]
    b.nodes("TopK", [probabilities, top_m], outputs, axis=-1, largest=1, sorted=1)
    if heads.token_map is not None:
        table = b.weight("token_map", heads.token_map.astype(np.int64))
        b.node("Gather", [table, "draft_ids"], "top_ids", axis=0)
    assert draft == heads.outputs[0].shape[0]
    b.output("top_ids", "int64", [count, "m"])
    b.output("top_probs", "float32", [count, "m"])
    if heads.conditional is not None and heads.conditional.context_weight is not None:
        b.output(_context(b, h, dtype, heads.conditional), "float32", [count, heads.conditional.rank])
    return b


def _embedded(b: GraphBuilder, heads: HeadsCheckpoint, precision: str, dtype: str) -> str:
    """Token [1] -> its row of the embedding, [1, H]. int8 keeps a Q8_0 table, or rounds each row to int8 and a scale:
    the row only helps to guess.
    """
    table, token = heads.embedding, b.input("token", "int64", [1])
    assert table is not None, "heads that read tokens need the embedding (prepare attaches it)"
    blocks = table.blocks() if precision == "int8" else None
    if precision != "int8" or (blocks is not None and blocks.offset is None):
        return embed(b, table, token, dtype, keep_codes=precision == "int8")
    codes, scale = quantise_rows(table.float32())
    row = b.node("Gather", [b.weight("embed.codes", codes), token], axis=0)
    scale_of_row = b.node("Gather", [b.weight("embed.scale", scale[:, None]), token], axis=0)
    return b.node("Mul", [b.node("Cast", [row], to=TensorProto.FLOAT), scale_of_row])


def _context(b: GraphBuilder, h: str, dtype: str, tables: ConditionalTables) -> str:
    """H [1, H] -> z [K, r]; float32 in every precision, since it is small and goes through an exponential."""
    count, rank, size = tables.context_weight.shape
    if dtype == "float16":
        h = b.node("Cast", [h], to=TensorProto.FLOAT)
    flat = b.node("MatMul", [h, b.weight("context.weight", tables.context_weight.reshape(count * rank, size).T)])
    rows = b.node("Reshape", [flat, b.ints(count, rank)])
    return b.node("Add", [rows, b.weight("context.bias", tables.context_bias)], "context")


class _HeadProducts:
    """The products of the heads in one precision.

    int8 goes through MatMulNBits (codes of the checkpoint are kept): its activations have a scale for each block, which
    the outlying channels of `hidden` need, and it is one node where a scale a row takes five.
    """

    def __init__(self, b: GraphBuilder, heads: HeadsCheckpoint, precision: str, dtype: str) -> None:
        self._b, self._heads = b, heads
        self._int8 = Int8RowLinear() if precision == "int8" else None
        self._numpy = np.dtype(dtype)

    def blocks(self, h: str, e: str | None = None) -> str:
        """H [1, H] and, for heads that read it, the token's row e [1, H] -> [K, 1, H]."""
        b, count, size = self._b, self._heads.count, self._heads.hidden_size
        x = b.node("Expand", [b.node("Unsqueeze", [h, b.ints(0)]), b.ints(count, 1, size)])
        for j in range(len(self._heads.blocks[0])):
            name = f"block.{j}"
            weights = np.stack([head[j][0] for head in self._heads.blocks])  # [K, H out, H in]
            if j == 0:
                first = h
                if e is not None:
                    first = b.node("Concat", [h, e], axis=1)
                    scaled = [self._heads.token_scale * u for u in self._heads.token_weights]
                    weights = np.concatenate((weights, np.stack(scaled)), axis=2)
                flat = self._product(name, first, weights.reshape(count * size, -1))
                y = b.node("Reshape", [flat, b.ints(count, 1, size)])
            else:
                y = self._each(name, x, weights)
            bias = np.stack([head[j][1] for head in self._heads.blocks])[:, None, :].astype(self._numpy)
            y = b.node("Add", [y, b.weight(name + ".bias", bias)])
            x = b.node("Add", [x, b.contrib("QuickGelu", [y], alpha=1.0)])
        return x

    def outputs(self, x: str) -> str:
        """X [K, 1, H] -> [K, V']."""
        b, outputs = self._b, self._heads.outputs
        if all(output is outputs[0] for output in outputs):  # one matrix for all heads: read once
            b.row_set = "heads"
            return self._codes("output", b.node("Squeeze", [x, b.ints(1)]), outputs[0])
        if self._int8 is None:
            rows, size = outputs[0].shape
            weights = np.empty((len(outputs), size, rows), self._numpy)
            for k, output in enumerate(outputs):  # one in memory at a time beside the result
                weights[k] = output.float32().T
            return b.node("Squeeze", [b.node("MatMul", [x, b.weight("output.weight", weights)]), b.ints(1)])
        rows = [self._codes(f"output.{k}", self._row(x, k), output) for k, output in enumerate(outputs)]
        return b.node("Concat", rows, axis=0)

    def _each(self, name: str, x: str, weights: Array) -> str:
        """X [K, 1, H], head k times weights[k]^T -> [K, 1, H]."""
        b, count, size = self._b, *weights.shape[:2]
        if self._int8 is None:
            return b.node("MatMul", [x, b.weight(name + ".weight", weights.transpose(0, 2, 1).astype(self._numpy))])
        rows = [self._product(f"{name}.{k}", self._row(x, k), weights[k]) for k in range(count)]
        return b.node("Reshape", [b.node("Concat", rows, axis=0), b.ints(count, 1, size)])

    def _row(self, x: str, k: int) -> str:
        """X [K, 1, H] -> [1, H] of head k."""
        return self._b.node("Gather", [x, self._b.constant(f"head.{k}", np.int64(k))], axis=0)

    def _product(self, name: str, x: str, weight: Array) -> str:
        """X [1, H] times weight [N, H]^T."""
        return self._codes(name, x, HeadMatrix(weight, None))

    def _codes(self, name: str, x: str, matrix: HeadMatrix | LazyMatrix) -> str:
        """X [r, H] times `matrix` [N, H]^T, whose int8 codes are kept."""
        b = self._b
        if self._int8 is None:
            return b.node("MatMul", [x, b.weight(name + ".weight", matrix.float32().T.astype(self._numpy))])
        block = next((n for n in (64, 32) if matrix.shape[1] % n == 0), None)
        if block is None:
            codes, scale = (matrix.codes, matrix.scale) if matrix.scale is not None else quantise_rows(matrix.codes)
            weight = b.weight(name + ".weight", codes.T)
            width = matrix.shape[1]
            return self._int8.apply_codes(b, name, x, width, weight, b.weight(name + ".scale", scale))
        if matrix.scale is None:
            return emit_nbits(b, name, x, *quantise_blocks(matrix.float32(), 8, block), 8, block)
        scales = np.repeat(matrix.scale[:, None], matrix.shape[1] // block, axis=1)
        codes, zero = matrix.codes.astype(np.int16) + 128, np.full(scales.shape, 128, np.uint8)
        return emit_nbits(b, name, x, codes.astype(np.uint8), scales, zero, 8, block)
