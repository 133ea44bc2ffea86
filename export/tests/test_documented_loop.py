"""The loop in docs/formats.md, as it stands there: others can run the graphs from that page alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from medusa_export.measure.split_runner import SplitRunner

ROOT = Path(__file__).resolve().parents[2]
NEW = 40


def documented_loop() -> dict[str, object]:
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    code = page.split("```python\n", 1)[1].split("```", 1)[0]
    scope: dict[str, object] = {"json": json, "np": np, "ort": ort}
    exec(code, scope)
    return scope


@pytest.mark.parametrize("fixture", ["tiny", "tinytoken"])
def test_it_gives_the_tokens_of_plain_greedy_decoding(fixture: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in dict.fromkeys(("tiny", fixture)):
        for path in (ROOT / "test" / "fixtures" / name).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((folder / "manifest.json").read_text())
    file = next(each["file"] for each in manifest["backbones"] if each["layout"] == "split")
    for prompt in ([5, 17, 300, 8], [1, 2, 3, 1, 2, 3, 1, 2], list(range(20, 60))):
        runner, expected = SplitRunner(folder / file, capacity=256), []
        step = runner.run(np.array(prompt))
        for _ in range(NEW):
            runner.append(step)
            expected.append(int(step.next_tokens[-1]))
            step = runner.run(np.array(expected[-1:]))
        decode = documented_loop()["decode"]
        assert decode(str(folder), prompt, NEW) == expected  # type: ignore[operator]
