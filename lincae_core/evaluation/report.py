"""The tables of a comparison, ours beside the paper's, as text, Markdown, CSV, LaTeX and an HTML page.

The page, like that of `lincae demo`, needs nothing beside it: audio and pictures are data URLs.
"""

from __future__ import annotations

import base64
import csv
import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lincae_core.evaluation.dataset import STEMS
from lincae_formats.errors import LincaeError
from lincae_formats.files import atomic_path

HEARD = 4  # tracks with players in a page; an excerpt is about 120 kB
PAPER = "arXiv 2510.23530"
# The paper's tables 1 and 2. MSS of reconstruction, homogeneity, additivity; relative L2 of encoder homogeneity and
# additivity. The first two on the paper's test data, additivity on MUSDB18-HQ.
PAPER_LINEARITY = {
    "Music2Latent, public weights": (1.14, 2.52, 5.01, 12.13, 2.82),
    "Stable Audio VAE": (0.72, 3.03, 5.38, 4.59, 1.71),
    "Music2Latent, retrained": (0.98, 2.27, 5.21, 8.52, 2.73),
    "Lin-CAE": (1.01, 1.37, 0.99, 0.69, 0.60),
}
# MSS of reconstruction, bass, drums, other, vocals, on MUSDB18-HQ.
PAPER_SEPARATION = {
    "Music2Latent, public weights": (1.16, 95.34, 28.08, 6.78, 5.10),
    "Stable Audio VAE": (0.57, 323.26, 87.80, 3.65, 3.08),
    "Music2Latent, retrained": (0.97, 39.56, 12.26, 5.30, 3.49),
    "Lin-CAE": (1.00, 1.58, 1.16, 1.21, 1.23),
}
OPERATIONS = {
    "recon": ("Encoded and decoded", "D(E(mixture))"),
    "half": ("Half the volume", "D(0.5 E(mixture))"),
    "sum": ("Stems added as latents", "D(E(s1) + E(s2) + ...)"),
    "sep": ("By subtraction", "D(E(mixture) - E(accompaniment))"),
}

Better = Literal["lower", "higher"]
SOUND: dict[str, tuple[str, int, Better | None, str]] = {  # heading, digits, which way is better, meaning
    "visqol": ("ViSQOL", 2, "higher", "ViSQOL, Zimtohrli: mean opinion scores, 1 to 5, higher is better"),
    "zimtohrli": ("Zimtohrli", 2, "higher", ""),
    "notes": ("Notes", 2, "higher", "Notes: F1 of what basic-pitch hears, 0 to 1"),
    "stoi": ("STOI", 2, "higher", "STOI: intelligibility, 0 to 1"),
    "sdr": ("SDR, dB", 1, "higher", "SDR: signal-to-distortion ratio, higher is better"),
    "tone": ("Tone", 2, None, "Tone: buzz at the decoder's frame rate, 1 is none"),
    "octaves": ("Octaves, dB", 1, "lower", "Octaves: error of octave levels from 500 Hz, lower is better"),
    "mss": ("MSS", 2, "lower", "MSS: multi-scale spectral distance, 0 is equal"),
}
MIXTURE = {"Recons.": "recon {} mixture", "Hom.": "hom {} mixture", "Add.": "add {} mixture"}


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    key: str = ""  # of its figures: measure, metric and target; "cost kbps"; or "speed" and a fact
    digits: int = 3  # after the point
    better: Better | None = "lower"  # which figures are; None where neither
    interval: bool = True  # whether the mean's confidence interval is shown


@dataclass(frozen=True)
class Cell:
    """One figure."""

    value: float | None = None  # mean; None where nothing was measured
    low: float | None = None  # ends of the mean's 95 % confidence interval
    high: float | None = None
    n: int = 0  # values behind the mean; 0 where that is not known
    text: str = "-"  # the mean as it is shown: `1.467`
    margin: str = ""  # half the width of its interval: `±0.166`
    best: bool = False  # whether it is the best of its column

    def shown(self, digits: int, interval: bool) -> Cell:
        """The same with its texts."""
        half = None if not interval or self.low is None or self.high is None else (self.high - self.low) / 2
        margin = "" if half is None else f"±{half:.{digits}f}"
        return self if self.value is None else replace(self, text=f"{self.value:.{digits}f}", margin=margin)


@dataclass(frozen=True)
class Row:
    """A system in a table."""

    label: str
    source: Literal["measured", "paper"]  # measured in this run, or the paper's figures
    cells: tuple[Cell, ...]  # one for each column
    system: str | None = None  # its name in the results; None for the paper's


@dataclass(frozen=True)
class Table:
    """A table."""

    name: str  # short, for files and anchors
    title: str  # above it
    columns: tuple[Column, ...]  # without that of the systems
    rows: tuple[Row, ...]  # ours first, then the paper's
    note: str  # below it

    @property
    def better(self) -> str:
        """`, lower is better` where that is so in every column; else empty."""
        ways = {c.better for c in self.columns}
        return f", {ways.pop()} is better" if len(ways) == 1 and None not in ways else ""

    @property
    def margins(self) -> list[int]:
        """Width of the longest margin of each column: with it the figures of a column stand below each other."""
        return [max(len(row.cells[i].margin) for row in self.rows) for i in range(len(self.columns))]


def tables(results: dict[str, Any]) -> list[Table]:
    """The tables of what `results.evaluate` gave; tables, and columns, without any figure are left out."""
    figures, settings = _figures(results), results["settings"]
    measured = set().union(*figures.values())
    stems = [s for s in STEMS if any(m["target"] == s for m in results["measures"])]
    on, paper = scope(results), f"The paper's rows are its own figures ({PAPER})"

    def table(
        name: str, title: str, columns: Sequence[Column], note: str, published: Mapping[str, Sequence[float]] = {}
    ) -> Table:  # fmt: skip
        columns = tuple(c for c in columns if published or c.key in measured)
        rows = []
        for system in results["systems"]:
            known = figures[system["name"]]
            if any(c.key in known and c.key != "cost kbps" for c in columns):
                cells = tuple(known.get(c.key, Cell()).shown(c.digits, c.interval) for c in columns)
                rows.append(Row(system["label"], "measured", cells, system["name"]))
        for label, values in published.items():
            rows.append(Row(label, "paper", tuple(Cell(v).shown(2, False) for v in values)))
        return Table(name, title, columns, mark_best(columns, rows), note)

    def columns(keys: Mapping[str, str], *style: Any, of: str = "mss") -> list[Column]:
        return [Column(title, key.format(of), *style) for title, key in keys.items()]

    def sound(measure: str, target: str) -> list[Column]:
        """What it costs, and how it sounds."""
        return [Column("kbit/s", "cost kbps", 1, None)] + [
            Column(title, f"{measure} {metric} {target}", digits, better, False)
            for metric, (title, digits, better, _) in SOUND.items()
        ]

    judged, of_stems = settings["judges"], {s.capitalize(): f"{{}} mss {s}" for s in stems}
    heard = [m for metric, (*_, m) in SOUND.items() if m and (judged or f"recon {metric} mixture" in measured)]
    separated = {title: key.format("sep") for title, key in of_stems.items()}
    ratios = MIXTURE | {f"Sep. {s}": f"sep {{}} {s}" for s in stems}
    found = [
        table(
            "sound", f"Sound of mixtures ({on})", sound("recon", "mixture"),
            "; ".join(["kbit/s: of the mixtures' files, headers included", *heard])
            + ("." if judged else ". More figures: --judges."),
        ),
        table("vocals", f"Sound of vocals ({on})", sound("recon", "vocals"), "kbit/s: of the mixtures' files."),
        table(
            "separated", f"Sound of vocals by subtraction ({on})", sound("sep", "vocals"),
            "The mixture's latents less those of the accompaniment, decoded, against the vocals.",
        ),
        table(
            "stereo", f"Stereo, dB ({on.removesuffix(', mono')})",
            columns({
                "Image": "stereo image mixture", "Dual mono": "stereo dual_mono mixture",
                "Hard-panned": "stereo hard_panned mixture", "Antiphase": "stereo antiphase mixture",
            }, 1, "lower", False),
            "Image: error of S/M in octaves of the mixture. The others: level of what should be silent (the side of "
            "dual mono, the empty channel, the middle of antiphase), at best -100 dB.",
        ),
        table(
            "linearity", f"Linearity, MSS and relative errors ({on})",
            columns(MIXTURE | {"Enc. hom. err": "enc_hom error mixture", "Enc. add. err": "enc_add error mixture"}),
            f"MSS: multi-scale spectral distance to the truth, 0 is equal. {paper}, additivity on MUSDB18-HQ and the "
            f"rest on its own test data; the others were measured in this run, with gains of {_gains(results)} and "
            f"decoded audio rounded to {settings['subtype']}. ±: 95 % confidence interval of the mean over 10 s "
            "segments (encoder errors: over tracks).",
            PAPER_LINEARITY,
        ),
        table(
            "separation", f"Oracle source separation, MSS ({on})",
            columns({"Recons.": MIXTURE["Recons."]} | separated),
            f"The mixture's latents less those of the accompaniment, decoded. {paper}, on MUSDB18-HQ; the others were "
            "measured in this run.",
            {k: (v[0], *(v[1 + STEMS.index(s)] for s in stems)) for k, v in PAPER_SEPARATION.items()},
        ),
        table(
            "stems", f"Reconstruction of stems, MSS ({on})", columns(of_stems, of="recon"),
            "What separation can reach at best: the stem itself, encoded and decoded.",
        ),
        table(
            "sums", f"Additivity of 2, 3 and 4 sources, MSS ({on})", columns({k: f"add{k} mss sum" for k in "234"}),
            "The sum of the first so many stems' latents (bass, drums, other, vocals), decoded, against their sum. Not "
            "every track has all stems, so the columns need not be means over the same tracks.",
        ),
        table(
            "sdr", f"SDR, dB ({on})", columns(ratios, 2, "higher", of="sdr"),
            "No mean is removed and no gain allowed for, as in the paper.",
        ),
        table(
            "si-sdr", f"SI-SDR, dB ({on})", columns(ratios, 2, "higher", of="si_sdr"),
            "Scale-invariant (Le Roux et al., 2019).",
        ),
        table(
            "speed", f"Size and speed ({on})",
            columns({
                "Numbers a second": "speed numbers", "kbit/s": "speed kbps", "Encode, x real time": "speed encode",
                "Decode, x real time": "speed decode",
            }, 1, None),
            "Of the mixtures, mono, on the machine that measured them.",
        ),
    ]  # fmt: skip
    return [t for t in found if any(row.system for row in t.rows)]


def _figures(results: dict[str, Any]) -> dict[str, dict[str, Cell]]:
    """Every figure of each system by its column's key: what was measured, and what its entry says of cost and speed."""
    found: dict[str, dict[str, Cell]] = {}
    for s in results["systems"]:
        kbps, seconds = 8 * s["bytes_per_second"] / 1000, results["data"]["seconds"]
        facts = {"cost kbps": kbps, "speed kbps": kbps, "speed numbers": s["latent_rate"]}
        facts |= {f"speed {what}": (spent := s[f"seconds_{what}"]) and seconds / spent for what in ("encode", "decode")}
        found[s["name"]] = {key: Cell(value) for key, value in facts.items() if value is not None}
    for m in results["measures"]:
        key = f"{m['measure']} {m['metric']} {m['target']}"
        found[m["system"]][key] = Cell(m["mean"], m["low"], m["high"], m["n"])
    return found


def mark_best(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows with the best figures of each column marked: of those measured, all that read like the best one.

    The identity does not compete, and one figure alone is not the best.
    """
    best = []
    for i, column in enumerate(columns):
        cells = [r.cells[i] for r in rows if r.system not in (None, "identity") and r.cells[i].value is not None]
        pick = max if column.better == "higher" else min
        best.append(pick(cells, key=lambda c: c.value or 0.0).text if column.better and len(cells) > 1 else None)
    return tuple(
        row if row.system in (None, "identity")
        else replace(row, cells=tuple(replace(c, best=c.text == b) for c, b in zip(row.cells, best, strict=True)))
        for row in rows
    )  # fmt: skip


def scope(results: dict[str, Any]) -> str:
    """What was measured on: `3 tracks, 90 s, mono`."""
    data = results["data"]
    count = len(data["tracks"])
    return f"{count} track{'s'[: count != 1]}, {data['seconds']:.0f} s, {data['channels']}"


def _gains(results: dict[str, Any]) -> str:
    return ", ".join(f"{g:g}" for g in results["settings"]["gains"])


def render(results: dict[str, Any], kind: str) -> str:
    """The tables as text of one kind: terminal, markdown, csv or latex (for the package booktabs)."""
    texts = {"terminal": _terminal, "csv": _csv}
    shown = tables(results)
    text = texts[kind](shown) if kind in texts else _rendered(f"tables.{kind}.j2", escape=False, tables=shown)
    return text.rstrip("\n") + "\n"


def _terminal(found: Sequence[Table]) -> str:
    from rich.console import Console
    from rich.table import Table as Grid

    out = io.StringIO()
    console = Console(file=out, width=200, color_system=None, highlight=False)
    for table in found:
        grid = Grid("", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in table.columns:
            grid.add_column(column.title, justify="right", no_wrap=True)
        for row in table.rows:
            cells = (f"{c.text} {c.margin:{w}}" if w else c.text for c, w in zip(row.cells, table.margins, strict=True))
            grid.add_row(row.label if row.system else f"{row.label} (paper)", *cells)
        out.write(f"{table.title}{table.better}\n")
        console.print(grid)
        out.write(textwrap.fill(table.note, 110) + "\n\n")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _csv(found: Sequence[Table]) -> str:
    """One figure a line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("table", "system", "source", "column", "mean", "low", "high", "n"))
    for table in found:
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                if cell.value is not None:
                    figures = ("" if v is None else f"{v:.6g}" for v in (cell.value, cell.low, cell.high))
                    writer.writerow((table.name, row.label, row.source, column.title, *figures, cell.n or ""))
    return out.getvalue()


_TEX = str.maketrans(
    {c: rf"\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
)


def write_html(results: dict[str, Any], base: Path, path: Path) -> None:
    """Writes the tables and players of the excerpts as one page that needs nothing beside it; replaces `path`.

    The examples' paths in the results of `results.evaluate` are relative to `base`.

    Raises:
        LincaeError: an excerpt is gone.
    """

    def excerpt(file: str) -> dict[str, str]:
        try:
            return playable((base / file).read_bytes())
        except OSError as e:
            raise LincaeError(
                f"{base / file}: cannot be read ({e.strerror})", "run the same lincae eval again"
            ) from None

    shown, tracks = tables(results), results["data"]["tracks"]
    heard = sorted({example["track"] for example in results["examples"]})[:HEARD]
    write_page(
        "report.html.j2", path, title="lincae eval", **results, scope=scope(results), gains=_gains(results),
        links=[(t.name, re.split(r", MSS|, dB| \(", t.title)[0]) for t in shown], shown=shown, heard=heard,
        operations=OPERATIONS, excerpt=excerpt,
        sources={"measured": "measured in this run", "paper": f"the paper's figures, on its own data ({PAPER})"},
        some=f" of {len(tracks)} tracks, the first {len(heard)}" if len(heard) < len(tracks) else "",
    )  # fmt: skip


def write_page(template: str, path: Path, **values: Any) -> None:
    """Renders a template of the package to an HTML file, which is replaced if it exists. All text is escaped."""
    text = _rendered(template, escape=True, **values)
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def playable(audio: bytes, kind: str = "ogg") -> dict[str, str]:
    """A file of `audio/<kind>` and its spectrogram as data URLs: what the templates' `player` takes."""
    from lincae_core.plot import thumbnail

    files = {"picture": ("image/png", thumbnail(audio)), "audio": (f"audio/{kind}", audio)}
    return {name: f"data:{mime};base64,{base64.b64encode(data).decode()}" for name, (mime, data) in files.items()}


def _rendered(template: str, *, escape: bool, **values: Any) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lincae_core"), autoescape=escape, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["tex"] = lambda text: text.translate(_TEX)
    return environment.get_template(template).render(**values)
