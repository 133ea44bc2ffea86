"""What every reader of a file from outside goes through, so that a broken one ends in one line that names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ExportError

MAX_JSON_BYTES = 256 << 20  # the largest tokenizer.json in use is a tenth of it
_SHOWN = 80  # characters of a value in a message


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong while a file or folder is read into an ExportError that names it."""
    try:
        yield
    except ExportError as error:
        if path.name in str(error):
            raise
        raise ExportError(f"{path.name}: {error}") from error
    except MemoryError:
        raise
    except OSError as error:
        raise ExportError(f"{error.filename or path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # hostile bytes make parsers raise anything
        why = " ".join(str(error).split()) or "no more is known"
        raise ExportError(f"{path.name} is damaged: {type(error).__name__}: {why}") from error


def is_given(path: Path) -> bool:
    """Whether something bears this name: a file that may be left out must not be a pipe or a broken link either."""
    return path.is_symlink() or path.exists()


def check_regular(path: Path) -> None:
    """Refuse what is not there, and what may block or never end: pipes, devices, folders."""
    if not is_given(path):
        raise ExportError(f"{path} is missing")
    if not path.is_file():
        raise ExportError(f"{path} is no regular file")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file that must be there, UTF-8 throughout."""
    with reading(path):
        check_regular(path)
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ExportError(f"{path} holds {path.stat().st_size} bytes; at most {MAX_JSON_BYTES} are read")
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # what is read here is written again
        except RecursionError as error:
            raise ExportError(f"{path} is nested too deeply") from error
        except UnicodeEncodeError as error:
            raise ExportError(f"{path} holds half of a surrogate pair, which is no text") from error
        except ValueError as error:
            raise ExportError(f"{path} is not valid JSON: {error}") from error
        if not isinstance(value, dict):
            raise ExportError(f"{path} does not hold a JSON object")
        return value


def shown(value: object) -> str:
    """A value from a file as a message can hold it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
