"""manifest.json, format 1: what lies in a model folder (docs/formats.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import EXPORTER, FORMAT, MINIMUM_ORT
from .errors import ExportError
from .tokenizer_files.facts import TokenizerFacts
from .weights import ModelConfig
from .weights.checked import read_json, shown
from .weights.fields import Fields
from .weights.hashing import sha256_of

NAME = "manifest.json"
# The manifest's own sha256, taken with zeros in its place.
_SEAL = "manifest_sha256"
_UNSEALED = "0" * 64
Manifest = dict[str, Any]
# The first of these that is there becomes the default of its provider.
_CPU_PREFERENCE = ("int8", "int4", "int8-block", "fp32")
_CUDA_PREFERENCE = ("fp16",)


def model_section(config: ModelConfig, model_id: str) -> dict[str, Any]:
    return {
        "id": model_id,
        "family": config.family,
        "layers": config.layers,
        "hidden_size": config.hidden_size,
        "query_heads": config.query_heads,
        "kv_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate_size,
        "vocab_size": config.vocab_size,
        "context_length": config.context_length,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.rms_norm_eps,
        "tied_embeddings": config.tied_embeddings,
    }


def new_manifest(model: dict[str, Any], facts: TokenizerFacts, folder: Path, source: dict[str, Any]) -> Manifest:
    """A manifest with no graphs yet; `folder` already holds the tokenizer's files."""
    return {
        "format": FORMAT,
        "exporter": EXPORTER,
        "minimum_ort": MINIMUM_ORT,
        "model": model,
        "tokenizer": {
            "file": "tokenizer.json",
            "config": "tokenizer_config.json",
            "sha256": sha256_of(folder / "tokenizer.json"),
            "config_sha256": sha256_of(folder / "tokenizer_config.json"),
            "bos_token_id": facts.bos_token_id,
            "eos_token_ids": facts.eos_token_ids,
            "add_bos": facts.add_bos,
        },
        "source": source,
        "backbones": [],
        "keep": [],
        "heads": [],
        "defaults": {},
    }


_KEYS = {"backbones": ("precision", "layout"), "keep": ("precision",), "heads": ("name", "precision")}


def put(manifest: Manifest, section: str, entry: dict[str, Any]) -> None:
    """Add an entry, in place of one for the same thing."""
    keys = _KEYS[section]
    others = [e for e in manifest[section] if any(e[k] != entry[k] for k in keys)]
    manifest[section] = [*others, entry]


def set_defaults(manifest: Manifest, preferred: Sequence[str | None] = ()) -> None:
    """Defaults by provider: those that are set stay, so that nothing that is added changes what runs.

    `preferred`: precisions for CPUs that go before the general order.
    """

    def choose(layout: str, preference: tuple[str | None, ...]) -> str | None:
        provider = "cpu" if layout == "split" else "cuda"
        kept = (manifest["defaults"].get(provider) or {}).get("backbone")
        there = [e["precision"] for e in manifest["backbones"] if e["layout"] == layout]
        return next((p for p in (kept, *preference) if p in there), there[0] if there else None)

    heads = manifest["heads"][0]["name"] if manifest["heads"] else None
    manifest["defaults"] = {
        "cpu": {"backbone": choose("split", (*preferred, *_CPU_PREFERENCE)), "heads": heads},
        "cuda": {"backbone": choose("shared", _CUDA_PREFERENCE), "heads": heads},
    }


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a model folder, or None where there is none."""
    path = folder / NAME
    if not path.exists():
        return None
    try:
        manifest: Manifest = read_json(path)
        if manifest.get("format") != FORMAT:
            found = shown(manifest.get("format"))
            raise ExportError(f"{path} has format {found}, expected {FORMAT}; prepare into a new folder")
        # One without a seal was written before there were any.
        seal = manifest.pop(_SEAL, None)
        text = path.read_text(encoding="utf-8")
        if seal is not None and _seal_of(_with_seal(text, str(seal), _UNSEALED)) != seal:
            raise ExportError(f"{path} was changed: its content does not give its {_SEAL}")
        _check(manifest, Fields(NAME, manifest.get))
    except ExportError as error:
        if "prepare into" in str(error):
            raise
        raise ExportError(f"{error}; delete {folder} and prepare again") from error
    return manifest


def _check(manifest: Manifest, fields: Fields) -> None:
    """What is read of a manifest when something is added to it."""
    source = Fields(f"{NAME}: source", fields.mapping("source").get)
    source.text("name"), source.text("sha256")
    if adapter := source.mapping("adapter"):
        of_adapter = Fields(f"{NAME}: source.adapter", adapter.get)
        of_adapter.text("name"), of_adapter.text("sha256")
    for section, keys in _KEYS.items():
        for entry in fields.items(section):
            if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in keys):
                raise ExportError(f"{NAME}: {section} holds {shown(entry)}; expected {' and '.join(keys)} as texts")


def dump(manifest: Manifest) -> str:
    """The text of a manifest, sealed: a changed byte is noticed when it is read."""
    unsealed = json.dumps({**manifest, _SEAL: _UNSEALED}, indent=2, ensure_ascii=False) + "\n"
    return _with_seal(unsealed, _UNSEALED, _seal_of(unsealed))


def _with_seal(text: str, old: str, new: str) -> str:
    return text.replace(f'"{_SEAL}": "{old}"', f'"{_SEAL}": "{new}"')


def _seal_of(unsealed: str) -> str:
    return hashlib.sha256(unsealed.encode()).hexdigest()
