"""Distilled answers as tokens only, a hundredth of their shards: to move data between machines, or to keep it.

    python export/pack_answers.py pack --data DATA --out FOLDER --part-bytes 15000000 --parts 3
    python export/pack_answers.py unpack --parts FOLDER --backbone model.gguf --out DATA --device cuda

The states that heads learn from follow from the tokens, so unpacking runs the backbone once over every text (seconds on
an accelerator). A part is `answers-NN.npz`: numpy arrays, no pickle.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch
from safetensors import safe_open

from medusa_export.heads.backbone_torch import load_backbone
from medusa_export.heads.conversations import Answer
from medusa_export.heads.shards import write_shard
from medusa_export.heads.teacher_forcing import fill_states


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(dest="command", required=True)
    pack = sub.add_parser("pack", help="shards to parts")
    pack.add_argument("--data", required=True, help="folder of shards")
    pack.add_argument("--out", required=True, help="folder for answers-NN.npz")
    pack.add_argument("--part-bytes", type=int, default=15_000_000, help="most bytes of a part (default %(default)s)")
    pack.add_argument("--parts", type=int, default=1000, help="most parts; shards beyond are left out")
    unpack = sub.add_parser("unpack", help="parts to shards")
    unpack.add_argument("--parts", required=True, help="folder of answers-NN.npz")
    unpack.add_argument("--backbone", required=True, help=".gguf file or HF folder that wrote the answers")
    unpack.add_argument("--out", required=True, help="folder for the shards")
    unpack.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    unpack.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    return p.parse_args(argv)


def pack(data: Path, out: Path, part_bytes: int, most_parts: int) -> tuple[int, int]:
    """Write the parts; returns (shards packed, shards there). Whole shards only; a part is filled before the next."""
    shards = sorted(data.glob("shard-*.safetensors"))
    if not shards:
        raise FileNotFoundError(f"no shard-*.safetensors in {data}: run distil.py first")
    out.mkdir(parents=True, exist_ok=True)
    part, group, packed = 0, {}, 0
    for path in shards:
        arrays = _arrays(path)
        # Estimated from the shard alone; compressing the whole part each time would take the square of the time.
        size = len(_compressed({path.stem: arrays}))
        if size > part_bytes:
            raise ValueError(f"{path.name} takes {size} bytes packed; raise --part-bytes or distil smaller shards")
        if group and sum(s for _, s in group.values()) + size > part_bytes:
            part = _write(out, part, group)
            group = {}
            if part == most_parts:
                break
        group[path.stem] = (arrays, size)
        packed += 1
    if group and part < most_parts:
        _write(out, part, group)
    return packed, len(shards)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """A shard's tokens and facts; ids as uint16 where they fit."""
    with safe_open(str(path), "numpy") as f:
        names = ("tokens", "offsets", "context", "context_offsets", "conversation", "turn", "temperature")
        arrays = {name: f.get_tensor(name) for name in names}
        metadata = f.metadata()
        hidden_size = f.get_slice("hidden").get_shape()[1]
    for name in ("tokens", "context"):
        if not len(arrays[name]) or arrays[name].max() < 1 << 16:
            arrays[name] = arrays[name].astype(np.uint16)
    for name in ("offsets", "context_offsets"):
        arrays[name] = arrays[name].astype(np.int32)
    facts = json.dumps({**{k: json.loads(v) for k, v in metadata.items()}, "hidden_size": hidden_size})
    return arrays | {"facts": np.frombuffer(facts.encode(), np.uint8)}


def _compressed(shards: dict[str, dict[str, np.ndarray]]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{f"{stem}/{name}": array for stem, a in shards.items() for name, array in a.items()})
    return buffer.getvalue()


def _write(out: Path, part: int, group: dict[str, tuple[dict[str, np.ndarray], int]]) -> int:
    """Write one part whole or not at all; returns the next part's number."""
    path = out / f"answers-{part:02d}.npz"
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(_compressed({stem: arrays for stem, (arrays, _) in group.items()}))
    os.replace(temporary, path)
    print(f"{path.name}: {len(group)} shards, {path.stat().st_size / 1e6:.1f} MB", flush=True)
    return part + 1


def unpack(parts: Path, backbone_path: str, out: Path, device: str, dtype: str) -> int:
    """Write the shards that are not there yet, states computed anew; returns how many shards the parts hold."""
    files = sorted(parts.glob("answers-*.npz"))
    if not files:
        raise FileNotFoundError(f"no answers-*.npz in {parts}")
    out.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    backbone = load_backbone(backbone_path, getattr(torch, dtype), device)
    count = 0
    for file in files:
        with np.load(file, allow_pickle=False) as archive:
            stems = sorted({name.split("/")[0] for name in archive.files})
            for stem in stems:
                count += 1
                target = out / f"{stem}.safetensors"
                if not target.exists():
                    _restore(
                        {n.split("/")[1]: archive[n] for n in archive.files if n.startswith(stem + "/")},
                        backbone,
                        target,
                    )
        print(f"{file.name}: {len(stems)} shards", flush=True)
    return count


def _restore(arrays: dict[str, np.ndarray], backbone, target: Path) -> None:
    facts = json.loads(arrays["facts"].tobytes())
    if facts["hidden_size"] != backbone.config.hidden:
        raise ValueError(
            f"{target.stem} was written by a backbone of hidden size {facts['hidden_size']}, "
            f"this one has {backbone.config.hidden}"
        )
    rows, contexts = arrays["offsets"], arrays["context_offsets"]
    answers = [
        Answer(
            int(arrays["conversation"][a]),
            source,
            float(arrays["temperature"][a]),
            int(arrays["turn"][a]),
            arrays["context"][contexts[a] : contexts[a + 1]].tolist(),
            arrays["tokens"][rows[a] : rows[a + 1]].tolist(),
        )
        for a, source in enumerate(facts["sources"])
    ]
    fill_states(backbone, answers)
    write_shard(target, answers, facts["conversations"], backbone.config.hidden)


def main(a: argparse.Namespace) -> None:
    if a.command == "pack":
        packed, there = pack(Path(a.data), Path(a.out), a.part_bytes, a.parts)
        print(f"packed {packed} of {there} shards", flush=True)
    else:
        print(f"{unpack(Path(a.parts), a.backbone, Path(a.out), a.device, a.dtype)} shards in {a.out}", flush=True)


if __name__ == "__main__":
    main(parse_arguments())
