"""The CSV files in which a training logs its figures."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from lincae_formats.atomic import atomic_path


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """Appends a row, after a header if the file is new."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)


def drop_rows_after(path: Path, step: int) -> None:
    """Removes what a killed run logged after its last checkpoint, which the resumed one logs again, and torn rows.

    Args:
        path: CSV file whose first column or header names `step`; nothing happens if it is missing.
        step: last step to keep.
    """
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    columns = lines[0].split(",") if lines else []
    if "step" not in columns:
        return
    at = columns.index("step")
    rows = [line.split(",") for line in lines[1:]]
    kept = [r for r in rows if len(r) == len(columns) and r[at].isdigit() and int(r[at]) <= step]
    with atomic_path(path, overwrite=True) as temporary:
        Path(temporary).write_text("\n".join(",".join(r) for r in [columns, *kept]) + "\n", encoding="utf-8")
