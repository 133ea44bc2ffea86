"""`python -m medusa_export`: quick help, and one line where a command cannot run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medusa_export.__main__ import COMMANDS, main

PACKAGE = Path(__file__).resolve().parents[1] / "medusa_export"


def python(*words: str, folder: Path = PACKAGE.parent) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False)


def test_help_imports_neither_torch_nor_onnx_runtime() -> None:
    code = (
        "import sys; from medusa_export.__main__ import COMMANDS, parse\n"
        "for name in COMMANDS:\n"
        "    try: parse([name, '--help'])\n"
        "    except SystemExit as stop: assert stop.code == 0\n"
        "print('heavy:', {'torch', 'onnxruntime', 'tokenizers'} & set(sys.modules))"
    )
    run = python("-c", code)
    assert run.stdout.splitlines()[-1] == "heavy: set()", run.stdout + run.stderr
    assert all(f"medusa_export {name} " in run.stdout for name in COMMANDS)


@pytest.mark.parametrize("words", [[], ["train-head"], ["train"], ["evaluate", "--heads", "h"]])
def test_wrong_usage_is_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2


def test_what_the_npm_package_leaves_out_is_said(tmp_path: Path) -> None:
    left_out = shutil.ignore_patterns("training", "measure", "distil.py", "__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "medusa_export", ignore=left_out)
    (tmp_path / "run.py").write_text(
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]\n"
        "from medusa_export.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    assert python("run.py", "prepare", "--help", folder=tmp_path).returncode == 0
    run = python("run.py", "distil", folder=tmp_path)
    assert run.returncode == 1
    assert run.stderr == "error: the npm package has only `prepare` and `fetch`; other commands need a clone\n"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("medusa_export.training")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["evaluate", "--heads", "h", "--data", "d"]) == 1
    assert capsys.readouterr().err == "error: this command needs torch: install export/requirements-training.txt\n"
