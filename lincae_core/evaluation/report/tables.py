"""The tables of a report: what was measured here, and the paper's figures, each cell with its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lincae_core.evaluation.report.published import LINEARITY, SEPARATION, SOURCE

Source = Literal["measured", "paper"]
Key = tuple[str, str, str]  # measure, metric, target
STEMS = ("bass", "drums", "other", "vocals")


@dataclass(frozen=True)
class Cell:
    """One figure.

    Args:
        value: mean; None where nothing was measured.
        low: lower end of the mean's 95 % confidence interval.
        high: upper end.
        n: values behind the mean; 0 where that is not known.
        digits: after the point, where they are not the table's.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    digits: int | None = None

    @property
    def margin(self) -> float | None:
        """Half the width of the interval, which is symmetric."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclass(frozen=True)
class Row:
    """A system in a table.

    Args:
        label: what the table calls it.
        source: whether its figures were measured in this run or are the paper's.
        cells: one for each column.
        system: its name in the results; None for the paper's.
    """

    label: str
    source: Source
    cells: tuple[Cell, ...]
    system: str | None = None


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        name: short, for files.
        title: above it.
        columns: headings, without that of the systems.
        rows: ours first, then the paper's.
        digits: after the point.
        better: whether `lower` or `higher` figures are better; None where neither.
        note: below it.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    digits: int
    better: Literal["lower", "higher"] | None
    note: str


def from_json(table: dict[str, Any]) -> Table:
    """A table of the `tables` in `lincae eval`'s JSON."""
    rows = (Row(**{**row, "cells": tuple(Cell(**cell) for cell in row["cells"])}) for row in table["rows"])
    return Table(**{**table, "columns": tuple(table["columns"]), "rows": tuple(rows)})


def tables(results: dict[str, Any]) -> list[Table]:
    """The tables of a comparison, those without any figure left out.

    Args:
        results: JSON of `lincae eval`, schema 1.
    """
    stems = [s for s in STEMS if any(m["target"] == s for m in results["measures"])]
    on, gains = scope(results), ", ".join(f"{g:g}" for g in results["settings"]["gains"])
    paper = f"Rows marked paper are the paper's figures ({SOURCE})"
    interval = "±: 95 % confidence interval of the mean over 10 s segments (encoder errors: over tracks)."
    found = [
        Table(
            "linearity", f"Linearity, MSS and relative errors ({on})",
            ("Recons.", "Hom.", "Add.", "Enc. hom. err", "Enc. add. err"),
            (
                *_rows(results, [("recon", "mss", "mixture"), ("hom", "mss", "mixture"), ("add", "mss", "mixture"),
                                 ("enc_hom", "error", "mixture"), ("enc_add", "error", "mixture")]),
                *_published(LINEARITY),
            ),
            3, "lower",
            f"{paper}, additivity on MUSDB18-HQ and the rest on its own test data; the others were measured in this "
            f"run, with gains of {gains} and decoded audio as {results['settings']['subtype']} holds it. {interval}",
        ),
        Table(
            "separation", f"Oracle source separation, MSS ({on})",
            ("Recons.", *(s.capitalize() for s in stems)),
            (
                *_rows(results, [("recon", "mss", "mixture"), *(("sep", "mss", s) for s in stems)]),
                *_published({k: (v[0], *(v[1 + STEMS.index(s)] for s in stems)) for k, v in SEPARATION.items()}),
            ),
            3, "lower",
            f"The mixture's latents less those of the accompaniment, decoded. {paper}, on MUSDB18-HQ; the others were "
            "measured in this run.",
        ),
        Table(
            "stems", f"Reconstruction of stems, MSS ({on})", tuple(s.capitalize() for s in stems),
            _rows(results, [("recon", "mss", s) for s in stems]), 3, "lower",
            "What separation can reach at best: the stem itself, encoded and decoded.",
        ),
        Table(
            "sums", f"Additivity of 2, 3 and 4 sources, MSS ({on})", ("2", "3", "4"),
            _rows(results, [(f"add{k}", "mss", "sum") for k in (2, 3, 4)]), 3, "lower",
            "The sum of the first so many stems' latents (bass, drums, other, vocals), decoded, against their sum. Not "
            "every track has all stems, so the columns need not be means over the same tracks.",
        ),
        *(
            Table(
                metric.replace("_", "-"), f"{title}, dB ({on})",
                ("Recons.", "Hom.", "Add.", *(f"Sep. {s}" for s in stems)),
                _rows(results, [("recon", metric, "mixture"), ("hom", metric, "mixture"), ("add", metric, "mixture"),
                                *(("sep", metric, s) for s in stems)]),
                2, "higher", note,
            )
            for metric, title, note in (
                ("sdr", "SDR", "SNR without zero-mean, as in the paper."),
                ("si_sdr", "SI-SDR", "Scale-invariant (Le Roux et al., 2019)."),
            )
        ),
        Table(
            "speed", f"Size and speed ({on})",
            ("Numbers a second", "kbit/s", "Encode, x real time", "Decode, x real time"),
            tuple(_speed(s, results["data"]["seconds"]) for s in results["systems"]), 1, None,
            "Of the mixtures, mono, on the machine that measured them.",
        ),
    ]  # fmt: skip
    return [t for t in found if t.columns and any(c.value is not None for r in t.rows if r.system for c in r.cells)]


def scope(results: dict[str, Any]) -> str:
    """What was measured on: `3 tracks, 90 s, mono`."""
    data = results["data"]
    count = len(data["tracks"])
    return f"{count} track{'s'[: count != 1]}, {data['seconds']:.0f} s, {data['channels']}"


def _rows(results: dict[str, Any], keys: Sequence[Key]) -> tuple[Row, ...]:
    """A row for each system that has any of the figures."""
    known = {(m["system"], m["measure"], m["metric"], m["target"]): m for m in results["measures"]}
    rows = []
    for system in results["systems"]:
        cells = []
        for key in keys:
            m = known.get((system["name"], *key))
            cells.append(Cell() if m is None else Cell(m["mean"], m["low"], m["high"], m["n"]))
        if any(cell.value is not None for cell in cells):
            rows.append(Row(system["label"], "measured", tuple(cells), system["name"]))
    return tuple(rows)


def _published(rows: Mapping[str, tuple[float, ...]]) -> tuple[Row, ...]:
    return tuple(Row(label, "paper", tuple(Cell(v, digits=2) for v in values)) for label, values in rows.items())


def _speed(system: dict[str, Any], seconds: float) -> Row:
    def times(spent: float) -> Cell:
        return Cell(seconds / spent, digits=0 if seconds / spent >= 100 else 1) if spent > 0 else Cell()

    rate = system["latent_rate"]
    cells = (
        Cell(rate), Cell(8 * system["bytes_per_second"] / 1000),
        times(system["seconds_encode"]), times(system["seconds_decode"]),
    )  # fmt: skip
    return Row(system["label"], "measured", cells, system["name"])
