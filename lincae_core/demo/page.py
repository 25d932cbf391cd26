"""The demo's page: one HTML file with players that needs nothing beside it."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lincae_formats.atomic import atomic_path

if TYPE_CHECKING:
    from lincae_core.demo.run import Row, Summary

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } section { border-top: 1px solid #ddd; padding: 1rem 0; } h2 { font-size: 1.1rem; margin: 0; }
code { background: #f3f3f3; padding: .1rem .3rem; } .pair { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: .5rem 0; flex: 1 1 20rem; } figcaption { font-size: .85rem; color: #666; }
audio, img { width: 100%; } table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid #eee; }
th:first-child, td:first-child { text-align: left; }
"""


def write_page(summary: Summary, truths: dict[str, tuple[np.ndarray, int]]) -> Path:
    """Writes `index.html` into the demo's folder; returns it.

    Args:
        summary: the demo's results.
        truths: audio ``[C, n]`` and rate (Hz) of every truth, by name.
    """
    folder = summary.folder
    sections = "\n".join(_section(row, folder, truths) for row in summary.rows)
    picture = base64.b64encode((folder / "spectrograms.png").read_bytes()).decode()
    body = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>lincae demo</title><style>{_STYLE}</style></head><body>
<h1>lincae: mixing is addition, volume is multiplication</h1>
<p>{summary.seconds:.0f} s of stems (Software-Entwicklungskit, "Potassium", CC0) were encoded to <code>.lat</code>
files, worked on there, and decoded once. MSS is the multi-scale spectral distance to the truth: 0 is equal,
smaller is better. The players hold MP3 copies; the WAV files lie beside this page.</p>
{_table(summary.rows)}
{sections}
<section><h2>Spectrograms</h2>
<img alt="spectrograms of truths and results" src="data:image/png;base64,{picture}"></section>
</body></html>
"""
    target = folder / "index.html"
    with atomic_path(target, overwrite=True) as temporary:
        Path(temporary).write_text(body, encoding="utf-8")
    return target


def _table(rows: list[Row]) -> str:
    titles = ("result", ".lat bytes", "smaller than 16-bit PCM", "operation", "decode", "MSS")
    head = "<tr>" + "".join(f"<th>{title}</th>" for title in titles) + "</tr>"
    lines = [
        f"<tr><td>{html.escape(r.title)}</td><td>{r.lat_bytes:,}</td><td>{r.pcm_bytes / r.lat_bytes:.1f}x</td>"
        f"<td>{'-' if r.operation_seconds is None else f'{1000 * r.operation_seconds:.0f} ms'}</td>"
        f"<td>{r.decode_speed:.0f}x real time</td><td>{r.distance:.2f}</td></tr>"
        for r in rows
    ]
    return f"<table>{head}{''.join(lines)}</table>"


def _section(row: Row, folder: Path, truths: dict[str, tuple[np.ndarray, int]]) -> str:
    import soundfile as sf

    decoded, rate = sf.read(folder / f"{row.name}_decoded.wav", dtype="float32", always_2d=True)
    truth, truth_rate = truths[row.truth_name]
    return f"""<section><h2>{html.escape(row.title)}</h2>
<p><code>{html.escape(row.formula)}</code>, MSS {row.distance:.2f}</p>
<div class="pair">
{_figure(f"truth: {row.truth_name}", truth.T, truth_rate)}
{_figure("decoded", decoded, rate)}
</div></section>"""


def _figure(caption: str, audio: np.ndarray, rate: int) -> str:
    player = f'<audio controls preload="metadata" src="{_player(audio, rate)}"></audio>'
    return f"<figure>{player}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _player(audio: np.ndarray, rate: int) -> str:
    """Audio ``[n, C]`` as a data URL: MP3, which every browser plays, at its best quality."""
    import soundfile as sf

    buffer = io.BytesIO()
    sf.write(buffer, np.clip(audio, -1, 1), rate, format="MP3", compression_level=0.0)
    return "data:audio/mpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
