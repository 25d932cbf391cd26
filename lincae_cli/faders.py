"""`lincae faders` and `lincae find`: which gains make a mix from its stems, and which mixes contain a stem."""

from __future__ import annotations

import csv
import io
import math
import os
from typing import TYPE_CHECKING, Any

import click

from .batch import opened, run
from .messages import dumps, failure, format_time, printable, say, table, usage_error
from .options import DURATION, PATH, POSITIVE, TIME, argument, as_json, command, files_from, force, null, output
from .paths import check_targets, gather, open_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from lincae_core.unmix import Faders

    from .paths import Inputs


@command(
    "faders",
    "lincae faders mix.lat drums.lat bass.lat vocals.lat",
    "lincae faders mix.lat stems/*.lat -o song.yaml && lincae render song.yaml -o again.lat",
    "lincae faders mix.lat drums.lat vocals.lat --max-delay 2s --check",
)
@argument("mix", "MIX", "The mix, a .lat file.")
@argument("stems", "STEM...", "Its stems, .lat files of the same model.", required=True)
@output("Write an arrangement whose render is the mix.", metavar="YAML")
@click.option(
    "--window", type=DURATION, metavar="TIME", default="1", help="Time between two points of a gain, in seconds."
)
@click.option(
    "--max-delay", type=TIME, metavar="TIME", default="0", help="Search for stems that begin earlier or later."
)
@click.option(
    "--ridge", type=POSITIVE, metavar="X", default="1e-4", help="Smoothness of gains; more where stems are alike."
)
@click.option("--non-negative", is_flag=True, help="Allow no inverted stems.")
@click.option("--check", is_flag=True, help="Exit with code 1 if a stem does not belong to the mix.")
@click.option("--csv", "csv_path", type=PATH, metavar="FILE", help="Write gains and residual to a CSV file.")
@as_json
@force
def faders(
    mix: str, stems: tuple[str, ...], output: str | None, window: float, max_delay: float, ridge: float, non_negative:
    bool, check: bool, csv_path: str | None, as_json: bool, force: bool,
) -> None:  # fmt: skip
    """Find the gains that make a mix from its stems.

    Prints the gain of each stem in dB over time, and the residual: the power of what the stems do not explain (effects,
    missing tracks) relative to the mix. Nothing is decoded. Delays are whole latent frames (93 ms); gains are straight
    lines between points one window apart, so a sudden step comes out as a slope of one window: a smaller --window
    follows it more closely. A mix of latents gives its gains within 0.05 dB where a stem sounds; a mix of
    audio that was encoded apart within 0.2 dB (--quality exact or high) or 0.3 dB (medium). A compressor on the
    mix shows as gains that move together and as a large residual.
    """
    if output is not None and not output.lower().endswith((".yaml", ".yml")):
        raise usage_error(f"-o {output} is not an arrangement", "write -o song.yaml")
    targets = [path for path in (output, csv_path) if path is not None]
    check_targets(targets, [mix, *stems], force)

    from lincae_core.unmix import faders as find_faders

    with opened([mix, *stems]) as (whole, *parts):
        header = whole.header
        found = find_faders(whole, parts, window=window, max_delay=max_delay, ridge=ridge, non_negative=non_negative)
    frame = header.samples_per_frame / header.model_sample_rate
    foreign = [stem for i, stem in enumerate(stems) if found.foreign(i)]
    if csv_path is not None:
        _write_text(csv_path, _csv(found, stems), force)
    if output is not None:
        _write_text(output, _yaml(found, stems, frame, output), force)
    if as_json:
        click.echo(dumps(_facts(found, stems, frame, mix)))
    else:
        click.echo(_table(found, stems, frame))
    for stem in foreign:
        say("note", f"{stem} does not seem to be part of {mix}")
    if check and foreign:
        raise click.exceptions.Exit(1)


@command("find", "lincae find vocals.lat mixes/", "lincae find sample.lat library/ --json")
@argument("stem", "STEM", "The .lat file to look for.")
@argument("mixes", "LAT...", "Mixes: .lat files, folders or quoted globs.")
@as_json
@files_from
@null
def find(stem: str, mixes: tuple[str, ...], as_json: bool, files_from: str | None, null: bool) -> None:
    """Find the mixes that contain a stem, and when.

    Prints for each mix that contains it where the stem begins, its gain, and how clearly it stands out (7 or more).
    --json lists all mixes. Nothing is decoded. Delays of a fraction of a latent frame (93 ms) are not searched: a stem
    that is not aligned to the same frames is found less clearly, or not at all.
    """
    from lincae_core.unmix import CLEAR, best_delay, gain_at, projected
    from lincae_formats import LatReader, check_compatible

    inputs = gather(mixes, files_from, null, suffixes={".lat"}, kind=".lat", missing="lincae find: LAT")
    rows: list[dict[str, Any]] = []
    with LatReader(open_source(stem, "a .lat file")) as source:
        wanted, part = source.header, projected(source)
        frame = wanted.samples_per_frame / wanted.model_sample_rate

        def one(path: str) -> None:
            with LatReader(open_source(path, "a .lat file")) as mix:
                check_compatible([wanted, mix.header], [stem, path], sample_rate=wanted.sample_rate)
                delay, clarity = best_delay(part, projected(mix))
                gain = gain_at(source, mix, delay) if clarity >= CLEAR else None
            rows.append({"file": path, "start": delay * frame, "gain": gain, "clarity": round(clarity, 1)})

        _report_found(stem, inputs, one, rows, as_json)


def _report_found(
    stem: str, inputs: Inputs, one: Callable[[str], None], rows: list[dict[str, Any]], as_json: bool
) -> None:
    try:
        run([f.path for f in inputs.found], one, inputs)
    finally:
        rows.sort(key=lambda row: -row["clarity"])
        matches = [row for row in rows if row["gain"] is not None]
        if as_json:
            click.echo(dumps([{**row, "found": row["gain"] is not None} for row in rows]))
        elif matches:
            head = ("file", "starts at", "gain", "clarity")
            cells = [
                (printable(r["file"]), format_time(round(r["start"], 2)), _decibels(r["gain"]), f"{r['clarity']:.0f}")
                for r in matches
            ]
            click.echo(table([head, *cells]))
    if not matches:
        raise failure(f"{stem} was found in none of {len(rows)} files", "add --json to see how close each came")


def _decibels(gain: float) -> str:
    if abs(gain) < 1e-4:
        return "-inf"
    return f"{20 * math.log10(abs(gain)):+.1f}{' inv' if gain < 0 else ''}"


def _power(ratio: float) -> str:
    if math.isnan(ratio):
        return "silent"
    return f"{round(10 * math.log10(ratio), 1) + 0.0:.1f}" if ratio > 1e-10 else "-100"


def _table(found: Faders, stems: tuple[str, ...], frame: float) -> str:
    names = [printable(os.path.basename(stem).removesuffix(".lat")) for stem in stems]
    rows = [("time", *names, "residual dB")]
    for j, time in enumerate(found.times):
        gains = [_decibels(found.gains[i, j]) if found.sounding[i, j] else "." for i in range(len(stems))]
        rows.append((format_time(round(float(time), 3)), *gains, _power(found.residual[j])))
    lines = [table(rows), ""]
    for i, stem in enumerate(stems):
        late = f", begins at {format_time(round(float(found.delays[i]) * frame, 3))}" if found.delays[i] else ""
        share = f"{_power(found.shares[i])} dB of the mix"
        lines.append(f"{printable(stem)}: {_decibels(found.typical(i))} dB{late}, {share}")
    lines.append(f"residual: {_power(found.total)} dB")
    return "\n".join(lines)


def _facts(found: Faders, stems: tuple[str, ...], frame: float, mix: str) -> dict[str, Any]:
    def ratio(value: float) -> float | None:
        return round(10 * math.log10(value), 3) if value > 0 else None

    return {
        "mix": mix,
        "times": [round(float(t), 6) for t in found.times],
        "residual_db": [ratio(float(value)) for value in found.residual],
        "total_residual_db": ratio(found.total),
        "stems": [
            {
                "file": stem,
                "delay": float(found.delays[i]) * frame,
                "typical_gain": found.typical(i),
                "belongs": not found.foreign(i),
                "share_db": ratio(float(found.shares[i])),
                "gains": [round(float(gain), 6) for gain in found.gains[i]],
                "sounding": [bool(value) for value in found.sounding[i]],
            }
            for i, stem in enumerate(stems)
        ],
    }


def _csv(found: Faders, stems: tuple[str, ...]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["time", *stems, "residual_db"])
    for j, time in enumerate(found.times):
        gains = [f"{gain:.6g}" for gain in found.gains[:, j]]
        writer.writerow([f"{time:.6g}", *gains, _power(found.residual[j])])
    return text.getvalue()


def _yaml(found: Faders, stems: tuple[str, ...], frame: float, output: str) -> str:
    import yaml

    from lincae_core.unmix import arrangement

    folder = os.path.dirname(os.path.realpath(output))
    names = [os.path.relpath(os.path.realpath(stem), folder) for stem in stems]
    outside = [name for name in names if name.startswith("..")]
    if outside:
        say("note", f"{outside[0]} lies outside the folder of {output}: render it with --allow-outside")
    song = arrangement(found, names, frame)
    return yaml.safe_dump(song, sort_keys=False, allow_unicode=True, width=110)


def _write_text(path: str, text: str, force: bool) -> None:
    from pathlib import Path

    from lincae_formats import atomic_path

    with atomic_path(path, overwrite=force) as temporary:
        Path(temporary).write_text(text, encoding="utf-8", errors="surrogateescape")
