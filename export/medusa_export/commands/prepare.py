"""A checkpoint (.gguf file or Hugging Face folder) becomes a model folder. Progress: JSON lines on stdout."""

from __future__ import annotations

import argparse
import errno
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ..errors import ExportError
from ..graph.heads import MAX_TOP_M
from ..precisions import PRECISIONS
from ..prepare import Request, prepare

LAYOUTS = ("split", "shared", "both")
DEFAULT_CAPACITY = 4096
_LONGEST_MESSAGE = 1000  # characters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="model folder to make or to add to")
    parser.add_argument("--from", dest="source", type=Path, required=True, metavar="PATH", help=".gguf or HF folder")
    parser.add_argument("--id", help="the model's name in the manifest (default: the output folder's name)")
    parser.add_argument(
        "--precision",
        action="append",
        metavar="NAME[,NAME]",
        help=f"{', '.join(PRECISIONS)} (default: int8, for Gemma int8-block)",
    )
    parser.add_argument("--layout", choices=LAYOUTS, help="default: split where the precision has it, else shared")
    parser.add_argument(
        "--heads",
        action="append",
        metavar="PATH[,PATH]",
        help="heads to export, or none (default: those that the model folder holds)",
    )
    parser.add_argument(
        "--adapter",
        type=Path,
        metavar="FILE",
        help="MEDUSA-2 adapter (*.adapter.safetensors) to merge in",
    )
    parser.add_argument("--chat-template", metavar="TEXT", help="Jinja template to keep in place of the model's own")
    parser.add_argument(
        "--unsigned-weights",
        action="store_true",
        help="int8 weights as uint8: opens faster on processors without VNNI, runs slower on others; same results",
    )
    parser.add_argument(
        "--replaces",
        metavar="FOLDER",
        type=Path,
        help="prepared model of the same source: default precision and chat template stay where none is given",
    )
    parser.add_argument("--keep-heads", action="store_true", help="the heads of --replaces stay beside those given")
    parser.add_argument("--revision-asked", metavar="NAME", help="branch, tag or commit that the source was named with")
    parser.add_argument("--capacity", type=int, default=DEFAULT_CAPACITY, help="cache rows of layout shared")


def check(args: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    for name in _list(args.precision or []):
        if name not in PRECISIONS:
            error(f"--precision {name}: unknown (known: {', '.join(PRECISIONS)})")
        if args.layout in ("split", "shared") and args.layout not in PRECISIONS[name].layouts:
            error(f"--precision {name} has no layout {args.layout} (it has: {PRECISIONS[name].layouts})")
    heads = _list(args.heads or [])
    if "none" in heads and len(heads) > 1:
        error(f"--heads none leaves heads out and does not go with --heads {next(h for h in heads if h != 'none')}")
    if args.capacity < MAX_TOP_M:
        error(f"--capacity {args.capacity}: expected at least {MAX_TOP_M}")


def request_of(args: argparse.Namespace) -> Request:
    output = args.output.resolve()
    names = _list(args.precision or [])
    heads = None if args.heads is None else [Path(path) for path in _list(args.heads) if path != "none"]
    name, layout = args.id or output.name, args.layout or "auto"
    return Request(
        output,
        args.source,
        name,
        names,
        layout,
        heads,
        args.capacity,
        args.adapter,
        args.chat_template,
        args.unsigned_weights,
        args.replaces,
        args.keep_heads,
        args.revision_asked,
    )


def _list(values: list[str]) -> list[str]:
    """Repeated options and comma-separated values are the same; order kept, doubles dropped."""
    return list(dict.fromkeys(part for value in values for part in value.split(",") if part))


def run(args: argparse.Namespace) -> int:
    """Exit code 0, 1 (one line `error: ...` on stderr) or 130 (interrupted)."""
    request = request_of(args)
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
