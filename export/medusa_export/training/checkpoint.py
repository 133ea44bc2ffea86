"""Reading and writing heads (docs/heads-format.md): safetensors and a JSON sidecar, nothing executable."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from ..errors import ExportError
from ..graph.linear import quantise_rows
from ..weights import open_source
from ..weights.conditional_file import ConditionalTables, conditional_beside, read_conditional
from ..weights.hashing import sha256_of
from ..weights.heads_file import output_file, read_own_heads
from .backbone import load_embedding
from .model import HeadsConfig, MedusaHeads


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
    these heads have; they are not written again.
    """
    path, c = Path(path), heads.config
    tensors: dict[str, np.ndarray] = {"token_map": heads.token_map.cpu().numpy().astype(np.int32)}

    def put(stem: str, parameter: torch.Tensor) -> None:
        weight = parameter.detach().cpu().float().numpy()
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
        put(f"{k}.tokens.0", weight)
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
    write_tensors(path, tensors, sidecar)


def owner_of_output(path: Path) -> Path:
    """The file that holds these heads' output layers: the one their sidecar names (`output_of`), or their own."""
    sidecar = sidecar_path(path)
    return output_file(json.loads(sidecar.read_text()), sidecar) or path


def write_tensors(path: Path, tensors: dict[str, np.ndarray], sidecar: dict[str, Any]) -> None:
    """A safetensors file and its sidecar; each appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, str(temporary), {"format": "1"})
    os.chmod(temporary, 0o644)  # safetensors creates files for the owner only
    os.replace(temporary, path)
    write_sidecar(path, sidecar)


def write_sidecar(path: Path, sidecar: dict[str, Any]) -> None:
    temporary = sidecar_path(path).with_suffix(".json.tmp")
    temporary.write_text(json.dumps(sidecar, indent=1) + "\n")
    os.replace(temporary, sidecar_path(path))


def load_heads(path: str | Path, backbone: str | Path | None = None) -> tuple[MedusaHeads, dict[str, Any]]:
    """Heads and sidecar, read and checked as preparation does.

    `backbone` (as given to distil) is read only for heads that read the chosen token, which need its embedding.
    """
    path = Path(path)
    own, sidecar = read_own_heads(path), json.loads(sidecar_path(path).read_text())
    output, reads = sidecar.get("output", "own"), "none" if own.token_weights is None else "root"
    if own.token_map is None:
        raise ExportError(f"heads {path}: tensor token_map is missing")
    sizes = own.count, own.hidden_size, len(own.blocks[0]), own.draft_vocab_size
    heads = MedusaHeads(HeadsConfig(*sizes, output, reads), torch.from_numpy(own.token_map.astype(np.int64)))
    with torch.no_grad():
        for k, blocks in enumerate(own.blocks):
            for j, (weight, bias) in enumerate(blocks):
                heads.block_weight[k][j].copy_(torch.from_numpy(np.array(weight)))
                heads.block_bias[k][j].copy_(torch.from_numpy(np.array(bias)))
        for parameter, weight in zip(heads.token_weight, own.token_weights or [], strict=True):
            parameter.copy_(torch.from_numpy(np.array(weight)))
        for parameter, matrix in zip(heads.output_weight, own.outputs, strict=False):  # shared: one for all
            parameter.copy_(torch.from_numpy(matrix.float32()))
    if reads == "root":
        if backbone is None:
            raise ExportError(f"heads {path} read the chosen token: name the backbone with --backbone")
        embedding = load_embedding(backbone)
        if embedding.shape[1] != own.hidden_size:
            raise ExportError(
                f"heads {path} have hidden size {own.hidden_size}, --backbone {backbone} has {embedding.shape[1]}"
            )
        heads.attach_embedding(embedding, own.token_scale)
    return heads, sidecar


def conditional_of(heads: str | Path, backbone: str | Path) -> ConditionalTables:
    """The tables of the conditional joint beside heads, as preparation makes them."""
    path = conditional_beside(Path(heads))
    if path is None:
        raise ExportError(f"no {Path(heads).stem}.conditional.safetensors beside {heads}")
    own = read_own_heads(Path(heads))
    return read_conditional(path, open_source(Path(backbone)), own.name, own.source_sha256, own.count, own.token_map)
