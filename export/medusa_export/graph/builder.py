"""A thin layer over `onnx.helper`: names nodes, keeps the interface, and streams weights to the external data file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from .. import EXPORTER, FORMAT
from ..weights.source import Array
from .meanings import meaning_of

CONTRIB = "com.microsoft"
_INLINE_LIMIT = 1024  # bytes; larger initialisers go to the data file
_ALIGNMENT = 4096  # large tensors begin on a page, so that the runtime can map them

DTYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "bool": TensorProto.BOOL,
}
Dim = int | str


class GraphBuilder:
    """Collects one graph. Weights are written as they come, so the whole model is never in memory at once."""

    def __init__(self, name: str, path: Path, opset: int = 21) -> None:
        self._name, self._path, self.opset = name, path, opset
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[TensorProto] = []
        self._known: set[str] = set()
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._values: list[onnx.ValueInfoProto] = []
        self.inputs: list[dict[str, Any]] = []  # as in the manifest: {name, dtype, shape}
        self.outputs: list[dict[str, Any]] = []
        self.data_path = path.with_name(path.name + ".data")
        self._data = self.data_path.open("wb")
        self._count = 0
        self.row_set = "all"  # which rows the nodes being added work on; helper values are shared within a set
        self._shared: dict[tuple[str, str], str] = {}
        self.facts: dict[str, str] = {}  # for the graph's metadata_props

    # --- interface -----------------------------------------------------------------------------------------------

    def input(self, name: str, dtype: str, shape: list[Dim]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, DTYPES[dtype], shape, meaning_of(name)))
        self.inputs.append({"name": name, "dtype": dtype, "shape": shape})
        return name

    def output(self, name: str, dtype: str, shape: list[Dim]) -> str:
        self._outputs.append(helper.make_tensor_value_info(name, DTYPES[dtype], shape, meaning_of(name)))
        self.outputs.append({"name": name, "dtype": dtype, "shape": shape})
        return name

    # --- nodes ---------------------------------------------------------------------------------------------------

    def node(self, op: str, inputs: list[str], name: str = "", domain: str = "", **attributes: Any) -> str:
        """Add a node with one output and return that output's name (`name`, or one made up)."""
        return self.nodes(op, inputs, [name or self._fresh(op)], domain, **attributes)[0]

    def nodes(self, op: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any) -> list[str]:
        """Add a node with several named outputs; an empty name leaves an optional output out."""
        label = next(name for name in outputs if name)
        self._nodes.append(helper.make_node(op, inputs, outputs, name=f"{label}/{op}", domain=domain, **attributes))
        return outputs

    def contrib(self, op: str, inputs: list[str], name: str = "", **attributes: Any) -> str:
        return self.node(op, inputs, name, CONTRIB, **attributes)

    def reshape(self, x: str, shape: tuple[int, ...], free: str, dtype: str = "float32", name: str = "") -> str:
        """Reshape, whose -1 stands for the symbolic dimension `free`."""
        dims = [free if size == -1 else size for size in shape]
        return self.sized(self.node("Reshape", [x, self.ints(*shape)], name), dims, dtype)

    def sized(self, value: str, dims: list[int | str], dtype: str = "float32") -> str:
        """Says what the dimensions of `value` are where shape inference gives up: at a -1, a Split of computed sizes.

        Told so, ONNX Runtime sees which tensors are of one size and plans its memory in a quarter of the time that it
        takes to open a large graph otherwise.
        """
        self._values.append(helper.make_tensor_value_info(value, DTYPES[dtype], dims))
        return value

    @property
    def rows(self) -> str:
        """The symbolic number of rows of the present `row_set`."""
        return "n" if self.row_set == "all" else "r"

    def once(self, key: str, make: Callable[[], str]) -> str:
        """The value that `make` emits, emitted at the first call for the present `row_set`."""
        found = self.row_set, key
        if found not in self._shared:
            self._shared[found] = make()
        return self._shared[found]

    def _fresh(self, op: str) -> str:
        self._count += 1
        return f"{op.lower()}.{self._count}"

    # --- constants and weights -----------------------------------------------------------------------------------

    def constant(self, name: str, values: Array | list[int] | int | float) -> str:
        """A small inline initialiser, shared by name. Python ints become int64, floats float32."""
        if name not in self._known:
            array = np.asarray(values)
            if array.dtype == np.float64:
                array = array.astype(np.float32)
            self._known.add(name)
            self._initializers.append(onnx.numpy_helper.from_array(array, name))
        return name

    def ints(self, *values: int) -> str:
        """An int64 vector initialiser, named after its values."""
        return self.constant("i64." + "_".join(map(str, values)), np.asarray(values, np.int64))

    def weight(self, name: str, array: Array) -> str:
        """An initialiser, appended to the external data file at once (inline when tiny)."""
        if name in self._known:
            return name
        array = np.ascontiguousarray(array)
        if array.nbytes <= _INLINE_LIMIT:
            return self.constant(name, array)
        self._known.add(name)
        self._data.write(b"\0" * (-self._data.tell() % _ALIGNMENT))
        offset = self._data.tell()
        # As bytes: numpy has no buffers of bfloat16.
        self._data.write(array.reshape(-1).view(np.uint8).data)
        tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": self.data_path.name, "offset": str(offset), "length": str(array.nbytes)}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
        self._initializers.append(tensor)
        return name

    # --- result --------------------------------------------------------------------------------------------------

    def finish(self) -> list[Path]:
        """Write the graph; returns its files (the data file only if anything is in it)."""
        empty = self._data.tell() == 0
        self._data.close()
        graph = helper.make_graph(
            self._nodes,
            self._name,
            self._inputs,
            self._outputs,
            self._initializers,
            doc_string="medusa-plus; docs/formats.md describes the interface",
            value_info=self._values,
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name=EXPORTER)
        helper.set_model_props(model, {"exporter": EXPORTER, "format": str(FORMAT), **self.facts})
        model.ir_version = 10 if self.opset <= 22 else 11
        self._path.write_bytes(model.SerializeToString())
        if empty:
            self.data_path.unlink()
            return [self._path]
        return [self._path, self.data_path]
