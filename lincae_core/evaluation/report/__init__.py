"""Reports of a comparison: the paper's tables with ours beside them, in every form that people paste."""

from lincae_core.evaluation.report.html import write_html
from lincae_core.evaluation.report.render import markdown_of, render_csv, render_latex, render_markdown, render_terminal
from lincae_core.evaluation.report.tables import Cell, Row, Table, from_json, tables

__all__ = [
    "Cell",
    "Row",
    "Table",
    "from_json",
    "markdown_of",
    "render_csv",
    "render_latex",
    "render_markdown",
    "render_terminal",
    "tables",
    "write_html",
]
