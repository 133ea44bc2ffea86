"""The end of a backbone: wanted rows, final norm, LM head, best token, and logits only for those who ask.

x [n, H] --Gather(output_rows [r])--> [r, H] --norm--> hidden [r, H] --LM head--> [r, V] --TopK(1)--> next_tokens [r]
                                                                                    '--If(want_logits)--> logits

Without a `want_logits` (layout "shared") the logits always come out; the runtime leaves them on the device when nobody
asks. CUDA graphs cannot hold an If.
"""

from __future__ import annotations

from onnx import TensorProto, helper

from ..weights.rotation import RotatedSource
from ..weights.source import WeightSource
from .builder import GraphBuilder
from .linear import Linear
from .norm import skip_rms_norm


def head_tensor_name(source: WeightSource) -> str:
    return "embed.weight" if source.config.tied_embeddings else "lm_head.weight"


def emit_tail(
    b: GraphBuilder, source: WeightSource, linear: Linear, x: str, skip: str, rows: str, want: str | None
) -> None:
    """X and skip: [n, H], whose sum is the last layer's result. Declares next_tokens, logits and hidden."""
    config = source.config
    b.row_set = "wanted"
    x_rows, skip_rows = b.node("Gather", [x, rows], axis=0), b.node("Gather", [skip, rows], axis=0)
    gain = source.tensor("norm.weight")
    is_rotated = isinstance(source, RotatedSource)
    # Outputs carry their names from the node that makes them: a node in between would copy them.
    output = "" if is_rotated else "hidden"
    normed, _ = skip_rms_norm(b, "final_norm", x_rows, skip_rows, gain, config.rms_norm_eps, linear.dtype, output)
    if is_rotated:
        b.node("MatMul", [normed, b.weight("hidden.turn_back", source.hidden_matrix())], "hidden")
        matrix = source.output_matrix(head_tensor_name(source))
    else:
        matrix = source.tensor(head_tensor_name(source))
    scores = linear.apply(b, "lm_head", normed, [matrix])
    wide = scores
    if linear.dtype != "float32":
        wide = b.node("Cast", [scores], "logits" if want is None else "", to=TensorProto.FLOAT)
    # TopK(1) takes two thirds of ArgMax's time over 49152 columns; both prefer the lower id among equals.
    best = b.nodes("TopK", [wide, b.ints(1)], ["best_scores", "best_tokens"], axis=-1)[1]
    b.node("Reshape", [best, b.ints(-1)], "next_tokens")
    if want is not None:
        emit_logits(b, wide, want, config.vocab_size)
    elif wide != "logits":
        b.node("Identity", [wide], "logits")
    b.output("next_tokens", "int64", ["r"])
    b.output("logits", "float32", ["r" if want is None else "rows_of_logits", config.vocab_size])
    b.output("hidden", linear.dtype, ["r", config.hidden_size])
    b.row_set = "all"


def emit_logits(b: GraphBuilder, scores: str, want: str, vocab: int) -> None:
    """Logits = scores [r, V] if want else an empty [0, V]; only the wish costs a copy."""

    def branch(name: str, node: object) -> object:
        info = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([node], name, [], [info])

    empty = helper.make_tensor("empty", TensorProto.FLOAT, [0, vocab], [])
    yes = branch("logits.wanted", helper.make_node("Identity", [scores], ["logits.wanted"]))
    no = branch("logits.unwanted", helper.make_node("Constant", [], ["logits.unwanted"], value=empty))
    b.node("If", [want], "logits", then_branch=yes, else_branch=no)
