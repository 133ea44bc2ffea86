"""The other way to attend over a cache in place: TensorScatter and the Attention of opset 24, instead of
GroupQueryAttention. `with_attention_24` rewrites a finished graph of layout "shared", so that two graphs differ in
their attention and in nothing else; they share one file of weights.

    qkv [n, (Q + 2G) D] --Reshape, Transpose--> [1, Q + 2G, n, D] --Split--> qk, v
    qk --RotaryEmbedding(position_ids)--Split--> q [1, Q, n, D], k [1, G, n, D]
    k, cache_key.i --TensorScatter(write index [1], axis 2)--> cache_key_out.i [1, G, capacity, D]; v likewise
    q, cache_key_out.i, cache_value_out.i, attention_bias --Attention--> [1, Q, n, D] --Transpose, Reshape--> [n, Q D]

The write index is the first position id (the root's, or the first row's of a prompt), so it never leaves the device.
The bias must span the whole cache: T = capacity. `seqlens_k` and `total_sequence_length` stay inputs, unused.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from ..weights.config import ModelConfig
from .builder import CONTRIB

OPSET = 24
_IR_VERSION = 11


def with_capacity(model: onnx.ModelProto, capacity: int) -> onnx.ModelProto:
    """A copy of a "shared" graph with another capacity. The rotary tables must reach that far."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for value in [*changed.graph.input, *changed.graph.output]:
        if value.name.startswith("cache_"):
            value.type.tensor_type.shape.dim[2].dim_value = capacity
    return changed


def with_attention_24(model: onnx.ModelProto, config: ModelConfig) -> onnx.ModelProto:
    """A copy of a "shared" graph with every GroupQueryAttention replaced; interface and weights stay."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    made_by = {name: node for node in graph.node for name in node.output}
    used_by = {name: node for node in graph.node for name in node.input}
    replaced: dict[str, list[onnx.NodeProto]] = {}  # by the name of the node they stand for
    dropped: set[str] = set()
    for node in graph.node:
        if node.op_type != "GroupQueryAttention":
            continue
        unsqueeze, squeeze = made_by[node.input[0]], used_by[node.output[0]]
        replaced[node.name] = _nodes(node, unsqueeze.input[0], squeeze.output[0], config)
        dropped |= {squeeze.name, unsqueeze.name}
    nodes = [_write_index()]
    for node in graph.node:
        if node.name not in dropped:
            nodes.extend(replaced.get(node.name, [node]))
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(_constants(config))
    changed.ir_version = _IR_VERSION
    del changed.opset_import[:]
    changed.opset_import.extend([helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)])
    return changed


def _write_index() -> onnx.NodeProto:
    """position_ids int64 [1, n] -> [1]: where the first row of the run goes."""
    inputs = ["position_ids", "attention24.zero", "attention24.one", "attention24.one"]  # starts, ends, axes
    return helper.make_node("Slice", inputs, ["attention24.first"], name="attention24.first/Slice")


def _constants(config: ModelConfig) -> list[TensorProto]:
    q, g, d = config.query_heads, config.kv_heads, config.head_dim
    values = {
        "zero": [0],
        "one": [1],
        "index_shape": [-1],
        "heads_shape": [1, -1, q + 2 * g, d],
        "rows_shape": [-1, q * d],
        "qk_v": [q + g, g],
        "q_k": [q, g],
    }
    return [helper.make_tensor(f"attention24.{k}", TensorProto.INT64, [len(v)], v) for k, v in values.items()]


def _nodes(gqa: onnx.NodeProto, qkv: str, result: str, config: ModelConfig) -> list[onnx.NodeProto]:
    """What stands for one layer's Unsqueeze, GroupQueryAttention and Squeeze."""
    name = gqa.output[0]
    cos, sin, positions, bias = gqa.input[7:11]
    nodes: list[onnx.NodeProto] = []

    def node(op: str, inputs: list[str], *outputs: str, domain: str = "", **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, outputs, name=f"{outputs[0]}/{op}", domain=domain, **attributes))
        return outputs[0]

    rows = node("Reshape", [qkv, "attention24.heads_shape"], name + ".rows")
    heads = node("Transpose", [rows], name + ".heads", perm=[0, 2, 1, 3])
    node("Split", [heads, "attention24.qk_v"], name + ".qk", name + ".v", axis=1)
    # Axis 1 of position_ids [1, n] are the rows; RotaryEmbedding takes [batch, heads, rows, size].
    node("RotaryEmbedding", [name + ".qk", positions, cos, sin], name + ".rotated", domain=CONTRIB)
    node("Split", [name + ".rotated", "attention24.q_k"], name + ".q", name + ".k", axis=1)
    index = node("Reshape", ["attention24.first", "attention24.index_shape"], name + ".index")
    keys = node("TensorScatter", [gqa.input[3], name + ".k", index], gqa.output[1], axis=2, mode="linear")
    values = node("TensorScatter", [gqa.input[4], name + ".v", index], gqa.output[2], axis=2, mode="linear")
    mixed = node("Attention", [name + ".q", keys, values, bias], name + ".mixed", scale=config.head_dim**-0.5)
    node("Transpose", [mixed], name + ".by_row", perm=[0, 2, 1, 3])
    node("Reshape", [name + ".by_row", "attention24.rows_shape"], result)
    return nodes
