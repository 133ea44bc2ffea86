"""Readers of published Medusa heads. All layouts come down to blocks and an output matrix for each head:

| layout | blocks | output |
|---|---|---|
| v0.1 `medusa_lm_head.pt`, v2 `medusa_lm_head.safetensors` | `{i}.{j}.linear.weight/bias` | `{i}.{layers}.weight` |
| 1.0: inside a full model | `medusa_head.{i}.{j}.linear.weight/bias` | `medusa_head.{i}.{layers}.weight` |
| vLLM | `blocks.{i}.layers.{j}.weight` (and bias) | `lm_heads.{i}.weight`, or one `lm_head.weight`; `token_map` |

Each may lie in `pytorch_model*.bin`. Where a layout leaves the output out, the backbone's own LM head serves all
heads (v2). The number of heads is what the file holds, since published configs are known to be wrong about it.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import ExportError
from .checked import is_given, read_json, reading
from .hashing import sha256_of, sha256_of_files
from .heads_checkpoint import HeadMatrix, HeadsCheckpoint, LazyMatrix
from .heads_file import MAX_HEADS, read_own_heads, token_map_of
from .hf_folder import HfFolderSource
from .hub_cache import name_of
from .safetensors_file import FLOATS, SafetensorsFile
from .source import Array, WeightSource
from .tensor_file import PICKLED, TensorFile, open_tensors

_BESIDE = ("medusa_lm_head.safetensors", "medusa_lm_head.pt")
_CANDIDATES = (*_BESIDE, "model.safetensors", "pytorch_model.bin")
_MEDUSA = re.compile(r"^(?:medusa_head\.)?([0-9]+)\.([0-9]+)\.(linear\.weight|linear\.bias|weight)$")
_INSIDE = re.compile(r"^medusa_head\.[0-9]+\.")
_VLLM = re.compile(r"^blocks\.([0-9]+)\.layers\.([0-9]+)\.(weight|bias)$")


def read_heads(path: Path, source: WeightSource | None = None) -> HeadsCheckpoint:
    """Heads of any layout; `path` is a file, a folder, or the stem of this project's two files."""
    with reading(path):
        if path.is_dir():
            return _read_published(_weights_in(path), name_of(path).split("/")[-1], source)
        if path.suffix in PICKLED and path.is_file():
            return _read_published([path], path.stem, source)
        sidecar = path.with_suffix(".json")
        if is_given(sidecar) and "format" in read_json(sidecar):
            return read_own_heads(path)
        if path.is_file() and path.suffix == ".safetensors":
            return _read_published([path], path.stem, source)
        return read_own_heads(path)  # its messages say what is missing


def own_heads(source: WeightSource) -> str | None:
    """Where a model folder holds heads of its own, in words; `read_heads` of the folder reads them."""
    if not isinstance(source, HfFolderSource):
        return None
    beside = next((name for name in _BESIDE if (source.path / name).is_file()), None)
    if beside is not None:
        return f"in {beside}"
    return "in the model's own files" if any(map(_INSIDE.match, source.tensor_names)) else None


def heads_files(folder: Path) -> list[str]:
    """The files of a folder that `read_heads` could mean, the one it takes first."""
    there = [name for name in _CANDIDATES if (folder / name).is_file()]
    return [name for i, name in enumerate(there) if i == 0 or name in _BESIDE or _holds_heads(folder / name)]


def _holds_heads(file: Path) -> bool:
    return any(_MEDUSA.match(name) or _VLLM.match(name) for name in open_tensors(file).entries)


def heads_bytes(path: Path) -> int:
    """About how many bytes the heads' tensors at `path` (as for `read_heads`) take in their files."""
    if not path.is_dir():
        file = path if path.is_file() else path.with_suffix(".safetensors")
        return file.stat().st_size if file.is_file() else 0
    return sum(_heads_bytes(file) for file in _weights_in(path))


def _heads_bytes(file: Path) -> int:
    if file.suffix in PICKLED:
        return file.stat().st_size
    ranges = [entry["data_offsets"] for name, entry in SafetensorsFile(file).entries.items() if _is_of_heads(name)]
    return sum(end - begin for begin, end in ranges)


def _is_of_heads(name: str) -> bool:
    return bool(_MEDUSA.match(name) or _VLLM.match(name) or name.startswith("lm_head"))


def _weights_in(folder: Path) -> list[Path]:
    for name in _CANDIDATES:
        if (folder / name).is_file():
            return [folder / name]
    shards = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model-*.bin"))
    if not shards:
        raise ExportError(f"--heads {folder}: none of {', '.join(_CANDIDATES)} lies there")
    return shards


def _read_published(paths: list[Path], name: str, source: WeightSource | None) -> HeadsCheckpoint:
    files: dict[str, TensorFile] = {}
    for path in paths:
        file = open_tensors(path)
        files |= dict.fromkeys(file.entries, file)
    label = paths[0].name if len(paths) == 1 else paths[0].parent.name
    blocks, outputs, token_map = _Layout(label, files, source).heads()
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "medusa"
    hashes = sha256_of(paths[0]) if len(paths) == 1 else sha256_of_files(paths)
    count = len(blocks)
    return HeadsCheckpoint(name, blocks, outputs, token_map, [1.0] * count, [[] for _ in range(count)], hashes)


class _Layout:
    """Sorts the tensors of one checkpoint into heads."""

    def __init__(self, label: str, files: dict[str, TensorFile], source: WeightSource | None) -> None:
        """`files`: tensor name -> the file that holds it."""
        self._label, self._files, self._source = label, files, source
        self._base: LazyMatrix | None = None

    def heads(self) -> tuple[list[list[tuple[Array, Array]]], list[HeadMatrix | LazyMatrix], Array | None]:
        names = [name for name in self._files if _MEDUSA.match(name) or _VLLM.match(name)]
        if not names:
            raise ExportError(f"{self._label} holds no Medusa heads of a known layout")
        is_vllm = bool(_VLLM.match(names[0]))
        pattern = _VLLM if is_vllm else _MEDUSA
        found = [(match, name) for name in names if (match := pattern.match(name))]
        indices = sorted({int(match[1]) for match, _ in found})
        if indices != list(range(len(indices))) or len(indices) > MAX_HEADS:
            raise ExportError(
                f"{self._label} has heads {_first(indices)}; expected them from 0 on, at most {MAX_HEADS}"
            )
        blocks, outputs = [], []
        for k in indices:
            mine = {(int(m[2]), m[3].removeprefix("linear.")): name for m, name in found if int(m[1]) == k}
            linear = {j for m, _ in found if int(m[1]) == k and (is_vllm or "linear" in m[3]) for j in [int(m[2])]}
            if linear != set(range(len(linear))):
                there = _first(sorted(linear))
                raise ExportError(f"{self._label}: head {k} has blocks {there}; expected them from 0 on")
            blocks.append([self._block(mine, k, j) for j in sorted(linear)])
            output = f"lm_heads.{k}.weight" if is_vllm else mine.get((len(linear), "weight"), "")
            outputs.append(self._output(output, "lm_head.weight" if is_vllm else ""))
        self._check(blocks, outputs)
        token_map = self._files["token_map"].array("token_map") if "token_map" in self._files else None
        return blocks, outputs, None if token_map is None else token_map_of(self._label, token_map).astype(np.int32)

    def _read(self, name: str, dimensions: int) -> Array:
        """float32 of so many dimensions."""
        self._shape(name, dimensions)
        return self._files[name].float32(name)

    def _shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """The shape of a tensor of so many dimensions, which is not read."""
        type_name, shape = self._files[name].dtype(name), self._files[name].shape(name)
        if type_name not in FLOATS or len(shape) != dimensions:
            raise ExportError(
                f"{self._label}: tensor {name} has type {type_name} and shape {list(shape)}; expected {dimensions}"
                " dimensions of floating point numbers"
            )
        return shape

    def _block(self, mine: dict[tuple[int, str], str], k: int, j: int) -> tuple[Array, Array]:
        if (j, "weight") not in mine:
            raise ExportError(f"{self._label}: the weight of head {k}, block {j} is missing")
        weight = self._read(mine[j, "weight"], 2)
        bias = mine.get((j, "bias"))
        zeros = np.zeros(weight.shape[0], np.float32)
        return weight, zeros if bias is None else self._read(bias, 1)

    def _output(self, *names: str) -> HeadMatrix | LazyMatrix:
        """Not read yet: the five of a 7B model take 2.6 GB as float32."""
        for name in names:
            if name in self._files:
                return LazyMatrix(self._shape(name, 2), lambda name=name: self._read(name, 2))
        if self._base is None:
            if self._source is None:
                raise ExportError(f"{self._label} has no output matrix of its own and no backbone was given")
            tied = self._source.config.tied_embeddings
            tensor = self._source.tensor("embed.weight" if tied else "lm_head.weight")
            self._base = LazyMatrix(tensor.shape, tensor.float32)
        return self._base

    def _check(self, blocks: list[list[tuple[Array, Array]]], outputs: list[HeadMatrix | LazyMatrix]) -> None:
        size = outputs[0].shape[1]
        for k, (head, output) in enumerate(zip(blocks, outputs, strict=True)):
            if len(head) != len(blocks[0]) or output.shape != outputs[0].shape:
                raise ExportError(f"{self._label}: head {k} has another shape than head 0")
            if any(weight.shape != (size, size) or bias.shape != (size,) for weight, bias in head):
                raise ExportError(f"{self._label}: the blocks of head {k} do not fit its output of width {size}")


def _first(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
