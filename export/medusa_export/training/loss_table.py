"""losses.csv of a training run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any


class LossTable:
    """One row per logged step; the first column is the step. A resumed run goes on behind the step it starts from."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self) -> None:
        """A new run: forget what an earlier one in the same folder wrote."""
        self.path.unlink(missing_ok=True)

    def resume(self, step: int) -> None:
        """Drop the rows of steps that were done after the saved state and are about to be done again."""
        if self.path.exists():
            header, *rows = self.path.read_text().splitlines()
            kept = [row for row in rows if int(row.split(",", 1)[0]) <= step]
            self.path.write_text("\n".join([header, *kept]) + "\n")

    def add(self, row: dict[str, Any]) -> None:
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as f:
            writer = csv.writer(f)
            if fresh:
                writer.writerow(row)
            writer.writerow(row.values())
