"""Opens graphs on the CPU with exact int8 products: for tests and measurements. The program does it in src/runtime."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper


def open_session(model: Path | bytes, threads: int = 1, unsigned_weights: bool | None = None) -> ort.InferenceSession:
    """A graph, from its file or its bytes.

    threads: within an operator; 0 for ONNX Runtime's own choice.
    unsigned_weights: whether int8 weights become uint8; by default where their products would saturate.
    """
    if unsigned_weights is None:
        unsigned_weights = needs_unsigned_weights()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if unsigned_weights:
        options.add_session_config_entry("session.x64quantprecision", "1")
    graph = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@functools.cache
def needs_unsigned_weights() -> bool:
    """Whether products of uint8 activations and int8 weights saturate here, as src/runtime/cpu/kernels.ts asks it."""
    found = open_session(product_of_extremes(), 1, False).run(None, {"x": np.full((1, EXTREMES), 255, np.uint8)})[0]
    return bool((np.abs(found) != 127 * 127 * EXTREMES).any())


EXTREMES = 256


def product_of_extremes() -> bytes:
    """A product of x [n, EXTREMES] with weights of 127 and -127 in turns of columns."""
    return int8_product(np.tile(np.array([127, -127], np.int8), (EXTREMES, 16)))


def int8_product(weight: np.ndarray) -> bytes:
    """One MatMulIntegerToFloat, as int8 graphs have it: x uint8 [n, K] (zero point 128) x weight int8 [K, N]."""
    k, n = weight.shape
    constants = {"weight": weight, "one": np.float32(1), "scale": np.ones(n, np.float32), "zero": np.uint8(128)}
    graph = helper.make_graph(
        [helper.make_node("MatMulIntegerToFloat", ["x", *constants], ["y"], domain="com.microsoft")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", n])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
