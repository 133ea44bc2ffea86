"""Reads the text and JSON files that options name. What is wrong ends in one line: the option, the path, the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args, get_origin

from ..errors import ExportError


def text_of(option: str, path: str | Path) -> str:
    """The file's text, UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ExportError(f"{option} {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ExportError(f"{option} {path}: expected a text file, UTF-8") from error


def lines_of(option: str, path: str | Path) -> list[tuple[int, str]]:
    """The lines that hold something, stripped, with their numbers from 1."""
    lines = enumerate(text_of(option, path).split("\n"), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def json_lines_of(option: str, path: str | Path, kinds: dict[str, Any]) -> list[dict[str, Any]]:
    """JSON Lines: objects, at least one, that have every key of `kinds`: str, int, or a non-empty list[...]."""
    lines = lines_of(option, path)
    if not lines:
        raise ExportError(f"{option} {path}: the file is empty")
    return [_checked(f"{option} {path}: line {number}", line, kinds) for number, line in lines]


def json_list_of(option: str, path: str | Path, kinds: dict[str, Any]) -> list[dict[str, Any]]:
    """One JSON list of such objects, at least one."""
    try:
        found = json.loads(text_of(option, path))
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{option} {path} is not valid JSON: {error}") from error
    if not isinstance(found, list) or not found or not all(_fits(each, kinds) for each in found):
        raise ExportError(f"{option} {path}: expected a JSON list of objects with {_described(kinds)}")
    return found


def _checked(place: str, line: str, kinds: dict[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not _fits(found, kinds):
        raise ExportError(f"{place}: expected a JSON object with {_described(kinds)}")
    return found


def _fits(value: Any, kinds: dict[str, Any]) -> bool:
    return isinstance(value, dict) and all(_is(value.get(key), kind) for key, kind in kinds.items())


def _is(value: Any, kind: Any) -> bool:
    if get_origin(kind) is list:
        return isinstance(value, list) and bool(value) and all(isinstance(each, get_args(kind)[0]) for each in value)
    return isinstance(value, kind)


def _described(kinds: dict[str, Any]) -> str:
    words = {str: "text", int: "whole number", list[str]: "list of texts", list[int]: "list of token ids"}
    return ", ".join(f'"{key}" ({words[kind]})' for key, kind in kinds.items())
