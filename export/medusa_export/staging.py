"""Writing a model folder so that nothing half-made is ever seen under its name.

A new folder is filled beside its place and renamed. An existing one gets its new files in a hidden folder inside it;
they are renamed into place one by one, and the manifest, which alone makes them count, is replaced last.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ExportError
from .export import flush_file
from .manifest import NAME, Manifest, dump


@contextmanager
def staging_folder(target: Path, is_new: bool) -> Iterator[Path]:
    """A fresh folder on the same disk as `target`, removed whatever happens; those of dead processes go first."""
    parent = target.parent if is_new else target
    stem = f"{target.name if target.name.startswith('.') else '.' + target.name}.partial-"
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(stem + "*"):
        owner = left.name.removeprefix(stem)
        if owner.isdigit() and not _is_alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    folder = parent / f"{stem}{os.getpid()}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def publish(staged: Path, target: Path, manifest: Manifest, is_new: bool) -> None:
    """Move the staged files to `target`; the manifest comes last."""
    path = staged / NAME
    path.write_text(dump(manifest), encoding="utf-8")
    for file in staged.iterdir():
        flush_file(file)
    if is_new:
        if target.is_dir():  # empty: checked by `check_target`
            target.rmdir()
        staged.rename(target)
    else:
        for file in sorted(p for p in staged.iterdir() if p != path):
            file.replace(target / file.name)
        path.replace(target / NAME)
    _flush_folder(target)
    _flush_folder(target.parent)


def _flush_folder(path: Path) -> None:
    """Have the disk hold the renames; a file system that cannot says so, and it does not matter."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def check_target(target: Path, manifest: Manifest | None) -> None:
    """Refuse to write over something that is no model folder."""
    if target.exists() and not target.is_dir():
        raise ExportError(f"--output {target} is a file; give a folder")
    if manifest is None and target.is_dir() and any(p for p in target.iterdir() if ".partial-" not in p.name):
        raise ExportError(f"--output {target} is not empty and holds no {NAME}; give a new folder or empty this one")
