"""Rotates the residual stream so that no channel of it is much larger than the others; the model computes the same.

RMSNorm without gain commutes with an orthogonal Q: norm(x Q) = norm(x) Q. With the gains moved into the matrices that
follow, every product can work on x' = x Q instead of x (rows are vectors here; W is [out, in]):

| matrix | becomes | because |
|---|---|---|
| q, k, v, gate, up, lm_head | (W * gain) Q | they read norm(x') = norm(x) Q |
| o, down | Q^T W | they write into the stream |
| q_norm, k_norm | the same | they read q and k, which come out unrotated |
| v rows, o columns, one head at a time | R^T, R | they read and write each other |
| down columns, 64 at a time | H | the graph multiplies silu(gate) * up by the same Hadamard matrix |

The embedding's row is multiplied by Q in the graph, so the table keeps its own codes; `hidden` is rotated back for the
heads. Q mixes hundreds of channels, so outliers of a few channels spread over all, and one int8 scale a row of
activations wastes little. (The idea is QuaRot's, arXiv 2404.00456. All but the rotation before `down` and the two at
the ends cost nothing at run time.)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import ExportError
from .source import Array, WeightSource, WeightTensor

_SEED = 576
VALUE_LIMIT = 2**11  # of values in steps of their layer, see `_value_step`


class Orthogonal:
    """A seeded orthogonal matrix Q = diag(signs) (O (x) H_2^k), kept as its factors so that big ones stay cheap."""

    def __init__(self, size: int, seed: int = _SEED) -> None:
        random = np.random.default_rng(seed)
        self.size = size
        self._signs = random.choice(np.array([-1, 1], np.float32), size)
        odd, factors = size, []
        while odd % 2 == 0 and odd > 1:
            step = min(6, (odd & -odd).bit_length() - 1)
            factors.append(hadamard(step))
            odd >>= step
        if odd > 1:
            factors.insert(0, np.linalg.qr(random.standard_normal((odd, odd)))[0].astype(np.float32))
        self._factors = factors

    def after(self, rows: Array) -> Array:
        """Rows [N, size] -> rows Q."""
        x = (rows * self._signs).reshape(len(rows), *(len(f) for f in self._factors))
        for axis, factor in enumerate(self._factors, start=1):
            x = np.moveaxis(np.moveaxis(x, axis, -1) @ factor, -1, axis)
        return np.ascontiguousarray(x).reshape(len(rows), self.size)

    def dense(self) -> Array:
        """Q itself, [size, size]."""
        return self.after(np.eye(self.size, dtype=np.float32))


def hadamard(power: int) -> Array:
    """The orthogonal Hadamard matrix of size 2^power."""
    matrix = np.ones((1, 1), np.float32)
    for _ in range(power):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return np.asarray(matrix / np.float32(2 ** (power / 2)), np.float32)


def hadamard_of(size: int) -> Array:
    """[B, B]; B is the largest power of two up to 64 that divides `size`."""
    return hadamard(min(6, (size & -size).bit_length() - 1))


class RotatedSource:
    """A `WeightSource` whose residual stream is rotated; its norms have gain 1."""

    def __init__(self, source: WeightSource) -> None:
        self._source, self.config, self.path = source, source.config, source.path
        self.kind, self.quantization = source.kind, source.quantization
        self.stream, self._head = Orthogonal(self.config.hidden_size), Orthogonal(self.config.head_dim)
        self._value_steps: dict[str, np.float32] = {}
        self.inner = hadamard_of(self.config.intermediate_size)

    def tensor(self, name: str) -> WeightTensor:
        found = self._source.tensor(name)
        if name in ("embed.weight", "lm_head.weight") or not name.startswith(("layers.", "norm.")):
            return found
        stem, kind = name.split(".")[-2:]
        if stem in ("attn_norm", "mlp_norm", "norm"):
            return replace(found, read=lambda: np.ones(found.shape, np.float32))
        if stem in ("q_norm", "k_norm"):
            return found
        if kind == "bias":
            if stem != "v":
                return found
            step = self._value_step(name.removesuffix("v.bias"))
            return replace(found, read=lambda: self._turned_values(found.float32()) / step)
        prefix = name.removesuffix(f"{stem}.weight")
        return replace(found, read=lambda: self._turned(stem, prefix, found), read_blocks=None)

    def output_matrix(self, name: str) -> WeightTensor:
        """The LM head for the rotated stream, gain of the final norm included."""
        found = self._source.tensor(name)
        gain = self.final_gain()
        return replace(found, read=lambda: self.stream.after(found.float32() * gain), read_blocks=None)

    def final_gain(self) -> Array:
        return self._source.tensor("norm.weight").float32()

    def hidden_matrix(self) -> Array:
        """[H, H]: norm(x') times this is the untouched model's hidden state."""
        return self.stream.dense().T * self.final_gain()

    def _turned(self, stem: str, prefix: str, found: WeightTensor) -> Array:
        weight = found.float32()
        if stem in ("o", "down"):
            if stem == "o":
                heads = weight.reshape(-1, self.config.head_dim)  # [H * Q, D]: columns of one head in a row
                weight = self._head.after(heads).reshape(weight.shape) * self._value_step(prefix)
            else:
                weight = (weight.reshape(-1, len(self.inner)) @ self.inner).reshape(weight.shape)
            return np.ascontiguousarray(self.stream.after(np.ascontiguousarray(weight.T)).T)
        norm = "mlp_norm" if stem in ("gate", "up") else "attn_norm"
        weight = self.stream.after(weight * self._source.tensor(f"{prefix}{norm}.weight").float32())
        return self._turned_values(weight) / self._value_step(prefix) if stem == "v" else weight

    def _value_step(self, prefix: str) -> np.float32:
        """A power of two: values divided by it stay below VALUE_LIMIT, since 8 standard deviations of them do."""
        if prefix not in self._value_steps:
            gain = self._source.tensor(f"{prefix}attn_norm.weight").float32()
            weight = self._source.tensor(f"{prefix}v.weight").float32() * gain
            heads = weight.reshape(self.config.kv_heads, self.config.head_dim, -1)
            with np.errstate(over="ignore"):  # refused below
                spread = 8 * np.sqrt((heads**2).sum(-1).mean(-1).max())
            if self.config.qkv_bias:
                spread += np.abs(self._source.tensor(f"{prefix}v.bias").float32()).max()
            if not np.isfinite(spread):
                name = self._source.tensor(f"{prefix}v.weight").source_name
                raise ExportError(f"{self.path.name}: tensor {name} holds values whose squares no float32 can hold")
            self._value_steps[prefix] = np.float32(2.0 ** np.ceil(np.log2(max(spread, 1e-20) / VALUE_LIMIT)))
        return self._value_steps[prefix]

    def _turned_values(self, values: Array) -> Array:
        """Rows of v [G D, ...] -> every head's values times R."""
        heads = values.reshape(self.config.kv_heads, self.config.head_dim, -1)
        rotated = np.stack([self._head.after(np.ascontiguousarray(head.T)).T for head in heads])
        return np.ascontiguousarray(rotated).reshape(values.shape)
