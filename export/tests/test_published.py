"""Tiny copies of published models against transformers, and the table of docs/models.md beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import FAMILIES
from published import BEGIN, END, MODELS, PAGE, Published, Row, examine, line_of


@pytest.mark.parametrize("model", [m for m in MODELS if m.family in FAMILIES], ids=lambda model: model.name)
def test_a_copy_gives_the_tokens_of_transformers(model: Published, tmp_path: Path) -> None:
    row = examine(model, tmp_path, quantizations=("Q8_0",))
    assert row.is_good, row


def test_the_page_has_a_line_for_each_model() -> None:
    """Made by `python export/tests/published.py`; figures are those of the machine that made it."""
    lines = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].splitlines()[2:]
    assert len(lines) == len(MODELS)
    for line, model in zip(lines, MODELS, strict=True):
        told = "yes" if model.family in FAMILIES else "no: not supported"
        expected = line_of(model, Row(prepared=dict.fromkeys(model.layouts, told)))
        assert line.split(" | ")[:3] == expected.split(" | ")[:3]
