"""Pairs of models that differ in their attention only, for an A/B on a CUDA device.

`PYTHONPATH=export python export/attention_variants.py --model DIR --output DIR --capacities 512,1280,4352`

For each capacity C two model folders are written, group-query-C and attention-24-C, from the "shared" backbone of a
prepared model. Their weights are hard links to the model's own files, so both must lie on one disk.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

import onnx

from medusa_export.errors import ExportError
from medusa_export.export import export_keep
from medusa_export.graph.attention_24 import with_attention_24, with_capacity
from medusa_export.manifest import NAME, Manifest, dump, put, read_manifest, set_defaults
from medusa_export.weights import ModelConfig
from medusa_export.weights.hashing import sha256_of

KINDS = ("group-query", "attention-24")


def config_of(manifest: Manifest) -> ModelConfig:
    """The sizes that graphs are rewritten by."""
    m = manifest["model"]
    names = (
        "layers", "hidden_size", "query_heads", "kv_heads", "head_dim", "intermediate_size", "vocab_size",
        "context_length", "rope_theta", "rms_norm_eps", "tied_embeddings",
    )  # fmt: skip
    return ModelConfig(family=m["family"], **{name: m[name] for name in names})


def write_variants(model: Path, output: Path, capacities: list[int], precision: str) -> list[Path]:
    """The folders written, in pairs."""
    manifest = read_manifest(model)
    if manifest is None:
        raise ExportError(f"--model {model} holds no {NAME}")
    shared = [e for e in manifest["backbones"] if e["layout"] == "shared" and e["precision"] == precision]
    if not shared:
        raise ExportError(f"--model {model} has no {precision} backbone of layout shared; prepare it with one")
    entry = shared[0]
    graph = onnx.load(model / entry["file"], load_external_data=False)
    folders = []
    for capacity in capacities:
        if not 0 < capacity <= entry["capacity"]:
            raise ExportError(f"--capacities {capacity}: the model's rotary tables end at {entry['capacity']}")
        for kind in KINDS:
            folder = output / f"{kind}-{capacity}"
            _write_variant(model, manifest, entry, graph, kind, capacity, folder)
            folders.append(folder)
    return folders


def _write_variant(
    model: Path, manifest: Manifest, entry: dict[str, Any], graph: onnx.ModelProto, kind: str, capacity: int, to: Path
) -> None:
    if to.exists():
        shutil.rmtree(to)
    to.mkdir(parents=True)
    config = config_of(manifest)
    changed = with_capacity(graph, capacity)
    if kind == "attention-24":
        changed = with_attention_24(changed, config)
    path = to / entry["file"]
    path.write_bytes(changed.SerializeToString())
    heads = [each for each in manifest["heads"] if each["precision"] == entry["precision"]]
    tokenizer = [manifest["tokenizer"]["file"], manifest["tokenizer"]["config"]]
    weights = [f["file"] for f in entry["files"] if f["file"] != entry["file"]]
    for name in [*tokenizer, *weights, *(f["file"] for each in heads for f in each["files"])]:
        os.link(model / name, to / name)
    own = {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
    files = [own if f["file"] == path.name else f for f in entry["files"]]
    result = manifest | {
        "model": manifest["model"] | {"id": f"{manifest['model']['id']}-{to.name}"},
        "backbones": [entry | {"capacity": capacity, "attention": kind, "files": files}],
        "keep": [],
        "heads": heads,
    }
    put(result, "keep", export_keep(config, to, entry["precision"], capacity))
    set_defaults(result)
    (to / NAME).write_text(dump(result), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--capacities", default="512,1280,4352")
    parser.add_argument("--precision", default="fp16", choices=("fp16", "fp32"))
    args = parser.parse_args()
    capacities = [int(each) for each in args.capacities.split(",")]
    try:
        folders = write_variants(args.model, args.output, capacities, args.precision)
    except (ExportError, OSError) as error:
        print(f"error: {error}")
        return 1
    print(json.dumps({"folders": [str(folder) for folder in folders]}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
