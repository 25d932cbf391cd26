"""The tables of a comparison, ours beside the paper's, as text, Markdown, CSV, LaTeX and an HTML page."""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lincae_formats.errors import LincaeError

STEMS = ("bass", "drums", "other", "vocals")
MISSING = "-"
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

Key = tuple[str, str, str]  # measure, metric, target
Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
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
    digits: int | None = None  # after the point, where they are not the column's

    def text(self, column: Column) -> tuple[str, str]:
        """The figure and half the width of its interval: `1.467`, `±0.166`; the latter may be empty."""
        if self.value is None:
            return MISSING, ""
        digits = column.digits if self.digits is None else self.digits
        shown = f"{self.value:.{digits}f}"
        if not column.interval or self.low is None or self.high is None:
            return shown, ""
        return shown, f"±{(self.high - self.low) / 2:.{digits}f}"


@dataclass(frozen=True)
class Row:
    """A system in a table."""

    label: str
    source: Literal["measured", "paper"]  # measured in this run, or the paper's figures
    cells: tuple[Cell, ...]  # one for each column
    system: str | None = None  # its name in the results; None for the paper's

    @property
    def competes(self) -> bool:
        """Whether its figures may be the best: the identity's and the paper's may not."""
        return self.system not in (None, "identity")

    @property
    def marked(self) -> str:
        """The label; the paper's rows say so."""
        return self.label if self.source == "measured" else f"{self.label} (paper)"


@dataclass(frozen=True)
class Table:
    """A table."""

    name: str  # short, for files and anchors
    title: str  # above it
    columns: tuple[Column, ...]  # without that of the systems
    rows: tuple[Row, ...]  # ours first, then the paper's
    note: str  # below it

    @property
    def heading(self) -> str:
        """The title, and which way is better where that is the same in every column."""
        ways = {c.better for c in self.columns}
        (way,) = ways if len(ways) == 1 else (None,)
        return f"{self.title}, {way} is better" if way else self.title

    def texts(self, row: Row) -> list[tuple[str, str]]:
        """The figures of a row as text, and their intervals."""
        return [cell.text(column) for cell, column in zip(row.cells, self.columns, strict=True)]

    @property
    def margins(self) -> list[int]:
        """Width of the longest interval of each column: with it the figures of a column stand below each other."""
        shown = [self.texts(row) for row in self.rows]
        return [max((len(row[i][1]) for row in shown), default=0) for i in range(len(self.columns))]

    @property
    def best(self) -> list[str | None]:
        """The best measured figure of each column as it is shown, so that what reads the same is marked the same."""
        found: list[str | None] = []
        for i, column in enumerate(self.columns):
            cells = [r.cells[i] for r in self.rows if r.competes and r.cells[i].value is not None]
            pick = max if column.better == "higher" else min
            clear = column.better is not None and len(cells) > 1
            found.append(pick(cells, key=lambda cell: cell.value or 0.0).text(column)[0] if clear else None)
        return found


def tables(results: dict[str, Any]) -> list[Table]:
    """The tables of what `results.evaluate` gave; tables, and columns, without any figure are left out."""
    stems = [s for s in STEMS if any(m["target"] == s for m in results["measures"])]
    on, gains = scope(results), ", ".join(f"{g:g}" for g in results["settings"]["gains"])
    paper = f"The paper's rows are its own figures ({PAPER})"
    known = _figures(results)
    measured = {key[1:] for key in known}

    def mss(*pairs: tuple[str, str, str]) -> list[tuple[Column, Key]]:
        return [(Column(title), (measure, "mss", target)) for title, measure, target in pairs]

    def ratios(metric: str) -> list[tuple[Column, Key]]:
        keys = [("Recons.", "recon", "mixture"), ("Hom.", "hom", "mixture"), ("Add.", "add", "mixture")]
        keys += [(f"Sep. {s}", "sep", s) for s in stems]
        return [(Column(title, 2, "higher"), (measure, metric, target)) for title, measure, target in keys]

    def sound(measure: str, target: str) -> list[tuple[Column, Key]]:
        """Columns of a table of sound, with what it costs in front."""
        columns = [(Column("kbit/s", 1, None), ("cost", "kbps", ""))]
        for metric, (title, digits, better, _) in _SOUND.items():
            columns.append((Column(title, digits, better, interval=False), (measure, metric, target)))
        return columns

    def table(
        name: str, title: str, keys: Sequence[tuple[Column, Key]], note: str,
        published: Mapping[str, tuple[float, ...]] | None = None,
    ) -> Table:  # fmt: skip
        if published is None:
            keys = [(c, key) for c, key in keys if key in measured]
        rows = []
        for system in results["systems"]:
            cells = tuple(known.get((system["name"], *key), Cell()) for _, key in keys)
            if any(cell.value is not None and key[0] != "cost" for cell, (_, key) in zip(cells, keys, strict=True)):
                rows.append(Row(system["label"], "measured", cells, system["name"]))
        for label, values in (published or {}).items():
            rows.append(Row(label, "paper", tuple(Cell(v, digits=2) for v in values)))
        return Table(name, title, tuple(column for column, _ in keys), tuple(rows), note)

    judged = results["settings"]["judges"]
    meanings = [facts[3] for metric, facts in _SOUND.items() if judged or ("recon", metric, "mixture") in measured]
    more = "." if judged else ". More figures: --judges."
    found = [
        table(
            "sound", f"Sound of mixtures ({on})", sound("recon", "mixture"),
            "; ".join(["kbit/s: of the mixtures' files, headers included", *filter(None, meanings)]) + more,
        ),
        table("vocals", f"Sound of vocals ({on})", sound("recon", "vocals"), "kbit/s: of the mixtures' files."),
        table(
            "separated", f"Sound of vocals by subtraction ({on})", sound("sep", "vocals"),
            "The mixture's latents less those of the accompaniment, decoded, against the vocals.",
        ),
        table(
            "stereo", f"Stereo, dB ({on.removesuffix(', mono')})",
            [(Column(title, 1, interval=False), ("stereo", case, "mixture")) for title, case in _STEREO],
            "Image: error of S/M in octaves of the mixture. The others: level of what should be silent (the side of "
            "dual mono, the empty channel, the middle of antiphase), at best -100 dB.",
        ),
        table(
            "linearity", f"Linearity, MSS and relative errors ({on})",
            [
                *mss(("Recons.", "recon", "mixture"), ("Hom.", "hom", "mixture"), ("Add.", "add", "mixture")),
                (Column("Enc. hom. err"), ("enc_hom", "error", "mixture")),
                (Column("Enc. add. err"), ("enc_add", "error", "mixture")),
            ],
            f"MSS: multi-scale spectral distance to the truth, 0 is equal. {paper}, additivity on MUSDB18-HQ and the "
            f"rest on its own test data; the others were measured in this run, with gains of {gains} and decoded audio "
            f"rounded to {results['settings']['subtype']}. ±: 95 % confidence interval of the mean over 10 s segments "
            "(encoder errors: over tracks).",
            PAPER_LINEARITY,
        ),
        table(
            "separation", f"Oracle source separation, MSS ({on})",
            mss(("Recons.", "recon", "mixture"), *((s.capitalize(), "sep", s) for s in stems)),
            f"The mixture's latents less those of the accompaniment, decoded. {paper}, on MUSDB18-HQ; the others were "
            "measured in this run.",
            {k: (v[0], *(v[1 + STEMS.index(s)] for s in stems)) for k, v in PAPER_SEPARATION.items()},
        ),
        table(
            "stems", f"Reconstruction of stems, MSS ({on})", mss(*((s.capitalize(), "recon", s) for s in stems)),
            "What separation can reach at best: the stem itself, encoded and decoded.",
        ),
        table(
            "sums", f"Additivity of 2, 3 and 4 sources, MSS ({on})", mss(*((k, f"add{k}", "sum") for k in "234")),
            "The sum of the first so many stems' latents (bass, drums, other, vocals), decoded, against their sum. Not "
            "every track has all stems, so the columns need not be means over the same tracks.",
        ),
        table("sdr", f"SDR, dB ({on})", ratios("sdr"), "No mean is removed and no gain allowed for, as in the paper."),
        table("si-sdr", f"SI-SDR, dB ({on})", ratios("si_sdr"), "Scale-invariant (Le Roux et al., 2019)."),
        table(
            "speed", f"Size and speed ({on})",
            [(Column(title, 1, None), ("speed", fact, "")) for title, fact in _SPEED],
            "Of the mixtures, mono, on the machine that measured them.",
        ),
    ]  # fmt: skip
    return [t for t in found if t.columns and any(c.value is not None for r in t.rows if r.system for c in r.cells)]


def scope(results: dict[str, Any]) -> str:
    """What was measured on: `3 tracks, 90 s, mono`."""
    data = results["data"]
    count = len(data["tracks"])
    return f"{count} track{'s'[: count != 1]}, {data['seconds']:.0f} s, {data['channels']}"


def render(results: dict[str, Any], kind: str) -> str:
    """The tables as text of one kind: a key of `KINDS`."""
    return KINDS[kind](tables(results)).rstrip("\n") + "\n"


def write_html(results: dict[str, Any], base: Path, path: Path) -> None:
    """Writes the tables and players of the excerpts as one page that needs nothing beside it; replaces `path`.

    The examples' paths in the results of `results.evaluate` are relative to `base`.

    Raises:
        LincaeError: an excerpt is gone.
    """
    from lincae_core.pages import write_page

    shown = tables(results)
    names = sorted({example["track"] for example in results["examples"]})[:HEARD]
    songs = [
        {"anchor": f"track-{i}", "name": name, "operations": list(_operations(results, name, base))}
        for i, name in enumerate(names)
    ]
    every = len(results["data"]["tracks"])
    write_page(
        "report.html.j2", path, title="lincae eval", **results, scope=scope(results),
        gains=", ".join(f"{g:g}" for g in results["settings"]["gains"]),
        links=[(t.name, re.split(r", MSS|, dB| \(", t.title)[0]) for t in shown] + [("systems", "Systems")]
        + [(song["anchor"], song["name"]) for song in songs],
        tables=shown, songs=songs,
        sources={"measured": "measured in this run", "paper": f"the paper's figures, on its own data ({PAPER})"},
        some=f" of {every} tracks, the first {len(names)}" if len(names) < every else "",
    )  # fmt: skip


_SOUND: dict[str, tuple[str, int, Better | None, str]] = {  # heading, digits, which way is better, meaning
    "visqol": ("ViSQOL", 2, "higher", "ViSQOL, Zimtohrli: mean opinion scores, 1 to 5, higher is better"),
    "zimtohrli": ("Zimtohrli", 2, "higher", ""),
    "notes": ("Notes", 2, "higher", "Notes: F1 of what basic-pitch hears, 0 to 1"),
    "stoi": ("STOI", 2, "higher", "STOI: intelligibility, 0 to 1"),
    "sdr": ("SDR, dB", 1, "higher", "SDR: signal-to-distortion ratio, higher is better"),
    "tone": ("Tone", 2, None, "Tone: buzz at the decoder's frame rate, 1 is none"),
    "octaves": ("Octaves, dB", 1, "lower", "Octaves: error of octave levels from 500 Hz, lower is better"),
    "mss": ("MSS", 2, "lower", "MSS: multi-scale spectral distance, 0 is equal"),
}
_STEREO = (
    ("Image", "image"), ("Dual mono", "dual_mono"), ("Hard-panned", "hard_panned"), ("Antiphase", "antiphase"),
)  # fmt: skip
_SPEED = (
    ("Numbers a second", "numbers"), ("kbit/s", "kbps"), ("Encode, x real time", "encode"),
    ("Decode, x real time", "decode"),
)  # fmt: skip


def _figures(results: dict[str, Any]) -> dict[tuple[str, str, str, str], Cell]:
    """Every figure by system and key: what was measured, and what the systems' entries say of cost and speed."""
    found = {
        (m["system"], m["measure"], m["metric"], m["target"]): Cell(m["mean"], m["low"], m["high"], m["n"])
        for m in results["measures"]
    }
    seconds = results["data"]["seconds"]
    for s in results["systems"]:
        kbps = 8 * s["bytes_per_second"] / 1000
        spent = {what: s[f"seconds_{what}"] for what in ("encode", "decode")}
        facts = {"numbers": s["latent_rate"], "kbps": kbps, **{k: v and seconds / v for k, v in spent.items()}}
        found |= {(s["name"], "speed", fact, ""): Cell(value) for fact, value in facts.items()}
        found[s["name"], "cost", "kbps", ""] = Cell(kbps)
    return found


def _terminal(found: Sequence[Table]) -> str:
    from rich.console import Console
    from rich.table import Table as Grid

    out = io.StringIO()
    console = Console(file=out, width=200, color_system=None, highlight=False)
    for table in found:
        grid = Grid("", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in table.columns:
            grid.add_column(column.title, justify="right", no_wrap=True)
        widths = table.margins
        for row in table.rows:
            cells = zip(table.texts(row), widths, strict=True)
            grid.add_row(row.marked, *(f"{v} {m:{width}}" if width else v for (v, m), width in cells))
        out.write(table.heading + "\n")
        console.print(grid)
        out.write("\n".join(textwrap.wrap(table.note, 110)) + "\n\n")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _markdown(found: Sequence[Table]) -> str:
    parts = []
    for table in found:
        lines = [f"**{table.title}**{table.heading.removeprefix(table.title)}", ""]
        lines.append("| | source | " + " | ".join(c.title for c in table.columns) + " |")
        lines.append("| --- | --- |" + " ---: |" * len(table.columns))
        for row in table.rows:
            source = "measured here" if row.source == "measured" else "the paper's"
            cells = " | ".join(" ".join(text).rstrip() for text in table.texts(row))
            lines.append(f"| {row.label.replace('|', chr(92) + '|')} | {source} | {cells} |")
        parts.append("\n".join([*lines, "", table.note]))
    return "\n\n".join(parts)


def _csv(found: Sequence[Table]) -> str:
    """One figure a line: table, system, source, column, mean, low, high, n."""
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


def _latex(found: Sequence[Table]) -> str:
    """For the package booktabs."""
    parts = []
    for table in found:
        lines = [
            r"\begin{table}", r"\centering", rf"\caption{{{_tex(table.heading)}. {_tex(table.note)}}}",
            rf"\label{{tab:lincae-{table.name}}}", r"\begin{tabular}{l" + "r" * len(table.columns) + "}", r"\toprule",
            " & ".join(["", *(_tex(c.title) for c in table.columns)]) + r" \\", r"\midrule",
        ]  # fmt: skip
        for last, row in zip((None, *table.rows), table.rows, strict=False):
            if last and last.source != row.source:
                lines.append(r"\midrule")
            figures = (_tex(v) + (rf" {{\scriptsize$\pm${m[1:]}}}" if m else "") for v, m in table.texts(row))
            lines.append(" & ".join([_tex(row.marked), *figures]) + r" \\")
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]))
    return "\n\n".join(parts)


KINDS: dict[str, Callable[[Sequence[Table]], str]] = {
    "terminal": _terminal, "markdown": _markdown, "csv": _csv, "latex": _latex,
}  # fmt: skip
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
}  # fmt: skip


def _tex(text: str) -> str:
    return re.sub(r"[\\&%$#_{}~^±]", lambda m: _SPECIAL[m[0]], text)


def _operations(results: dict[str, Any], track: str, base: Path) -> Iterator[dict[str, Any]]:
    """Players of every operation on a track: the truth first, then one for each system."""
    found = {(e["operation"], e["system"]): e for e in results["examples"] if e["track"] == track}
    heard = {e["system"] for e in results["examples"]}
    systems = [s for s in results["systems"] if s["name"] in heard]
    for operation, (title, formula) in OPERATIONS.items():
        examples = [found.get((operation, s["name"])) for s in systems]
        first = next((e for e in examples if e), None)
        if first is None:
            continue
        players = [_player("the original", "", base / first["truth"])]
        for system, e in zip(systems, examples, strict=True):
            distance = "" if e is None or e["mss"] is None else f"MSS {e['mss']:.2f}"
            players.append(_player(system["label"], distance, base / e["estimate"] if e else None))
        yield {"title": title, "formula": formula, "target": first["target"], "players": players}


def _player(label: str, note: str, path: Path | None) -> dict[str, str]:
    from lincae_core.pages import data_url
    from lincae_core.plot import thumbnail

    if path is None:
        return {"label": label, "note": note, "picture": "", "audio": ""}
    try:
        audio = path.read_bytes()
    except OSError as e:
        raise LincaeError(f"{path}: cannot be read ({e.strerror})", "run the same lincae eval again") from None
    picture = data_url("image/png", thumbnail(path))
    return {"label": label, "note": note, "picture": picture, "audio": data_url("audio/ogg", audio)}
