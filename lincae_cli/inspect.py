"""`lincae info` and `verify`: what a `.lat` file says, and whether it is whole."""

import math
import os
from typing import Annotated, Any

import typer

from . import batch, jsontext, paths
from .command import add
from .inputs import gather
from .options import FilesFrom, Json, LatInputs, Null
from .parsing import format_time

_SUFFIXES = frozenset({".lat"})
_COLUMNS = ("file", "duration", "sample_rate", "channels", "frames", "dtype", "bytes", "model")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    add(app, info, "lincae info song.lat", "lincae info song.lat --history", "lincae info stems/ --level --json")
    add(app, verify, "lincae verify stems/")


def info(
    lats: LatInputs = None,
    history: Annotated[bool, typer.Option("--history", help="Draw where each file came from, as a tree.")] = False,
    level: Annotated[
        bool,
        typer.Option("--level", help="Read the latents too and tell their level, which a gain of x dB moves by x dB."),
    ] = False,
    as_json: Json = False,
    files_from: FilesFrom = None,
    null: Null = False,
) -> None:
    """Show what .lat files hold: key and value for one, a row each for many, with --json always a list."""
    inputs = gather(lats or [], files_from, null, suffixes=_SUFFIXES, kind=".lat", missing="lincae info: LAT")
    found = inputs.found
    rows: list[dict[str, Any]] = []
    try:
        batch.run([f.path for f in found], lambda path: rows.append(_facts(path, level)), failures=inputs.failures)
    finally:
        # Also when some files failed: the others' facts are still wanted.
        if as_json:
            typer.echo(jsontext.dumps(rows))
        elif history and rows:
            typer.echo("\n\n".join(_history(row) for row in rows))
        elif len(found) == 1:
            for row in rows:
                typer.echo(_lines(row))
        elif rows:
            typer.echo(_table(rows))


def verify(lats: LatInputs = None, files_from: FilesFrom = None, null: Null = False) -> None:
    """Read every byte of .lat files and check it: `FILE: ok`, or an error and exit code 1."""
    inputs = gather(lats or [], files_from, null, suffixes=_SUFFIXES, kind=".lat", missing="lincae verify: LAT")

    from lincae_formats import verify as check

    def one(path: str) -> None:
        check(paths.open_source(path, "a .lat file"))
        typer.echo(f"{_shown(path)}: ok")

    batch.run([f.path for f in inputs.found], one, failures=inputs.failures)


def _facts(path: str, level: bool) -> dict[str, Any]:
    from lincae_formats import LatReader
    from lincae_formats.levels import Meter

    with LatReader(paths.open_source(path, "a .lat file")) as reader:
        header = reader.header
        return {
            "file": path,
            "duration": header.duration,
            "sample_rate": header.sample_rate,
            "num_samples": header.num_samples,
            "channels": header.channels,
            "frames": header.frames,
            "latent_dim": header.latent_dim,
            "dtype": reader.dtype,
            "bytes": None if path == paths.STDIO else os.path.getsize(path),
            "model": header.model,
            "model_fingerprint": header.model_fingerprint,
            "model_sample_rate": header.model_sample_rate,
            "samples_per_frame": header.samples_per_frame,
            "latent_scale": header.latent_scale,
            **({"level": _finite(Meter(reader).read_all().decibels)} if level else {}),
            "writer": reader.writer,
            "tags": reader.tags,
            "history": list(reader.history),
        }


def _finite(decibels: float) -> float | None:
    """Decibels for JSON, which has no infinity: None for silence."""
    return decibels if math.isfinite(decibels) else None


def _history(row: dict[str, Any]) -> str:
    from .history import tree
    from .tree import draw

    return draw(tree(_shown(row["file"]), row["history"], row["samples_per_frame"] / row["model_sample_rate"]))


def _text(key: str, value: Any) -> str:
    if key == "level":
        return "silent" if value is None else f"{value:.2f} dB"
    if value is None:
        return "-"
    if key == "file":
        return _shown(value)
    if key == "duration":
        return format_time(round(value, 3))
    if key == "sample_rate":
        return f"{value} Hz"
    return str(value)


def _shown(path: str) -> str:
    """A name on one line. An undecodable byte is no control character: it is printed back as it is."""
    return "".join(c if "\udc80" <= c <= "\udcff" else _one_line(c) for c in path)


def _lines(row: dict[str, Any]) -> str:
    facts = [(key, _text(key, value)) for key, value in row.items() if key not in ("tags", "history")]
    facts += [(f"tag {key}", _one_line(value)) for key, value in row["tags"].items()]
    facts += [("history" if i == 0 else "", _step(entry)) for i, entry in enumerate(row["history"])]
    width = max(len(key) for key, _ in facts)
    return "\n".join(f"{key:<{width}}  {value}".rstrip() for key, value in facts)


def _table(rows: list[dict[str, Any]]) -> str:
    columns = (*_COLUMNS, "level") if "level" in rows[0] else _COLUMNS
    lines = [columns, *(tuple(_text(key, row[key]) for key in columns) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _step(entry: dict[str, Any]) -> str:
    """One entry of the history as a line: `mix a.lat, 0.5 * b.lat`."""
    operands = entry.get("operands")
    if isinstance(operands, list):
        return _one_line(f"{entry['op']} " + ", ".join(_operand(o) for o in operands))
    rest = " ".join(f"{key}={value}" for key, value in entry.items() if key not in ("op", "model_fingerprint"))
    return _one_line(f"{entry['op']} {rest}")


def _operand(operand: Any) -> str:
    if not isinstance(operand, dict):
        return "?"
    name, factor = operand.get("name") or "?", operand.get("gain", 1)
    return str(name) if factor == 1 else f"{factor} * {name}"


def _one_line(text: str) -> str:
    from lincae_formats.errors import one_line

    return one_line(text)
