"""Times the ways to write attention over a read-only past, and the ways to take an argmax; prints CSV.

    PYTHONPATH=export python export/measure_attention.py --seconds 40

All layers of SmolLM2-135M's attention alone (30 layers, 9 query and 3 key-value heads of 64), one thread.
apart: products for past and step apart, float sums. Others: keys and values of past and step joined, one product each
(attention_split.py), with sums as float, double or whole numbers.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from medusa_export.session import open_session

from medusa_export.graph.attention_split import SplitInputs, shared_inputs, split_attention
from medusa_export.graph.builder import GraphBuilder
from medusa_export.graph.rotary import rotary_tables
from medusa_export.weights import ModelConfig

CONFIG = ModelConfig("llama", 30, 576, 9, 3, 64, 1536, 49152, 2048, 1e5, 1e-5, True)
ROWS = (1, 4, 8, 16, 64)


def apart_attention(b: GraphBuilder, name: str, qkv: str, key: str, value: str, shared: SplitInputs, parts: str) -> str:
    """Qkv [n, (Q + 2G) D] -> [n, Q D] with products for past and new rows apart; parts int64 [2] = (C, n)."""
    heads, groups, size = CONFIG.query_heads, CONFIG.kv_heads, CONFIG.head_dim
    by_head = b.node(
        "Transpose", [b.node("Reshape", [qkv, b.ints(1, -1, heads + 2 * groups, size)])], perm=[0, 2, 1, 3]
    )
    qk, v = b.nodes("Split", [by_head, b.ints(heads + groups, groups)], [name + ".qk", name + ".v"], axis=1)
    rotated = b.contrib("RotaryEmbedding", [qk, shared.position_ids, shared.cos, shared.sin])
    q, k = b.nodes("Split", [rotated, b.ints(heads, groups)], [name + ".q", name + ".k"], axis=1)
    grouped = b.node("Reshape", [q, b.ints(1, groups, -1, size)])
    scores = [b.contrib("FusedMatMul", [grouped, each], transB=1, alpha=size**-0.5) for each in (key, k)]
    softmax = b.node("Softmax", [b.node("Add", [b.node("Concat", scores, axis=-1), shared.bias])], axis=-1)
    old, new = b.nodes("Split", [softmax, parts], [name + ".old", name + ".new"], axis=-1)
    mixed = b.node("Add", [b.node("MatMul", [old, value]), b.node("MatMul", [new, v])])
    rows = b.node("Transpose", [b.node("Reshape", [mixed, b.ints(1, heads, -1, size)])], perm=[0, 2, 1, 3])
    return b.node("Reshape", [rows, b.ints(-1, heads * size)])


def attention_session(kind: str, folder: Path) -> ort.InferenceSession:
    b = GraphBuilder(kind, folder / f"{kind}.onnx")
    qkv = b.input("qkv", "float32", ["n", CONFIG.query_width + 2 * CONFIG.kv_width])
    positions = b.input("position_ids", "int64", ["n"])
    bias = b.input("attention_bias", "float32", ["n", "C + n"])
    shared = shared_inputs(b, CONFIG, bias, positions, *rotary_tables(b, CONFIG, "float32"))
    n = b.node("Shape", [positions])
    parts = b.node("Concat", [b.node("Sub", [b.node("Shape", [bias], start=1, end=2), n]), n], axis=0)
    results = []
    for i in range(CONFIG.layers):
        past = [b.input(f"{each}.{i}", "float32", [1, CONFIG.kv_heads, "C", CONFIG.head_dim]) for each in ("k", "v")]
        if kind == "apart":
            results.append(apart_attention(b, str(i), qkv, *past, shared, parts))
        else:
            results.append(split_attention(b, CONFIG, str(i), qkv, *past, shared, kind)[0])
    b.node("Sum", results, "out")
    b.output("out", "float32", ["n", CONFIG.query_width])
    return session(b)


def argmax_session(kind: str, folder: Path) -> ort.InferenceSession:
    b = GraphBuilder(kind, folder / f"{kind}.onnx")
    scores = b.input("scores", "float32", ["r", CONFIG.vocab_size])
    if kind == "argmax":
        b.node("ArgMax", [scores], "out", axis=-1, keepdims=0)
    else:
        b.nodes("TopK", [scores, b.ints(1)], ["values", "out"], axis=-1)
    b.output("out", "int64", None)  # type: ignore[arg-type]
    return session(b)


def session(b: GraphBuilder) -> ort.InferenceSession:
    return open_session(b.finish()[0])


def feeds(past: int, n: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shape = (1, CONFIG.kv_heads, past, CONFIG.head_dim)
    feed = {"qkv": random.standard_normal((n, 960)).astype(np.float32), "position_ids": np.arange(past, past + n)}
    feed["attention_bias"] = np.where(np.tri(n, past + n, past), 0, -1e9).astype(np.float32)
    for i in range(CONFIG.layers):
        for name in ("k", "v"):
            feed[f"{name}.{i}"] = np.rint(9 * random.standard_normal(shape)).astype(np.float32)
    return feed


def measure(
    sessions: dict[str, ort.InferenceSession], cases: dict[str, dict[str, np.ndarray]], seconds: float
) -> dict[tuple[str, str], float]:
    """Milliseconds, 10th percentile of interleaved runs."""
    times: dict[tuple[str, str], list[float]] = {(kind, case): [] for kind in sessions for case in cases}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for kind, case in times:
            for i in range(4):
                begin = time.perf_counter()
                sessions[kind].run(["out"], cases[case])
                if i:
                    times[kind, case].append((time.perf_counter() - begin) * 1000)
    return {key: float(np.percentile(values, 10)) for key, values in times.items()}


def report(title: str, kinds: list[str], cases: list[str], times: dict[tuple[str, str], float]) -> None:
    print(f"{title}," + ",".join(cases))
    for kind in kinds:
        print(f"{kind}," + ",".join(f"{times[kind, case]:.3f}" for case in cases))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = ["apart", "float", "double", "whole"]
        attention = {kind: attention_session(kind, folder) for kind in kinds}
        cases = {f"past {past} n {n}": feeds(past, n) for past in (256, 1024) for n in ROWS}
        report("attention", kinds, list(cases), measure(attention, cases, 0.9 * seconds))
        argmax = {kind: argmax_session(kind, folder) for kind in ("argmax", "topk")}
        random = np.random.default_rng(0)
        rows = {f"r {r}": {"scores": random.standard_normal((r, 49152)).astype(np.float32)} for r in ROWS}
        report("argmax over 49152", list(argmax), list(rows), measure(argmax, rows, 0.1 * seconds))


if __name__ == "__main__":
    main()
