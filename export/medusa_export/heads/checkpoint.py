"""Reading and writing heads in the project's format (FORMAT.md): safetensors plus a JSON sidecar, nothing
executable."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from ..weights.hashing import sha256_of
from ..weights.heads_file import FORMATS, output_file
from .backbone_torch import load_embedding
from .model import HeadsConfig, MedusaHeads


def quantise_rows(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 per row: fp32 [V', H] -> (int8 [V', H], scale fp32 [V']); an all-zero row keeps scale 1."""
    top = np.abs(weight).max(axis=1)
    scale = np.where(top > 0, top / 127, 1).astype(np.float32)
    return np.clip(np.rint(weight / scale[:, None]), -127, 127).astype(np.int8), scale


def sidecar_path(path: Path) -> Path:
    return path.with_suffix(".json")


def save_heads(
    heads: MedusaHeads,
    path: str | Path,
    facts: dict[str, Any],
    quantise: bool = True,
    output_of: str | Path | None = None,
) -> None:
    """Write <path>.safetensors and its sidecar; each file appears whole or not at all. `facts` joins the sidecar.
    `quantise`: matrices as int8 with one scale a row instead of float16. `output_of`: a heads file whose output layers
    these heads have; they are not written again."""
    path, c = Path(path), heads.config
    tensors: dict[str, np.ndarray] = {"token_map": heads.token_map.cpu().numpy().astype(np.int32)}

    def put(stem: str, parameter: torch.Tensor) -> None:
        weight = parameter.detach().cpu().numpy()
        if quantise:
            tensors[stem + ".weight"], tensors[stem + ".scale"] = quantise_rows(weight)
        else:
            tensors[stem + ".weight"] = weight.astype(np.float16)

    for k in range(c.heads):
        for j in range(c.layers):
            put(f"{k}.blocks.{j}", heads.block_weight[k][j])
            tensors[f"{k}.blocks.{j}.bias"] = heads.block_bias[k][j].detach().cpu().numpy().astype(np.float32)
    for index, parameter in enumerate([] if output_of else heads.output_weight):
        put(f"{index}.output" if c.output == "own" else "output", parameter)
    for k, weight in enumerate(heads.token_weight):
        for d in range(c.tokens_of(k)):
            put(f"{k}.tokens.{d}", weight[d])
    reads = {} if c.tokens == "none" else {"tokens": c.tokens, "token_scale": heads.token_scale}
    if output_of:
        where = os.path.relpath(Path(output_of).resolve(), path.parent.resolve())
        reads |= {"output_of": {"file": Path(where).as_posix(), "sha256": sha256_of(Path(output_of))}}
    sidecar = {
        # Readers of an earlier format would take codes for weights, or leave the tokens out, and say nothing.
        "format": 4 if output_of else 3 if quantise else 2 if reads else 1,
        "name": path.stem,
        "kind": "medusa-1",
        "heads": c.heads,
        "hidden_size": c.hidden_size,
        "layers": c.layers,
        "draft_vocab_size": c.draft_vocab_size,
        "output": c.output,
        **reads,
        **facts,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, str(temporary), {"format": "1"})
    os.chmod(temporary, 0o644)  # safetensors creates files for the owner only
    os.replace(temporary, path)
    write_sidecar(path, sidecar)


def owner_of_output(path: Path) -> Path:
    """The file that holds these heads' output layers: the one their sidecar names (`output_of`), or their own."""
    sidecar = sidecar_path(path)
    return output_file(json.loads(sidecar.read_text()), sidecar) or path


def write_sidecar(path: Path, sidecar: dict[str, Any]) -> None:
    temporary = sidecar_path(path).with_suffix(".json.tmp")
    temporary.write_text(json.dumps(sidecar, indent=1) + "\n")
    os.replace(temporary, sidecar_path(path))


def _tensors(path: Path) -> dict[str, np.ndarray]:
    with safe_open(str(path), "numpy") as f:
        return {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 safe_open has no iterator


def load_heads(path: str | Path, backbone: str | Path | None = None) -> tuple[MedusaHeads, dict[str, Any]]:
    """Read heads and sidecar; a file that does not hold what its sidecar says is refused with both shapes named.

    `backbone` (as given to distil.py) is read only for heads that read tokens, which need its embedding.
    """
    path = Path(path)
    sidecar = json.loads(sidecar_path(path).read_text())
    if sidecar.get("format") not in FORMATS:
        known = ", ".join(map(str, FORMATS))
        raise ValueError(
            f"heads {path}: format {sidecar.get('format')!r} is not known ({known} are); update medusa-plus"
        )
    config = HeadsConfig(
        sidecar["heads"],
        sidecar["hidden_size"],
        sidecar["layers"],
        sidecar["draft_vocab_size"],
        sidecar.get("output", "own"),
        sidecar.get("tokens", "none"),
    )
    tensors = _tensors(path)
    other = output_file(sidecar, sidecar_path(path))
    if other is not None:
        theirs = _tensors(other)
        if not np.array_equal(theirs["token_map"], tensors.get("token_map")):
            raise ValueError(f"heads {path}: {other} has the output layer of another token_map")
        tensors |= {name: t for name, t in theirs.items() if "output." in name}
    h, v = config.hidden_size, config.draft_vocab_size

    def take(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if name not in tensors:
            raise ValueError(f"heads {path}: tensor {name} is missing; its sidecar promises {config}")
        if tensors[name].shape != shape:
            raise ValueError(f"heads {path}: {name} has shape {tensors[name].shape}, its sidecar says {shape}")
        return torch.from_numpy(tensors[name].astype(np.float32))

    def matrix(stem: str, rows: int) -> torch.Tensor:
        weight = take(stem + ".weight", (rows, h))
        return weight * take(stem + ".scale", (rows,))[:, None] if stem + ".scale" in tensors else weight

    heads = MedusaHeads(config, take("token_map", (v,)))
    with torch.no_grad():
        for k in range(config.heads):
            for j in range(config.layers):
                heads.block_weight[k][j].copy_(matrix(f"{k}.blocks.{j}", h))
                heads.block_bias[k][j].copy_(take(f"{k}.blocks.{j}.bias", (h,)))
            for d in range(config.tokens_of(k)):
                heads.token_weight[k][d].copy_(matrix(f"{k}.tokens.{d}", h))
        for index, parameter in enumerate(heads.output_weight):
            parameter.copy_(matrix(f"{index}.output" if config.output == "own" else "output", v))
    if config.tokens != "none":
        if backbone is None:
            raise ValueError(f"heads {path} read tokens (tokens: {config.tokens}): name the backbone with --backbone")
        heads.attach_embedding(load_embedding(backbone), sidecar["token_scale"])
    return heads, sidecar
