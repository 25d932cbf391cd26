"""JSON files side by side as a Markdown table: python bench/table.py shipped=a.json ablation=b.json"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path


def markdown(columns: Mapping[str, Mapping[str, float]], first: str = "figure") -> str:
    """A row per key of any column, in the order of their first appearance."""
    keys = list(dict.fromkeys(key for column in columns.values() for key in column))
    return rows([first, *columns], [[key, *(number(c.get(key)) for c in columns.values())] for key in keys])


def rows(head: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    """A table, its first column to the left and the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def number(value: object) -> str:
    """Three places, four where three would hide it, or a dash where there is none."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if 0 < abs(value) < 0.01 else f"{value:.3f}"


def flat(path: Path) -> dict[str, float]:
    """The numbers at the top of a JSON object."""
    values = json.loads(path.read_text(encoding="utf-8"))
    return {key: float(value) for key, value in values.items() if isinstance(value, int | float)}


def main() -> None:
    """Prints the table."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("columns", nargs="+", metavar="NAME=JSON")
    pairs = [column.partition("=")[::2] for column in p.parse_args().columns]
    print(markdown({name: flat(Path(path)) for name, path in pairs}))


if __name__ == "__main__":
    main()
