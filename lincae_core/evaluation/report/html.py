"""The report as one HTML file that needs nothing beside it: tables, players, spectrograms."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import numpy as np

from lincae_core.evaluation.report.render import arrow, text_of
from lincae_core.evaluation.report.tables import Table, scope, tables
from lincae_formats.atomic import atomic_path
from lincae_formats.errors import LincaeError

OPERATIONS = {
    "recon": ("Encoded and decoded", "D(E(mixture))"),
    "half": ("Half the volume", "D(0.5 E(mixture))"),
    "sum": ("Stems added as latents", "D(E(s1) + E(s2) + ...)"),
    "sep": ("Pulled out by subtraction", "D(E(mixture) - E(accompaniment))"),
}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin: 2rem 0 .25rem; } h3 { font-size: 1rem; margin: 1rem 0 0; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { text-align: right; padding: .2rem .7rem; border-bottom: 1px solid #e5e5e5; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; } tr.paper td { color: #777; }
td span { color: #888; font-size: .8em; } .best { font-weight: 700; } .note { color: #666; font-size: .85rem; }
.wide { overflow-x: auto; }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .75rem; }
figure { margin: 0; } figcaption { font-size: .85rem; }
audio, img { width: 100%; display: block; } audio { height: 2.2rem; }
code { background: #f3f3f3; padding: 0 .25rem; }
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
    gains = ", ".join(f"{g:g}" for g in settings["gains"])
    body = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,"><title>lincae eval</title><style>{_STYLE}</style></head><body>
<h1>Linear latents compared</h1>
<p>{scope(results)}, {data["sample_rate"]} Hz: {names}.
Gains {gains}; {settings["steps"]} sampling step{"s"[: settings["steps"] > 1]}, seed {settings["seed"]}.
Written by {html.escape(results["writer"])}.</p>
<p class="note">MSS is the multi-scale spectral distance to the truth: 0 is equal. Grey rows are the paper's own
figures, on its own data; everything else was measured in this run. Bold: best measured.</p>
{"".join(_table(t) for t in tables(results))}
{_systems(results)}
{_listening(results, base)}
</body></html>
"""
    with atomic_path(path, overwrite=True) as temporary:
        Path(temporary).write_text(body, encoding="utf-8")


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(c)}</th>" for c in table.columns)
    best = [_best(table, i) for i in range(len(table.columns))]
    lines = []
    for row in table.rows:
        cells = []
        for i, cell in enumerate(row.cells):
            mark = ' class="best"' if row.system and cell.value is not None and cell.value == best[i] else ""
            value, _, interval = text_of(cell, table).partition(" ")
            cells.append(f"<td{mark}>{value} <span>{interval}</span></td>" if interval else f"<td{mark}>{value}</td>")
        label = html.escape(row.label) + (" <span>the paper's</span>" if row.source == "paper" else "")
        lines.append(f'<tr class="{row.source}"><td>{label}</td>{"".join(cells)}</tr>')
    title = html.escape(table.title + arrow(table))
    return (
        f'<div class="wide"><table id="{table.name}"><caption>{title}</caption>'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        f'<p class="note">{html.escape(table.note)}</p>\n'
    )


def _best(table: Table, column: int) -> float | None:
    values = [v for r in table.rows if r.system and (v := r.cells[column].value) is not None]
    if table.better is None or len(values) < 2:
        return None
    return min(values) if table.better == "lower" else max(values)


def _systems(results: dict[str, Any]) -> str:
    lines = "".join(
        f"<li><b>{html.escape(s['label'])}</b> (<code>{html.escape(s['name'])}</code>, "
        f"{html.escape(str(s['version']))}): {html.escape(s['notes'])} "
        f"<code>{html.escape(s['fingerprint'][:19])}</code></li>"
        for s in results["systems"]
    )
    return f"<h2>Systems</h2><ul>{lines}</ul>"


def _listening(results: dict[str, Any], base: Path) -> str:
    """Players of every operation on every track, the truth first, then the systems in the tables' order."""
    labels = {s["name"]: s["label"] for s in results["systems"]}
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for example in results["examples"]:
        groups.setdefault((example["track"], example["operation"]), []).append(example)
    parts, track = ["<h2>Listen</h2>"], None
    for (name, operation), examples in sorted(groups.items(), key=lambda g: (g[0][0], list(OPERATIONS).index(g[0][1]))):
        if name != track:
            parts.append(f"<h2>{html.escape(name)}</h2>")
            track = name
        title, formula = OPERATIONS[operation]
        parts.append(f"<h3>{title}: {html.escape(examples[0]['target'])} <code>{formula}</code></h3>")
        figures = [_figure("the truth", base / examples[0]["truth"])]
        for e in examples:
            distance = "" if e["mss"] is None else f", MSS {e['mss']:.2f}"
            figures.append(_figure(labels[e["system"]] + distance, base / e["estimate"]))
        parts.append(f'<div class="row">{"".join(figures)}</div>')
    return "\n".join(parts) if groups else ""


def _figure(caption: str, path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as e:
        raise LincaeError(f"{path}: cannot be read ({e.strerror})", "run lincae eval again with --force") from None
    audio = base64.b64encode(content).decode()
    text = html.escape(caption)
    return (
        f'<figure><img alt="spectrogram of {text}" src="data:image/png;base64,{_spectrogram(path)}">'
        f'<audio controls preload="metadata" src="data:audio/ogg;base64,{audio}"></audio>'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _spectrogram(path: Path) -> str:
    """A small picture, 0 to 22 kHz, 80 dB below full scale, as base64 PNG."""
    import soundfile as sf
    from matplotlib import colormaps
    from matplotlib.image import imsave

    audio, _ = sf.read(path, dtype="float32")
    padded = np.pad(audio, (0, max(0, 2048 - len(audio))))
    hop = max(512, len(padded) // 400)
    blocks = np.lib.stride_tricks.sliding_window_view(padded, 2048)[::hop] * np.hanning(2048)
    level = 20 * np.log10(np.abs(np.fft.rfft(blocks, axis=1)).T / 512 + 1e-6)
    level = level[:1024].reshape(128, 8, -1).max(1)  # 8 bins a pixel
    buffer = io.BytesIO()
    pixels = colormaps["magma"](np.clip((level[::-1] + 80) / 80, 0, 1), bytes=True)
    imsave(buffer, pixels[:, :, :3], format="png")
    return base64.b64encode(buffer.getvalue()).decode()
