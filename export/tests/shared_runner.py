"""Runs a "shared" fp32 backbone on the CPU: one buffer for the whole cache, bound in place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medusa_export.measure.session import open_session
from medusa_export.weights.source import Array


@dataclass(frozen=True)
class SharedStep:
    """Rows of one run: hidden [n, H], logits [n, V], next_tokens [n]."""

    hidden: Array
    logits: Array
    next_tokens: Array


class SharedRunner:
    """A session over a cache [L * 2 * G, capacity, D], of which each layer's tensors are slices."""

    def __init__(self, folder: Path, precision: str = "fp32") -> None:
        self.session = open_session(folder / f"backbone.{precision}.shared.onnx")
        self.dtype = np.float16 if precision == "fp16" else np.float32
        shapes = {i.name: i.shape for i in self.session.get_inputs()}
        self.layers = sum(name.startswith("cache_key.") for name in shapes)
        _, self.groups, self.capacity, size = shapes["cache_key.0"]
        self.cache = np.zeros((self.layers * 2 * self.groups, self.capacity, size), self.dtype)
        self.length = 0

    def run(self, ids: list[int], visible: Array | None = None) -> SharedStep:
        """`visible` bool [n, n]: which rows of this run each row sees; default: causal."""
        n, past, total = len(ids), self.length, self.capacity
        seen = np.tri(n, dtype=bool) if visible is None else visible
        bias = np.full((1, 1, n, total), -10000, self.dtype)
        bias[..., :past] = 0
        bias[0, 0, :, past : past + n][seen] = 0
        feed = {
            "input_ids": np.array([ids]),
            "position_ids": past + seen.sum(1)[None] - 1,
            "attention_bias": bias,
            "seqlens_k": np.array([past + n - 1], np.int32),
            "total_sequence_length": np.array(total, np.int32),
            "output_rows": np.arange(n),
        }
        binding = self.session.io_binding()
        for name, value in feed.items():
            binding.bind_cpu_input(name, value)
        for layer in range(self.layers):
            for j, kind in enumerate(("key", "value")):
                begin = (2 * layer + j) * self.groups
                address = self.cache[begin].ctypes.data
                shape = [1, self.groups, self.capacity, self.cache.shape[2]]
                binding.bind_input(f"cache_{kind}.{layer}", "cpu", 0, self.dtype, shape, address)
                binding.bind_output(f"cache_{kind}_out.{layer}", "cpu", 0, self.dtype, shape, address)
        for name in ("hidden", "logits", "next_tokens"):
            binding.bind_output(name)
        self.session.run_with_iobinding(binding)
        hidden, logits, tokens = binding.copy_outputs_to_cpu()[-3:]
        return SharedStep(hidden, logits, tokens)

    def keep(self, rows: list[int], folder: Path) -> None:
        """Move the accepted rows (absolute positions) to the end of the past."""
        session = open_session(folder / "keep.fp32.onnx")
        binding = session.io_binding()
        address, shape = self.cache.ctypes.data, list(self.cache.shape)
        binding.bind_input("cache", "cpu", 0, np.float32, shape, address)
        binding.bind_cpu_input("rows", np.array(rows))
        binding.bind_cpu_input("write_indices", np.full(shape[0], self.length))
        binding.bind_output("cache_out", "cpu", 0, np.float32, shape, address)
        session.run_with_iobinding(binding)
