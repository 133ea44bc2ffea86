"""`python -m medusa_export.prepare`: a checkpoint becomes a model folder. Progress: JSON lines on stdout."""

from __future__ import annotations

import argparse
import errno
import json
import signal
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from .errors import ExportError
from .export import export_backbone, export_heads, export_keep
from .graph.heads import MAX_TOP_M
from .manifest import Manifest, model_section, new_manifest, put, read_manifest, set_defaults
from .memory_need import enough_memory, memory_need
from .precisions import PRECISIONS, precision
from .staging import check_target, publish, staging_folder
from .tokenizer_files import write_tokenizer
from .weights import WeightSource, open_source
from .weights.adapter import AdaptedSource, Adapter, read_adapter
from .weights.checked import reading
from .weights.conditional_file import conditional_beside, read_conditional
from .weights.hashing import sha256_of
from .weights.heads_checkpoint import HeadsCheckpoint
from .weights.medusa_files import read_heads

LAYOUTS = ("split", "shared", "both")
DEFAULT_CAPACITY = 4096
_LONGEST_MESSAGE = 1000  # characters
TEMPERATURE_TOLERANCE = 0.05  # relative; a conditional joint hardly notices less than that


@dataclass(frozen=True)
class Request:
    """What the command line asked for."""

    output: Path
    source: Path
    model_id: str
    precisions: list[str]
    layout: str
    heads: list[Path]
    capacity: int
    adapter: Path | None = None


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, 1 (one line `error: ...` on stderr), 2 (usage) or 130 (interrupted)."""
    request = _parse(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        prepare(request)
    except ExportError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("error: interrupted; nothing was changed", file=sys.stderr)
        return 130
    except MemoryError:
        return _fail(f"not enough memory to read {request.source}")
    except OSError as error:
        return _fail(_explain(error, request.output))
    except Exception as error:
        traceback.print_exc()
        return _fail(f"the exporter itself is at fault ({type(error).__name__}: {error}); please report it")
    return 0


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _fail(message: str) -> int:
    """One line, however long a name or value in the checkpoint is."""
    line = " ".join(message.splitlines())
    print(f"error: {line if len(line) <= _LONGEST_MESSAGE else line[:_LONGEST_MESSAGE] + '...'}", file=sys.stderr)
    return 1


def _explain(error: OSError, output: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk that holds {output} is full; nothing was changed"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"cannot write to {error.filename or output}: {error.strerror}"
    return f"{error.filename or output}: {error.strerror or error}"


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
    need = memory_need(source.config, request.heads)
    # Told before it is needed: the system may end this process without a word.
    _tell("Reading the checkpoint", 1, memory=need)
    with enough_memory(request.source.name, need):
        result = _convert(request, source, manifest)
    _tell("Done", 1)
    return result


def _convert(request: Request, source: WeightSource, manifest: Manifest | None) -> Manifest:
    with reading(request.source):
        digest = sha256_of(request.source)
    if manifest is not None and manifest["source"]["sha256"] != digest:
        raise ExportError(
            f"--output {request.output} was made from {manifest['source']['name']} (sha256"
            f" {manifest['source']['sha256'][:12]}...), not from {request.source.name} (sha256 {digest[:12]}...)"
        )
    adapter = None if request.adapter is None else read_adapter(request.adapter)
    if adapter is not None:
        adapter.check_fits(source.config, request.source.name, digest)
    if manifest is not None:
        _check_same_adapter(request, manifest, adapter)
    heads = [read_heads(path, source) for path in request.heads]
    for each in heads:
        each.check_fits(source.config, request.model_id, digest, adapter and adapter.sha256)
    heads = [_with_embedding(each, source) for each in heads]
    heads = [_with_conditional(each, path, source) for each, path in zip(heads, request.heads, strict=True)]
    for each in heads:
        _check_lookup(each)
    with staging_folder(request.output, manifest is None) as staged:
        result = manifest or _begin(request, source, staged, digest, adapter)
        merged = source if adapter is None else AdaptedSource(source, adapter)
        if adapter is not None and "int4" in request.precisions and source.kind == "gguf":
            _tell("Note: int4 rounds the merged weights to 4 bits anew, since they have no 4-bit codes; int8 is nearer")
        _export_backbones(request, merged, staged, result)
        for each in heads:
            _export_head(each, staged, result)
        set_defaults(result)
        publish(staged, request.output, result, manifest is None)
    return result


def _check_same_adapter(request: Request, manifest: Manifest, adapter: Adapter | None) -> None:
    def told(entry: dict[str, str] | None) -> str:
        return f"adapter {entry['name']} (sha256 {entry['sha256'][:12]}...)" if entry else "no adapter"

    there, asked = manifest["source"].get("adapter"), _adapter_entry(adapter)
    if (there or {}).get("sha256") != (asked or {}).get("sha256"):
        raise ExportError(f"--output {request.output} was made with {told(there)}, not with {told(asked)}")


def _adapter_entry(adapter: Adapter | None) -> dict[str, str] | None:
    return None if adapter is None else {"name": adapter.name, "sha256": adapter.sha256}


def _begin(request: Request, source: WeightSource, staged: Path, digest: str, adapter: Adapter | None) -> Manifest:
    _tell("Writing the tokenizer")
    tokenizer = write_tokenizer(source, staged)
    for note in tokenizer.notes:
        _tell(f"Note: {note}")
    name = request.source.resolve().name
    origin = {"kind": source.kind, "name": name, "sha256": digest, "quantization": source.quantization}
    origin |= {} if adapter is None else {"adapter": _adapter_entry(adapter)}
    return new_manifest(model_section(source.config, request.model_id), tokenizer.facts, staged, origin)


def _export_backbones(request: Request, source: WeightSource, staged: Path, manifest: Manifest) -> None:
    capacity = min(request.capacity, source.config.context_length)
    for name in request.precisions:
        for layout in _layouts(request.layout, precision(name).layouts):
            stage = f"Exporting the {name} backbone" + (" (shared cache)" if layout == "shared" else "")
            _tell(stage)

            def progress(done: int, total: int, stage: str = stage) -> None:
                _tell(stage, done, total)

            put(manifest, "backbones", export_backbone(source, staged, name, layout, capacity, progress))
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
            f" '{heads.name}' now have {heads.temperatures}; export/train_conditional.py makes one that fits better"
        )
    return replace(heads, conditional=tables)


def _check_lookup(heads: HeadsCheckpoint) -> None:
    """Says so where the weights of context lookup were fitted beside other probabilities than the heads have now."""
    fit = heads.lookup_fit
    if heads.lookup is None or "conditional_sha256" not in fit:
        return
    joint = None if heads.conditional is None else heads.conditional.source_sha256
    if fit["conditional_sha256"] != joint or _changed(fit.get("temperatures"), heads.temperatures):
        _tell(
            f"Note: the weights of context lookup of heads '{heads.name}' were fitted beside other probabilities than"
            " these heads have now; export/fit_lookup.py --write fits them anew"
        )


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


def _parse(arguments: list[str]) -> Request:
    parser = argparse.ArgumentParser(prog="medusa_export.prepare", description=__doc__, allow_abbrev=False)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="model folder to make or to add to")
    parser.add_argument("--from", dest="source", type=Path, required=True, metavar="PATH", help=".gguf or HF folder")
    parser.add_argument("--id", help="the model's name in the manifest (default: the output folder's name)")
    parser.add_argument(
        "--precision", action="append", metavar="NAME[,NAME]", help=f"{', '.join(PRECISIONS)} (default: int8)"
    )
    parser.add_argument("--layout", choices=LAYOUTS, help="default: split where the precision has it, else shared")
    parser.add_argument("--heads", action="append", default=[], metavar="PATH[,PATH]", help="heads to export")
    parser.add_argument(
        "--adapter",
        type=Path,
        metavar="FILE",
        help="MEDUSA-2 adapter (*.adapter.safetensors) to merge in",
    )
    parser.add_argument("--capacity", type=int, default=DEFAULT_CAPACITY, help="cache rows of layout shared")
    args = parser.parse_args(arguments)
    names = _list(args.precision or ["int8"])
    for name in names:
        if name not in PRECISIONS:
            parser.error(f"--precision {name}: unknown (known: {', '.join(PRECISIONS)})")
        if args.layout in ("split", "shared") and args.layout not in PRECISIONS[name].layouts:
            parser.error(f"--precision {name} has no layout {args.layout} (it has: {PRECISIONS[name].layouts})")
    if args.capacity < MAX_TOP_M:
        parser.error(f"--capacity {args.capacity}: expected at least {MAX_TOP_M}")
    output = args.output.resolve()
    heads = [Path(path) for path in _list(args.heads)]
    name, layout = args.id or output.name, args.layout or "auto"
    return Request(output, args.source, name, names, layout, heads, args.capacity, args.adapter)


def _list(values: list[str]) -> list[str]:
    """Repeated options and comma-separated values are the same; order kept, doubles dropped."""
    return list(dict.fromkeys(part for value in values for part in value.split(",") if part))


if __name__ == "__main__":
    sys.exit(main())
