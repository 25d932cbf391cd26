"""`lincae compare`: how far apart two files are."""

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import jsontext
from .command import add
from .errors import usage_error
from .inputs import STDIO
from .media import open_audio
from .options import Device, Json
from .parsing import format_time, parse_device
from .progress import Progress
from .used import Models

if TYPE_CHECKING:
    from lincae_core.compare import Comparison


def register(app: typer.Typer) -> None:
    """Adds the command."""
    add(app, compare, "lincae compare song.wav song.lat", "lincae compare song.wav copy.mp3 --json")


def compare(
    reference: Annotated[
        str, typer.Argument(metavar="A", help="The reference: audio or .lat, or - for stdin.", show_default=False)
    ],
    other: Annotated[
        str, typer.Argument(metavar="B", help="What is compared with it: audio or .lat.", show_default=False)
    ],
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME|PATH", help="The model's file, to decode a .lat with.")
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Tell how far apart two files are.

    Prints their levels, the signal-to-noise ratio (SNR) and the multi-scale spectral distance (MSS, 0 is equal).
    A .lat is decoded. The stretch that both have is compared; B is resampled where its rate differs.
    """
    parse_device(device, "--device")
    names = (reference, other)
    if names == (STDIO, STDIO):
        raise usage_error("stdin (-) can be read only once", "name a file for the other input")
    models = Models(device)
    with ExitStack() as stack, Progress() as progress:
        a, b = (open_audio(name, models, model, stack) for name in names)

        from lincae_core.compare import compare as measure

        found = measure(a, b, names, progress.bar(f"{reference}, {other}"))
    facts = _facts(names, (a, b), found)
    typer.echo(jsontext.dumps(facts) if as_json else _lines(facts))


def _facts(names: tuple[str, str], audio: tuple[Any, Any], found: "Comparison") -> dict[str, Any]:
    files = [
        {
            "file": name,
            "duration": source.num_samples / source.sample_rate,
            "sample_rate": source.sample_rate,
            "channels": source.channels,
            "level_db": _finite(level),
        }
        for name, source, level in zip(names, audio, (found.level_db, found.other_level_db), strict=True)
    ]
    return {
        "files": files,
        "compared": found.num_samples / found.sample_rate,
        "mss": _finite(found.mss),
        "snr_db": _finite(found.snr_db),
        "equal": found.equal,
    }


def _finite(value: float) -> float | None:
    """JSON has no infinities: null stands for silence, and for the SNR of what is equal."""
    return value if math.isfinite(value) else None


def _lines(facts: dict[str, Any]) -> str:
    from lincae_formats.errors import one_line

    a, b = facts["files"]
    rows = [
        ("", one_line(a["file"]), one_line(b["file"])),
        ("duration", *(format_time(round(f["duration"], 3)) for f in (a, b))),
        ("sample rate", *(f"{f['sample_rate']} Hz" for f in (a, b))),
        ("channels", *(str(f["channels"]) for f in (a, b))),
        ("level", *(_decibels(f["level_db"], "silence") for f in (a, b))),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    if a["duration"] != b["duration"]:
        lines.append(f"{'compared':<{widths[0]}}  the first {format_time(round(facts['compared'], 3))}")
    mss = "-" if facts["mss"] is None else f"{facts['mss']:.3f}"
    snr = "the same samples" if facts["equal"] else _decibels(facts["snr_db"], "-")
    return "\n".join([*lines, f"{'MSS':<{widths[0]}}  {mss}", f"{'SNR':<{widths[0]}}  {snr}"])


def _decibels(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{value:.1f} dB"
