"""losses.csv of a training run, and its drawing."""

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

    def plot(self) -> None:
        """losses.png beside the table: training loss and held-out top-1 per head over positions; for MEDUSA-2 also
        how far the backbone went from the original."""
        image = self.path.with_suffix(".png")
        try:
            import matplotlib
        except ImportError:
            print(f"matplotlib is not installed: {image} was not drawn, {self.path} holds the numbers", flush=True)
            return
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        with self.path.open() as f:
            rows = list(csv.DictReader(f))
        heads = sum(name.startswith("loss_") for name in rows[0])
        has_backbone = "kl" in rows[0]
        figure, axes = plt.subplots(1, 3 if has_backbone else 2, figsize=(16 if has_backbone else 11, 4))

        def draw(axis: Any, column: str, label: str, **style: Any) -> None:
            present = [(int(r["positions"]), float(r[column])) for r in rows if r[column]]
            axis.plot([p for p, _ in present], [v for _, v in present], label=label, **style)

        for k in range(1, heads + 1):
            draw(axes[0], f"loss_{k}", f"head {k}", linewidth=1)
            draw(axes[1], f"held_out_top1_{k}", f"head {k}", marker=".")
        if has_backbone:
            draw(axes[2], "kl", "training", linewidth=1)
            draw(axes[2], "held_out_kl", "held-out", marker=".")
            axes[2].set(xlabel="positions", ylabel="KL(original || trained), nats")
        axes[0].set(xlabel="positions", ylabel="training cross entropy")
        axes[1].set(xlabel="positions", ylabel="held-out top-1")
        for axis in axes:
            axis.legend()
        figure.tight_layout()
        figure.savefig(image, dpi=110)
        plt.close(figure)
