"""Linearity against reconstruction over trainings, from their validation.csv, as one picture.

python bench/learning_curves.py runs/frame-64 runs/frame-64-baseline -o docs/learning-curves.png
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

PANELS = {  # title, and the value of a row
    "reconstruction (MSS)": lambda row: row["recon"],
    "additivity over reconstruction": lambda row: row["add"] / row["recon"],
    "separation over reconstruction": lambda row: row["sep"] / row["recon"],
    "homogeneity over reconstruction": lambda row: row["hom"] / row["recon"],
    "additivity error of the encoder": lambda row: row["enc_add"],
    "homogeneity error of the encoder": lambda row: row["enc_hom"],
}


def read(run: Path) -> list[dict[str, float]]:
    """The rows of a training's validation.csv."""
    with open(run / "validation.csv", newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def main() -> None:
    """Draws the panels, and prints the values at 10, 50 and 100 % of every training."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("runs", nargs="+", type=Path, help="folders of trainings")
    options.add_argument("-o", "--output", type=Path, required=True, help="PNG to write")
    chosen = options.parse_args()

    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), dpi=110, layout="constrained")
    axes = figure.subplots(2, 3, sharex=True).flatten()
    for run in chosen.runs:
        rows = read(run)
        percent = [100 * row["progress"] for row in rows]
        for axis, (title, value) in zip(axes, PANELS.items(), strict=True):
            axis.plot(percent, [value(row) for row in rows], marker=".", label=run.name)
            axis.set_title(title, fontsize=10)
        for at in (10, 50, 100):
            row = min(rows, key=lambda r: abs(100 * r["progress"] - at))
            shown = ", ".join(f"{title} {value(row):.3f}" for title, value in PANELS.items())
            print(f"{run.name}, {100 * row['progress']:.0f} %: {shown}")
    for axis in axes:
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    for axis in axes[3:]:
        axis.set_xlabel("% of the training")
    axes[0].legend()
    figure.savefig(chosen.output)


if __name__ == "__main__":
    main()
