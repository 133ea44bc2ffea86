"""From a checkpoint to the files of a model folder, and the manifest entries that describe them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .graph.backbone import build_shared, build_split
from .graph.builder import GraphBuilder
from .graph.heads import MAX_TOP_M, build_heads
from .graph.keep import build_keep
from .precisions import precision
from .weights import ModelConfig, WeightSource
from .weights.conditional_file import ConditionalTables
from .weights.hashing import sha256_of
from .weights.heads_checkpoint import HeadsCheckpoint
from .weights.source import HalfSource

Progress = Callable[[int, int], None]
Entry = dict[str, Any]


def backbone_file(name: str, layout: str) -> str:
    return f"backbone.{name}.onnx" if layout == "split" else f"backbone.{name}.shared.onnx"


def export_backbone(
    source: WeightSource,
    folder: Path,
    name: str,
    layout: str,
    capacity: int,
    progress: Progress,
    facts: dict[str, str] | None = None,
    unsigned_weights: bool = False,
) -> Entry:
    """Write one backbone, whose metadata also say `facts`; returns its manifest entry.

    unsigned_weights: keep int8 weights as uint8, in precisions that have such.
    """
    kind, path = precision(name), folder / backbone_file(name, layout)
    is_unsigned = unsigned_weights and kind.unsigned_linear is not None
    linear = kind.unsigned_linear() if is_unsigned else kind.linear()
    if layout == "split":
        b = build_split(kind.prepared(source), linear, path, kind.keep_embedding_codes, progress, kind.sums)
    else:
        b = build_shared(HalfSource(source) if linear.dtype == "float16" else source, linear, path, capacity, progress)
    limit = None if layout == "split" else capacity
    b.facts = facts_of(source) | (facts or {}) | {"precision": name, "layout": layout}
    kept = {"unsigned_weights": True} if is_unsigned else {}
    return {"precision": name, "layout": layout, "capacity": limit, **kept, **graph_entry(b)}


def facts_of(source: WeightSource) -> dict[str, str]:
    """What a graph says about its model."""
    c = source.config
    return {"source": source.path.resolve().name, "family": c.family, "context_length": str(c.context_length)}


def export_keep(config: ModelConfig, folder: Path, name: str, capacity: int) -> Entry:
    """Write the keep graph of the shared layout; returns its manifest entry."""
    b = build_keep(config, capacity, precision(name).linear().dtype, folder / f"keep.{name}.onnx")
    return {"precision": name, "capacity": capacity, **graph_entry(b)}


def export_heads(heads: HeadsCheckpoint, folder: Path, name: str, flush: bool = True) -> Entry:
    """Write a heads graph, and the tables of its conditional joint if it has one; returns its manifest entry."""
    b = build_heads(heads, name, folder / f"heads.{heads.name}.{name}.onnx")
    b.facts = {"heads": heads.name, "precision": name, "source_sha256": heads.source_sha256}
    trees = {"static_tree": heads.static_tree} if heads.static_tree else {}
    entry = {
        "name": heads.name,
        "precision": name,
        **graph_entry(b, flush),
        "count": heads.count,
        "max_top_m": min(MAX_TOP_M, heads.draft_vocab_size),
        "draft_vocab_size": heads.draft_vocab_size,
        "accuracies": heads.accuracies,
        "temperatures": heads.temperatures,
        **trees,
        "source_sha256": heads.source_sha256,
    }
    if heads.conditional is not None:
        entry["conditional"] = _export_conditional(heads.conditional, folder / f"heads.{heads.name}.conditional.bin")
    return entry


def _export_conditional(tables: ConditionalTables, path: Path) -> Entry:
    """Write the tables, the same for every precision of the heads; returns the manifest's `conditional`."""
    if not path.exists():
        tables.write(path)
        flush_file(path)
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path), **tables.facts()}


def graph_entry(b: GraphBuilder, flush: bool = True) -> Entry:
    """Write a graph and describe its files. Without `flush` they may reach the disk later."""
    files = b.finish()
    for path in files if flush else []:
        flush_file(path)
    listed = [{"file": p.name, "bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in files]
    return {"file": files[0].name, "files": listed, "inputs": b.inputs, "outputs": b.outputs}


def flush_file(path: Path) -> None:
    """Have the disk hold the file before anything names it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
