"""The report as one HTML file that needs nothing beside it: tables, players, spectrograms."""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path
from typing import Any

from lincae_core.evaluation.report.published import SOURCE
from lincae_core.evaluation.report.render import arrow, text_of
from lincae_core.evaluation.report.tables import Row, Table, scope, tables
from lincae_core.evaluation.report.thumbnail import HIGHEST_KHZ, RANGE_DB, spectrogram_png
from lincae_formats.atomic import atomic_path
from lincae_formats.errors import LincaeError

HEARD = 4  # tracks with players in a page; an excerpt is about 120 kB
OPERATIONS = {
    "recon": ("Encoded and decoded", "D(E(mixture))"),
    "half": ("Half the volume", "D(0.5 E(mixture))"),
    "sum": ("Stems added as latents", "D(E(s1) + E(s2) + ...)"),
    "sep": ("Pulled out by subtraction", "D(E(mixture) - E(accompaniment))"),
}
GROUPS = {"measured": "measured in this run", "paper": f"the paper's figures, on its own data ({SOURCE})"}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 88rem; margin: 2rem auto; padding: 0 1.5rem; color: #222; }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; } h3 code { font-weight: 400; margin-left: .5rem; }
nav { margin: .75rem 0; } nav a { margin-right: 1rem; } a { color: #0b5cad; }
table { border-collapse: collapse; margin: 1.5rem 0 .25rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; white-space: nowrap; }
th, td { text-align: right; padding: .2rem .8rem; border-bottom: 1px solid #e5e5e5; white-space: nowrap; }
thead th { border-bottom: 1px solid #999; } th:first-child, td:first-child { text-align: left; padding-left: .3rem; }
tbody th { font-weight: 400; font-size: .8rem; color: #666; padding-top: .5rem; border: 0; }
tr.paper td { color: #6b6b6b; font-style: italic; } td span { color: #777; font-size: .8em; display: inline-block; }
.best { font-weight: 700; } .best span { font-weight: 400; } .note { color: #666; font-size: .85rem; max-width: 60rem; }
.wide { overflow-x: auto; }
.row { display: grid; grid-template-columns: repeat(var(--columns), minmax(12rem, 1fr)); column-gap: .9rem; }
figure { margin: 0; display: grid; grid-row: span 3; grid-template-rows: subgrid; }
figcaption { font-size: .85rem; display: flex; justify-content: space-between; align-items: end; gap: .5rem; }
figure:first-child figcaption { font-weight: 600; } figcaption span { color: #666; white-space: nowrap; }
audio, img { width: 100%; display: block; } img { height: 7rem; background: #000; } audio { height: 2.2rem; }
.none { height: 7rem; background: #f3f3f3; color: #777; font-size: .85rem; display: grid; place-items: center; }
code { background: #f3f3f3; padding: 0 .25rem; }
"""
# One sound at a time; another one goes on where the last was, so that the same bar can be compared.
_SCRIPT = """
addEventListener("play", event => {
  for (const player of document.querySelectorAll("audio")) {
    if (player !== event.target && !player.paused) { event.target.currentTime = player.currentTime; player.pause(); }
  }
}, true);
"""


def write_html(results: dict[str, Any], base: Path, path: Path) -> None:
    """Writes the report.

    Args:
        results: JSON of `lincae eval`, schema 1.
        base: folder that the examples' paths are relative to.
        path: target, replaced if it exists.

    Raises:
        LincaeError: an example's audio is gone.
    """
    data, settings = results["data"], results["settings"]
    names = ", ".join(html.escape(t) for t in data["tracks"][:20]) + (", ..." if len(data["tracks"]) > 20 else "")
    shown = tables(results)
    heard = _heard(results)
    links = [(t.name, re.split(r", MSS|, dB| \(", t.title)[0]) for t in shown] + [("systems", "Systems")]
    links += [(f"track-{i}", track) for i, track in enumerate(heard)]
    body = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,"><title>lincae eval</title><style>{_STYLE}</style></head><body>
<h1>Linear latents compared</h1>
<nav>{"".join(f'<a href="#{anchor}">{html.escape(text)}</a>' for anchor, text in links)}</nav>
<p>{scope(results)}, {data["sample_rate"]} Hz: {names}.
Gains {", ".join(f"{g:g}" for g in settings["gains"])}; {settings["steps"]} sampling
step{"s"[: settings["steps"] > 1]}, seed {settings["seed"]};
decoded audio as {settings["subtype"]} holds it. Written by {html.escape(results["writer"])}.</p>
<p class="note">MSS is the multi-scale spectral distance to the truth: 0 is equal. Rows in italics are the paper's own
figures, on its own data; everything else was measured in this run. Bold: the best measured, but for the identity.</p>
{"".join(_table(t) for t in shown)}
{_systems(results)}
{_listening(results, heard, base)}
<script>{_SCRIPT}</script>
</body></html>
"""
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(body, encoding="utf-8")


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(c)}</th>" for c in table.columns)
    best = [_best(table, i) for i in range(len(table.columns))]
    bodies = []
    for source, group in GROUPS.items():
        rows = [row for row in table.rows if row.source == source]
        title = f'<tr><th colspan="{len(table.columns) + 1}">{group}</th></tr>' if len(rows) < len(table.rows) else ""
        if rows:
            bodies.append(f"<tbody>{title}{''.join(_row(row, table, best) for row in rows)}</tbody>")
    title = html.escape(table.title + arrow(table))
    return (
        f'<div class="wide"><table id="{table.name}"><caption>{title}</caption>'
        f"<thead><tr><th></th>{head}</tr></thead>{''.join(bodies)}</table></div>"
        f'<p class="note">{html.escape(table.note)}</p>\n'
    )


def _row(row: Row, table: Table, best: list[str | None]) -> str:
    widths = [max(len(text_of(r.cells[i], table)[1]) for r in table.rows) for i in range(len(table.columns))]
    cells = []
    for i, cell in enumerate(row.cells):
        value, margin = text_of(cell, table)
        mark = ' class="best"' if _competes(row) and value == best[i] else ""
        # room for the interval in every row, so that the figures stand below each other
        room = f' <span style="min-width: {widths[i]}ch">{margin}</span>' if widths[i] else ""
        cells.append(f"<td{mark}>{value}{room}</td>")
    return f'<tr class="{row.source}"><td>{html.escape(row.label)}</td>{"".join(cells)}</tr>'


def _best(table: Table, column: int) -> str | None:
    """The best measured figure of a column as it is shown, so that what reads the same is marked the same."""
    cells = [cell for r in table.rows if _competes(r) and (cell := r.cells[column]).value is not None]
    if table.better is None or len(cells) < 2:
        return None
    pick = min if table.better == "lower" else max
    return text_of(pick(cells, key=lambda cell: cell.value or 0.0), table)[0]


def _competes(row: Row) -> bool:
    return row.system not in (None, "identity")


def _systems(results: dict[str, Any]) -> str:
    lines = "".join(
        f"<li><b>{html.escape(s['label'])}</b> (<code>{html.escape(s['name'])}</code>, version "
        f"{html.escape(str(s['version']))}): {html.escape(s['notes'])}. "
        f"<code>{html.escape(s['fingerprint'][:19])}</code></li>"
        for s in results["systems"]
    )
    return f'<h2 id="systems">Systems</h2><ul>{lines}</ul>'


def _heard(results: dict[str, Any]) -> list[str]:
    return sorted({example["track"] for example in results["examples"]})[:HEARD]


def _listening(results: dict[str, Any], tracks: list[str], base: Path) -> str:
    """Players of every operation on the tracks: the truth first, then a column for each system."""
    if not tracks:
        return ""
    every = len(results["data"]["tracks"])
    some = f" of {every} tracks, the first {len(tracks)}" if len(tracks) < every else ""
    parts = [
        f'<h2>Listen</h2><p class="note">The 10 s of each track{some} in which most is heard of all stems. A player '
        "that is started stops the last one and goes on where that was. MSS is that of the excerpt. Spectrograms: 0 to "
        f"{HIGHEST_KHZ:g} kHz on a mel scale, {RANGE_DB} dB.</p>"
    ]
    found = {(e["track"], e["operation"], e["system"]): e for e in results["examples"]}
    systems = [s for s in results["systems"] if any(key[2] == s["name"] for key in found)]
    for number, track in enumerate(tracks):
        parts.append(f'<h2 id="track-{number}">{html.escape(track)}</h2>')
        for operation, (title, formula) in OPERATIONS.items():
            examples = [found.get((track, operation, s["name"])) for s in systems]
            first = next((e for e in examples if e), None)
            if first is None:
                continue
            figures = [_figure("the truth", "", base / first["truth"])]
            for system, e in zip(systems, examples, strict=True):
                distance = "" if e is None or e["mss"] is None else f"MSS {e['mss']:.2f}"
                figures.append(_figure(system["label"], distance, base / e["estimate"] if e else None))
            parts.append(
                f"<h3>{title}: {html.escape(first['target'])} <code>{formula}</code></h3>"
                f'<div class="wide"><div class="row" style="--columns: {len(figures)}">{"".join(figures)}</div></div>'
            )
    return "\n".join(parts)


def _figure(label: str, note: str, path: Path | None) -> str:
    """A spectrogram with its player; of a system that cannot do the operation, a note."""
    text = html.escape(label)
    caption = f"<figcaption>{text}<span>{note}</span></figcaption>"
    if path is None:
        return f'<figure>{caption}<div class="none">no arithmetic of latents</div></figure>'
    try:
        content = path.read_bytes()
    except OSError as e:
        raise LincaeError(f"{path}: cannot be read ({e.strerror})", "run the same lincae eval again") from None
    audio, picture = (base64.b64encode(data).decode() for data in (content, spectrogram_png(path)))
    # preload="none": browsers fetch few sounds at once, and a page of many would never end loading
    return (
        f'<figure>{caption}<img alt="spectrogram of {text}" src="data:image/png;base64,{picture}">'
        f'<audio controls preload="none" src="data:audio/ogg;base64,{audio}"></audio></figure>'
    )
