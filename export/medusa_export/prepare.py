"""From a checkpoint, heads and an adapter to a model folder. Progress: JSON lines on stdout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import ExportError
from .export import export_backbone, export_heads, export_keep
from .manifest import Manifest, model_section, new_manifest, put, read_manifest, set_defaults
from .needs import check_disk, disk_need, enough_memory, memory_need
from .precisions import default_precision, precision
from .staging import check_target, publish, staging_folder
from .tokenizer_files import write_tokenizer
from .weights import WeightSource, open_source
from .weights.adapter import AdaptedSource, Adapter, read_adapter
from .weights.checked import reading
from .weights.conditional_file import conditional_beside, read_conditional
from .weights.hashing import sha256_of
from .weights.heads_checkpoint import HeadsCheckpoint
from .weights.hub_cache import name_of
from .weights.medusa_files import heads_bytes, heads_files, own_heads, read_heads
from .weights.origin import origin_of

WORTH_TELLING = 10**9  # bytes: smaller models fit anywhere
TEMPERATURE_TOLERANCE = 0.05  # relative; a conditional joint hardly notices less than that


@dataclass(frozen=True)
class Request:
    """What the command line asked for."""

    output: Path
    source: Path
    model_id: str
    precisions: list[str]  # none: the family's default
    layout: str
    heads: list[Path] | None  # None: those that the model folder holds
    capacity: int
    adapter: Path | None = None
    chat_template: str | None = None  # in place of the model's own
    unsigned_weights: bool = False  # int8 weights as uint8
    replaces: Path | None = None  # a prepared model, of which stays what is not asked for
    keep_heads: bool = False  # those of `replaces` too
    revision_asked: str | None = None  # the branch, tag or commit that the source was named with


def _tell(stage: str, done: int = 0, total: int = 1, **more: int) -> None:
    line = {"stage": stage, "done": done, "total": total, "message": f"{stage} ({done}/{total})"}
    print(json.dumps(line | more), flush=True)


def prepare(request: Request) -> Manifest:
    """Export what was asked for into a new folder, or add it to the one that is there."""
    manifest = read_manifest(request.output)
    check_target(request.output, manifest)
    _tell("Reading the checkpoint")
    source = open_source(request.source)
    for note in source.config.notes:
        _tell(f"Note: {note}")
    request = replace(request, precisions=request.precisions or [default_precision(source.config)])
    for name in request.precisions:
        precision(name).check_fits(source.config)
    heads = _heads_paths(request, source)
    with _naming_own_heads(request):
        bytes_of_heads = sum(map(heads_bytes, heads))
    need = memory_need(source.config, bytes_of_heads)
    graphs = [name for name in request.precisions for _ in _layouts(request.layout, precision(name).layouts)]
    disk = disk_need(source, graphs, bytes_of_heads)
    if disk > WORTH_TELLING:
        _tell(
            f"Note: the model takes about {disk / 1e9:.1f} GB on disk, its conversion about {need / 1e9:.1f} GB of"
            " memory"
        )
    check_disk(request.output, disk)
    # Told before it is needed: the system may end this process without a word.
    _tell("Reading the checkpoint", 1, memory=need)
    with enough_memory(name_of(request.source), need):
        result = _convert(request, source, heads, manifest)
    _tell("Done", 1)
    return result


def _heads_paths(request: Request, source: WeightSource) -> list[Path]:
    """The heads to export. What becomes of those that the model folder holds is told."""
    where, asked, model = own_heads(source), request.heads, request.source.resolve()
    if where is None or any(path.resolve() == model for path in asked or []):
        return asked or []
    if asked is None and request.adapter is None:
        name = name_of(model)
        _tell(f"Note: {name} holds Medusa heads {where}; they are exported too (--heads none leaves them out)")
        return [model]
    instead = ""
    if asked:
        instead = f"; {', '.join(map(name_of, asked))} {'are' if len(asked) > 1 else 'is'} exported instead"
    elif asked is None:
        instead = ": they were not trained with the adapter (--heads brings them all the same)"
    _tell(f"Note: the Medusa heads that {name_of(model)} holds {where} are left out{instead}")
    return asked or []


@contextmanager
def _naming_own_heads(request: Request) -> Iterator[None]:
    """Adds to errors of heads that nobody asked for how to do without them."""
    try:
        yield
    except ExportError as error:
        if request.heads is not None:
            raise
        raise ExportError(f"{error} (--heads none leaves the heads of {name_of(request.source)} out)") from error


def _convert(request: Request, source: WeightSource, paths: list[Path], manifest: Manifest | None) -> Manifest:
    with reading(request.source):
        digest = sha256_of(request.source)
    if manifest is not None and manifest["source"]["sha256"] != digest:
        raise ExportError(
            f"--output {request.output} was made from {manifest['source']['name']} (sha256"
            f" {manifest['source']['sha256'][:12]}...), not from {name_of(request.source)} (sha256 {digest[:12]}...)"
        )
    adapter = None if request.adapter is None else read_adapter(request.adapter)
    if adapter is not None:
        adapter.check_fits(source.config, name_of(request.source), digest)
    if manifest is not None:
        _check_same_adapter(request, manifest, adapter)
    with _naming_own_heads(request):
        for path in paths:
            _tell_files_left_out(path)
        heads, paths = _distinct([read_heads(path, source) for path in paths], paths)
        for each in heads:
            each.check_fits(source.config, request.model_id, digest, adapter and adapter.sha256)
    heads = [_with_embedding(each, source) for each in heads]
    heads = [_with_conditional(each, path, source) for each, path in zip(heads, paths, strict=True)]
    earlier = _replaced(request, digest)
    with staging_folder(request.output, manifest is None) as staged:
        result = manifest or _begin(request, source, staged, digest, adapter, earlier)
        merged = source if adapter is None else AdaptedSource(source, adapter)
        if adapter is not None and "int4" in request.precisions and source.kind == "gguf":
            _tell("Note: int4 rounds the merged weights to 4 bits, since they have no 4-bit codes; int8 is nearer")
        facts = origin_of(source) | {"source_sha256": digest} | ({"adapter": adapter.name} if adapter else {})
        _export_backbones(request, merged, staged, result, facts)
        for each in heads:
            _export_head(each, staged, result)
        if earlier is not None and request.replaces is not None and request.keep_heads:
            _keep_heads(request.replaces, earlier, staged, result)
        _tell_heads_gone(earlier, result)
        set_defaults(result, (_default_of(earlier), default_precision(source.config)))
        publish(staged, request.output, result, manifest is None)
    return result


def _replaced(request: Request, digest: str) -> Manifest | None:
    """The manifest of the model that this one replaces, if both are of one source."""
    earlier = None if request.replaces is None else read_manifest(request.replaces)
    return earlier if earlier is not None and earlier["source"]["sha256"] == digest else None


def _default_of(earlier: Manifest | None) -> str | None:
    return None if earlier is None else (earlier["defaults"].get("cpu") or {}).get("backbone")


def _keep_heads(folder: Path, earlier: Manifest, staged: Path, manifest: Manifest) -> None:
    """Copies the heads of `folder` that were not exported again; the order stays, since the first are the default."""
    exported = {entry["name"] for entry in manifest["heads"]}
    for entry in earlier["heads"]:
        if entry["name"] in exported:
            continue
        _tell(f"Note: the heads {entry['name']} stay (--heads replaces them, --heads none leaves them out)")
        conditional = entry.get("conditional") or {}
        for file in [*(each["file"] for each in entry["files"]), *filter(None, [conditional.get("file")])]:
            if not (staged / file).exists():
                shutil.copyfile(folder / file, staged / file)
        put(manifest, "heads", entry)
    order = [entry["name"] for entry in earlier["heads"]]
    manifest["heads"].sort(key=lambda entry: order.index(entry["name"]) if entry["name"] in order else len(order))
    needs_half = any(entry["precision"] == "fp16" for entry in manifest["backbones"])
    have_half = {entry["name"] for entry in manifest["heads"] if entry["precision"] == "fp16"}
    if needs_half and (lacking := [name for name in dict.fromkeys(order) if name not in have_half]):
        raise ExportError(f"precision fp16 needs the heads {', '.join(lacking)} once more: give them with --heads")


def _tell_heads_gone(earlier: Manifest | None, manifest: Manifest) -> None:
    """Says which heads of the model that is replaced are in the new one no longer."""
    there = {entry["name"] for entry in manifest["heads"]}
    gone = dict.fromkeys(entry["name"] for entry in (earlier or {"heads": []})["heads"] if entry["name"] not in there)
    if gone:
        why = "--heads replaces all that it had (name them too to keep them)" if there else "--heads none"
        _tell(f"Note: the heads {', '.join(gone)} are no longer in the model: {why}")


def _tell_files_left_out(path: Path) -> None:
    """Says which file of a folder the heads come from, where several could be meant."""
    if not path.is_dir():
        return
    with reading(path):
        taken, *others = heads_files(path) or [""]
    if others:
        _tell(f"Note: {name_of(path)} holds heads in {' and '.join([taken, *others])}; those in {taken} are exported")


def _distinct(heads: list[HeadsCheckpoint], paths: list[Path]) -> tuple[list[HeadsCheckpoint], list[Path]]:
    """The heads under names of their own. Of the same ones in two formats those of safetensors stay, which is told."""
    kept: dict[str, tuple[HeadsCheckpoint, Path]] = {}
    for each, path in zip(heads, paths, strict=True):
        other, of = kept.get(each.name, (each, path))
        if other is not each and not each.same_tensors(other):
            raise ExportError(
                f"--heads {of} and --heads {path} would both be named '{each.name}', and are not the same heads; give"
                " one of the two another file name"
            )
        taken, left = (path, of) if path.suffix == ".safetensors" else (of, path)
        if other is not each:
            _tell(f"Note: {left.name} and {taken.name} hold the same heads; those in {taken.name} are exported")
        kept[each.name] = (each, path) if taken == path else (other, of)
    return [each for each, _ in kept.values()], [path for _, path in kept.values()]


def _check_same_adapter(request: Request, manifest: Manifest, adapter: Adapter | None) -> None:
    def told(entry: dict[str, str] | None) -> str:
        return f"adapter {entry['name']} (sha256 {entry['sha256'][:12]}...)" if entry else "no adapter"

    there, asked = manifest["source"].get("adapter"), _adapter_entry(adapter)
    if (there or {}).get("sha256") != (asked or {}).get("sha256"):
        raise ExportError(f"--output {request.output} was made with {told(there)}, not with {told(asked)}")


def _adapter_entry(adapter: Adapter | None) -> dict[str, str] | None:
    return None if adapter is None else {"name": adapter.name, "sha256": adapter.sha256}


def _begin(
    request: Request,
    source: WeightSource,
    staged: Path,
    digest: str,
    adapter: Adapter | None,
    earlier: Manifest | None,
) -> Manifest:
    _tell("Writing the tokenizer")
    tokenizer = write_tokenizer(source, staged, request.chat_template or _template_of(request, earlier))
    for note in tokenizer.notes:
        _tell(f"Note: {note}")
    facts = origin_of(source)
    origin = {"kind": source.kind, "name": facts["source"], "sha256": digest, "quantization": source.quantization}
    origin |= {"revision": facts["revision"]} if "revision" in facts else {}
    origin |= {} if request.revision_asked is None else {"revision_asked": request.revision_asked}
    origin |= {} if adapter is None else {"adapter": _adapter_entry(adapter)}
    return new_manifest(model_section(source.config, request.model_id), tokenizer.facts, staged, origin)


def _template_of(request: Request, earlier: Manifest | None) -> str | None:
    """The chat template of the model that this one replaces."""
    if request.replaces is None or earlier is None:
        return None
    found = json.loads((request.replaces / "tokenizer_config.json").read_text("utf-8")).get("chat_template")
    return found if isinstance(found, str) else None


def _export_backbones(
    request: Request, source: WeightSource, staged: Path, manifest: Manifest, facts: dict[str, str]
) -> None:
    # In the shared layout a window is not cut out: its cache ends where the first begins to slide.
    capacity = min(request.capacity, source.config.shortest_window)
    for name in request.precisions:
        for layout in _layouts(request.layout, precision(name).layouts):
            stage = f"Exporting the {name} backbone" + (" (shared cache)" if layout == "shared" else "")
            _tell(stage)

            def progress(done: int, total: int, stage: str = stage) -> None:
                _tell(stage, done, total)

            args = source, staged, name, layout, capacity, progress, facts, request.unsigned_weights
            put(manifest, "backbones", export_backbone(*args))
            if layout == "shared":
                put(manifest, "keep", export_keep(source.config, staged, name, capacity))


def _layouts(asked: str, there: tuple[str, ...]) -> tuple[str, ...]:
    """auto: the first, which is "split" wherever a precision has it."""
    return {"both": there, "auto": there[:1]}.get(asked, (asked,))


def _with_embedding(heads: HeadsCheckpoint, source: WeightSource) -> HeadsCheckpoint:
    """The heads with the backbone's embedding, if they read tokens."""
    return heads if heads.token_weights is None else replace(heads, embedding=source.tensor("embed.weight"))


def _with_conditional(heads: HeadsCheckpoint, path: Path, source: WeightSource) -> HeadsCheckpoint:
    """The heads with the conditional joint that lies beside their file, if one does."""
    beside = conditional_beside(path)
    if beside is None:
        return heads
    tables = read_conditional(beside, source, heads.name, heads.source_sha256, heads.count, heads.token_map)
    if _changed(tables.temperatures, heads.temperatures):
        _tell(
            f"Note: {beside.name} was trained on marginals with the temperatures {tables.temperatures}, but heads"
            f" '{heads.name}' now have {heads.temperatures}; train it again (docs/training.md)"
        )
    return replace(heads, conditional=tables)


def _changed(then: list[float] | None, now: list[float]) -> bool:
    """Whether temperatures differ by more than the tolerance; those that were not recorded do not."""
    if not then:
        return False
    return len(then) != len(now) or any(abs(b / a - 1) > TEMPERATURE_TOLERANCE for a, b in zip(then, now, strict=True))


def _export_head(heads: HeadsCheckpoint, staged: Path, manifest: Manifest) -> None:
    """One graph for each type of hidden state the backbones give: int8 for float32 ones, fp16 for float16 ones."""
    _tell(f"Exporting the heads {heads.name}")
    wanted = ["int8"] + (["fp16"] if any(e["precision"] == "fp16" for e in manifest["backbones"]) else [])
    for name in wanted:
        put(manifest, "heads", export_heads(heads, staged, name))
