"""Tables as text: terminal, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
import textwrap
from typing import Any

from lincae_core.evaluation.report.tables import Cell, Row, Table, tables

MISSING = "-"


def text_of(cell: Cell, table: Table) -> tuple[str, str]:
    """A figure and half the width of its confidence interval: `1.467`, `±0.166`; the latter may be empty."""
    if cell.value is None:
        return MISSING, ""
    digits = table.digits if cell.digits is None else cell.digits
    return f"{cell.value:.{digits}f}", "" if cell.margin is None else f"±{cell.margin:.{digits}f}"


def label_of(row: Row) -> str:
    """What a row is called; the paper's are marked."""
    return row.label if row.source == "measured" else f"{row.label} (paper)"


def arrow(table: Table) -> str:
    """Which way is better, after a title."""
    return {"lower": ", lower is better", "higher": ", higher is better", None: ""}[table.better]


def render_terminal(results: dict[str, Any]) -> str:
    """The tables as aligned text."""
    from rich.console import Console
    from rich.table import Table as Grid

    out = io.StringIO()
    console = Console(file=out, width=200, color_system=None, highlight=False)
    for table in tables(results):
        grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        grid.add_column("")
        widths = [max(len(text_of(row.cells[i], table)[1]) for row in table.rows) for i in range(len(table.columns))]
        for column in table.columns:
            grid.add_column(column, justify="right", no_wrap=True)
        for row in table.rows:
            grid.add_row(
                label_of(row), *(_aligned(text_of(cell, table), w) for cell, w in zip(row.cells, widths, strict=True))
            )
        out.write(table.title + arrow(table) + "\n")
        console.print(grid)
        out.write("\n".join(textwrap.wrap(table.note, 110)) + "\n\n")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).rstrip() + "\n"


def render_markdown(results: dict[str, Any]) -> str:
    """The tables as Markdown."""
    return "\n\n".join(markdown_of(table) for table in tables(results)) + "\n"


def markdown_of(table: Table) -> str:
    """One table as Markdown, with a column that says whose the figures are."""
    lines = [f"**{table.title}**{arrow(table)}", ""]
    lines.append("| | source | " + " | ".join(table.columns) + " |")
    lines.append("| --- | --- |" + " ---: |" * len(table.columns))
    for row in table.rows:
        source = "measured here" if row.source == "measured" else "the paper's"
        cells = " | ".join(" ".join(text_of(cell, table)).rstrip() for cell in row.cells)
        lines.append(f"| {row.label.replace('|', chr(92) + '|')} | {source} | {cells} |")
    return "\n".join([*lines, "", table.note])


def render_csv(results: dict[str, Any]) -> str:
    """The tables as CSV, one figure a line: table, system, source, column, mean, low, high, n."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("table", "system", "source", "column", "mean", "low", "high", "n"))
    for table in tables(results):
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                if cell.value is not None:
                    ends = ("" if end is None else f"{end:.6g}" for end in (cell.low, cell.high))
                    writer.writerow(
                        (table.name, row.label, row.source, column, f"{cell.value:.6g}", *ends, cell.n or "")
                    )
    return out.getvalue()


def render_latex(results: dict[str, Any]) -> str:
    """The tables as LaTeX (package booktabs)."""
    parts = []
    for table in tables(results):
        lines = [
            r"\begin{table}", r"\centering", rf"\caption{{{_tex(table.title + arrow(table))}. {_tex(table.note)}}}",
            rf"\label{{tab:lincae-{table.name}}}", r"\begin{tabular}{l" + "r" * len(table.columns) + "}", r"\toprule",
            " & ".join(["", *(_tex(c) for c in table.columns)]) + r" \\", r"\midrule",
        ]  # fmt: skip
        last = None
        for row in table.rows:
            if last == "measured" and row.source == "paper":
                lines.append(r"\midrule")
            last = row.source
            lines.append(" & ".join([_tex(label_of(row)), *(_tex_figure(cell, table) for cell in row.cells)]) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _aligned(figure: tuple[str, str], width: int) -> str:
    """Figures of a column stand below each other whether an interval follows or not."""
    value, margin = figure
    return f"{value} {margin:{width}}" if width else value


def _tex_figure(cell: Cell, table: Table) -> str:
    value, margin = text_of(cell, table)
    return _tex(value) + (rf" {{\scriptsize$\pm${margin[1:]}}}" if margin else "")


_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
}  # fmt: skip


def _tex(text: str) -> str:
    return re.sub(r"[\\&%$#_{}~^±]", lambda m: _SPECIAL[m[0]], text)
