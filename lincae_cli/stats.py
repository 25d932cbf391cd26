"""`lincae stats`: peak, RMS and loudness of audio and `.lat` files; mean and deviation of latent dimensions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from . import batch
from .inputs import STDIO, ModelCache, decoded, gather, is_lat, open_source
from .inspect import printable, table
from .messages import dumps, failure
from .options import argument, as_json, command, device, files_from, model, null
from .types import format_time

if TYPE_CHECKING:
    from lincae_core.measure import Measurement
    from lincae_formats import LatReader

_COLUMNS = {
    "file": "file",
    "duration": "duration",
    "peak_dbfs": "peak dBFS",
    "rms_dbfs": "RMS dBFS",
    "lufs": "LUFS",
    "short_term_lufs": "short-term LUFS",
}


@command(
    "stats",
    "lincae stats song.wav song.lat",
    "lincae stats album/ --json",
    "lincae stats latents/ --per-dimension > statistics.json",
)
@argument("files", "FILE...", "Audio or .lat files, folders, quoted globs, or - for stdin.")
@click.option("--decode", is_flag=True, help="Decode .lat files and measure the audio, instead of estimating.")
@click.option("--per-dimension", is_flag=True, help="Print mean and deviation of each latent dimension, as JSON.")
@as_json
@model("The model's file, where the model is not installed.")
@device
@files_from
@null
def stats(
    files: tuple[str, ...],
    decode: bool,
    per_dimension: bool,
    as_json: bool,
    model: str | None,
    device: str,
    files_from: str | None,
    null: bool,
) -> None:
    """Measure peak, RMS and loudness.

    LUFS is the integrated loudness of ITU-R BS.1770, short-term the loudest 3 s; the peak is that of the samples. A
    .lat file is not decoded: its RMS and loudness are estimated from the latents, marked ~, within about 0.1 LU; its
    peak is not known. --decode measures exactly.
    """
    from lincae_core.audio import AUDIO_EXTENSIONS

    suffixes = {".lat"} if per_dimension else {".lat", *AUDIO_EXTENSIONS}
    kind = ".lat" if per_dimension else "audio or .lat"
    inputs = gather(files, files_from, null, suffixes=suffixes, kind=kind, missing="lincae stats: FILE")
    if per_dimension:
        _print_dimensions([f.path for f in inputs.found])
        return
    models = ModelCache(device)
    rows: list[dict[str, Any]] = []
    try:
        batch.run(
            [f.path for f in inputs.found],
            lambda path: rows.append(_facts(path, models, model, decode)),
            inputs=inputs,
        )
    finally:
        # Also after failures: the other files' figures are still wanted.
        if as_json:
            click.echo(dumps(rows))
        elif rows:
            click.echo(table([tuple(_COLUMNS.values()), *(tuple(_text(key, row) for key in _COLUMNS) for row in rows)]))


def _print_dimensions(paths: list[str]) -> None:
    from lincae_core.measure import dimension_statistics
    from lincae_formats import LatReader

    def readers() -> Iterator[LatReader]:
        for path in paths:
            with LatReader(open_source(path, "a .lat file")) as reader:
                yield reader

    click.echo(dumps(dimension_statistics(readers())))


def _facts(path: str, models: ModelCache, model: str | None, decode: bool) -> dict[str, Any]:
    from lincae_core.measure import measure_audio

    with ExitStack() as stack:
        if is_lat(path):
            from lincae_formats import LatReader

            reader = stack.enter_context(LatReader(open_source(path, "a .lat file")))
            header = reader.header
            facts = _row(path, header.duration, header.sample_rate, header.channels)
            if decode:
                return facts | _levels(measure_audio(decoded(reader, models, model)), False)
            return facts | _levels(_estimate(reader, models, model), True)
        from lincae_core.audio import AudioReader

        audio = stack.enter_context(AudioReader(open_source(path, "audio or a .lat file")))
        return _row(path, audio.duration, audio.sample_rate, audio.channels) | _levels(measure_audio(audio), False)


def _estimate(reader: LatReader, models: ModelCache, model: str | None) -> Measurement:
    from lincae_core.measure import estimate

    info = models.matching(reader.header, reader.name, model)
    if info.loudness is None:
        raise failure(f"{reader.name}: the model {info.name} has no table to estimate loudness by", "add --decode")
    return estimate(reader, info.loudness)


def _row(path: str, duration: float, sample_rate: int, channels: int) -> dict[str, Any]:
    return {"file": path, "duration": duration, "sample_rate": sample_rate, "channels": channels}


def _levels(found: Measurement, estimated: bool) -> dict[str, Any]:
    """The figures in dB; None for silence and for what is not known, as JSON has no infinity."""
    from lincae_formats.signal import decibels

    def finite(value: float) -> float | None:
        return round(value, 3) if math.isfinite(value) else None

    return {
        "peak_dbfs": None if found.peak is None else finite(decibels(found.peak)),
        "rms_dbfs": finite(decibels(found.rms)),
        "lufs": finite(found.integrated),
        "short_term_lufs": finite(found.short_term),
        "estimated": estimated,
    }


def _text(key: str, row: dict[str, Any]) -> str:
    value = row[key]
    if key == "file":
        return printable(value) if value != STDIO else "<stdin>"
    if key == "duration":
        return format_time(round(value, 3))
    if value is None:
        return "-" if key == "peak_dbfs" and row["estimated"] else "silent"
    return f"{'~' if row['estimated'] else ''}{value:.1f}"
