"""`lincae info`, `verify`, `stats`, `export`: what `.lat` files contain, for people and for other programs."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

import click

from .batch import gather_lats, run
from .messages import Progress, dumps, failure, format_time, one_line, printable, say, table, usage_error
from .options import (
    DTYPE,
    STDIO,
    OneOf,
    Text,
    Whole,
    argument,
    as_json,
    command,
    device,
    files_from,
    force,
    lats,
    model,
    null,
    output,
)
from .paths import ModelCache, decoded, gather, is_lat, open_source

_COLUMNS = ("file", "duration", "sample_rate", "channels", "frames", "dtype", "quality", "bytes", "model")
if TYPE_CHECKING:
    from lincae_core.measure import Measurement
    from lincae_formats import LatReader

_LOUDNESS = {"peak_dbfs": "peak dBFS", "rms_dbfs": "RMS dBFS", "lufs": "LUFS", "short_term_lufs": "short-term LUFS"}
_LOUDNESS = {"file": "file", "duration": "duration", **_LOUDNESS}
_RATES = ("model_sample_rate", "samples_per_frame", "latent_scale")
_MAX_POINTS = 6  # points of a curve that a history shows

Entry = dict[str, Any]


@command("info", "lincae info song.lat", "lincae info song.lat --history", "lincae info stems/ --level --json")
@lats
@click.option("--history", is_flag=True, help="Draw how each file was made, as a tree.")
@click.option(
    "--level", is_flag=True, help="Also measure the RMS of the latents, dB; a gain of x dB changes it by x dB."
)
@as_json
@files_from
@null
def info(lats: tuple[str, ...], history: bool, level: bool, as_json: bool, files_from: str | None, null: bool) -> None:
    """Show what .lat files contain.

    One file gives a list, several a table; --json prints a list always.

    The level is that of the latents (0 dB: an RMS of 1) and serves to compare files before and after a change. For
    loudness in LUFS, see lincae stats.
    """
    inputs = gather_lats(lats, files_from, null)
    found = inputs.found
    rows: list[dict[str, Any]] = []
    try:
        run([f.path for f in found], lambda path: rows.append(_facts(path, level)), inputs=inputs)
    finally:
        # Also after failures: the other files' facts are still wanted.
        if as_json:
            click.echo(dumps(rows))
        elif history and rows:
            click.echo("\n\n".join(_history(row) for row in rows))
        elif len(found) == 1:
            for row in rows:
                click.echo(_lines(row))
        elif rows:
            click.echo(_table(rows))


@command("verify", "lincae verify stems/")
@lats
@files_from
@null
def verify(lats: tuple[str, ...], files_from: str | None, null: bool) -> None:
    """Check that .lat files are undamaged.

    Reads them completely and compares checksums. Prints FILE: ok for each; exits with code 1 where one is damaged.
    """
    inputs = gather_lats(lats, files_from, null)

    from lincae_formats import verify as check

    def one(path: str) -> None:
        check(open_source(path, "a .lat file"))
        click.echo(f"{printable(path)}: ok")

    run([f.path for f in inputs.found], one, inputs=inputs)


def _facts(path: str, level: bool) -> dict[str, Any]:
    from lincae_formats import LatReader
    from lincae_formats.signal import Meter

    with LatReader(open_source(path, "a .lat file")) as reader:
        header = reader.header
        measured = Meter(reader).read_all().decibels if level else 0.0
        names = ("duration", "sample_rate", "num_samples", "channels", "frames", "latent_dim", "model")
        facts = {name: getattr(header, name) for name in (*names, "model_fingerprint", *_RATES)}
        stored = {
            "dtype": reader.dtype,
            "quality": _quality(header, reader.dtype),
            "bytes": None if path == STDIO else os.path.getsize(path),
        }
        level_db = {"level_db": measured if math.isfinite(measured) else None} if level else {}  # JSON has no infinity
        made = {"writer": reader.writer, "tags": reader.tags, "history": list(reader.history)}
        return {"file": path, **{k: facts[k] for k in names[:-1]}, **stored, **facts, **level_db, **made}


def _quality(header: Any, dtype: str) -> str | None:
    """The quality that a file was encoded with; None for that of a sum, and where its model is not installed."""
    if not header.groups:
        return None
    from lincae_core.models.store import qualities
    from lincae_formats.errors import LincaeError

    try:
        table = qualities(header.model_fingerprint)
    except LincaeError:
        return None
    if dtype != "int8":
        return "exact" if table else None
    for quality in ("low", "medium", "high"):
        pairs = [(a, b) for a, b in zip(header.groups, table.get(quality, ()), strict=False) if not a.level]
        alike = all(a == replace(b, relative_step=a.relative_step) for a, b in pairs)
        ratios = {round(a.relative_step / b.relative_step, 6) for a, b in pairs if alike}
        # Files of low are rounded as coarsely as their size needs.
        if ratios == {1.0} or (quality == "low" and len(ratios) == 1 and min(ratios) > 1):
            return quality
    return None


def _text(key: str, value: Any) -> str:
    if key == "level_db":
        return "silent" if value is None else f"{value:.2f} dB RMS"
    if value is None:
        return "-"
    if key == "file":
        return printable(value)
    if key == "duration":
        return format_time(round(value, 3))
    if key == "sample_rate":
        return f"{value} Hz"
    return str(value)


def _lines(row: dict[str, Any]) -> str:
    facts = [(_name(key), _text(key, value)) for key, value in row.items() if key not in ("tags", "history")]
    facts += [(f"tag {key}", one_line(value)) for key, value in row["tags"].items()]
    facts += [("history" if i == 0 else "", _summary(entry)) for i, entry in enumerate(row["history"])]
    width = max(len(key) for key, _ in facts)
    return "\n".join(f"{key:<{width}}  {value}".rstrip() for key, value in facts)


def _table(rows: list[dict[str, Any]]) -> str:
    columns = (*_COLUMNS, "level_db") if "level_db" in rows[0] else _COLUMNS
    head = tuple(_name(key) for key in columns)
    return table([head, *(tuple(_text(key, row[key]) for key in columns) for row in rows)])


def _name(key: str) -> str:
    return "latents' level" if key == "level_db" else key


def _summary(entry: Entry) -> str:
    """One entry of the history as a line: `mix a.lat, 0.5 * b.lat`."""
    operands = entry.get("operands")
    if isinstance(operands, list):
        return one_line(f"{entry['op']} " + ", ".join(_operand_summary(o) for o in operands))
    return one_line(_pairs(entry))


def _operand_summary(operand: Any) -> str:
    if not isinstance(operand, dict):
        return "?"
    name, factor = operand.get("name") or "?", operand.get("gain", 1)
    return str(name) if factor == 1 else f"{factor} * {name}"


# --- trees


class Branch(Protocol):
    """A line of a tree, and the branches below it."""

    @property
    def label(self) -> str:
        """The line."""

    @property
    def children(self) -> list[Self]:
        """The branches."""


@dataclass
class Node:
    """A branch."""

    label: str
    children: list[Node] = field(default_factory=list)


def draw(root: Branch) -> str:
    """The tree as text, a line for each branch; control characters are escaped."""
    return "\n".join(one_line(line) for line in (root.label, *_below(root, "")))


def _below(branch: Branch, indent: str) -> Iterator[str]:
    for child in branch.children:
        last = child is branch.children[-1]
        yield f"{indent}{'└── ' if last else '├── '}{child.label}"
        yield from _below(child, indent + ("    " if last else "│   "))


def _history(row: dict[str, Any]) -> str:
    """The history of a file as a tree, oldest step first; below a sum are its operands, each with its own history."""
    frame = row["samples_per_frame"] / row["model_sample_rate"]
    return draw(Node(printable(row["file"]), [_step(entry, frame) for entry in row["history"]]))


def _step(entry: Any, frame: float) -> Node:
    """The branch of an entry; `frame` is the length of a latent frame, s."""
    if not isinstance(entry, dict):
        return Node(str(entry))
    operands, op = entry.get("operands"), str(entry.get("op"))
    children = [_operand(o, frame, op == "subtract") for o in operands] if isinstance(operands, list) else []
    try:
        words = _WORDS[op](entry, frame)
    except (KeyError, TypeError, ValueError, IndexError):  # another program may use the same name for something else
        words = _pairs(entry, "operands")
    return Node(words, children)


def _operand(operand: Any, frame: float, less: bool) -> Node:
    if not isinstance(operand, dict):
        return Node(str(operand))
    words = [str(operand.get("name") or "latents in memory")]
    gain, offset = operand.get("gain", 1), operand.get("offset_frames", 0)
    if less and isinstance(gain, int | float) and gain < 0:
        words, gain = [f"less {words[0]}"], -gain
    words += [_gain(gain)] if isinstance(gain, int | float) and gain != 1 else []
    words += [f"at {_clock(offset * frame)}"] if isinstance(offset, int) and offset else []
    steps = [entry for key in ("history", "steps") for entry in operand.get(key) or [] if isinstance(entry, dict)]
    return Node("  ".join(words), [_step(entry, frame) for entry in steps])


def _pairs(entry: Entry, *without: str) -> str:
    """`op key=value ...`."""
    hidden = ("op", "model_fingerprint", *without)
    return " ".join([str(entry.get("op")), *(f"{key}={value}" for key, value in entry.items() if key not in hidden)])


def _volume(entry: Entry, frame: float) -> str:
    if "curve" not in entry:
        return "invert" if entry["factor"] == -1 else f"gain {_gain(entry['factor'])}"
    points = [f"{_clock(time)} {_gain(factor)}" for time, factor in entry["curve"]]
    more = f", {len(points) - _MAX_POINTS} more" if len(points) > _MAX_POINTS else ""
    begin = f", applied from {_clock(entry['offset_frames'] * frame)}" if entry.get("offset_frames") else ""
    return f"gain curve: {', '.join(points[:_MAX_POINTS])}{more}{begin}"


def _pad(entry: Entry, frame: float) -> str:
    parts = [f"{_clock(entry['before_frames'] * frame)} before"] if entry.get("before_frames") else []
    parts += [f"{_clock(entry['after'])} after"] if entry.get("after") else []
    return f"pad {', '.join(parts)}"


def _fade(entry: Entry, _: float) -> str:
    parts = [f"{way} {_clock(entry[way])}" for way in ("in", "out") if entry[way]]
    return f"fade {', '.join(parts)}" + (f", {entry['shape']}" if entry["shape"] != "linear" else "")


def _channels(entry: Entry, _: float) -> str:
    def of(row: list[float]) -> str:
        inputs = [f"{i}" if f == 1 else f"{f:.4g} * {i}" for i, f in enumerate(row, 1) if f]
        return " + ".join(inputs) or "silence"

    return f"channels: {', '.join(of(row) for row in entry['matrix'])}"


_WORDS: dict[str, Callable[[Entry, float], str]] = {
    "encode": lambda e, _: f"encode {e['source']}" + (f"  ({e['model']})" if "model" in e else ""),
    "gain": _volume,
    "slice": lambda e, frame: f"slice {_clock(e['start_frame'] * frame)} to {_clock(e['stop_frame'] * frame)}",
    "shift": lambda e, frame: f"shift by {_clock(e['frames'] * frame)}",
    "pad": _pad,
    "repeat": lambda e, _: f"repeat {e['times']} times",
    "fade": _fade,
    "channels": _channels,
    "render": lambda e, _: f"render {e['arrangement']}" + (f", variant {e['variant']}" if "variant" in e else ""),
    "elided": lambda e, _: "... (earlier steps were too long to keep)",
}


def _gain(factor: float) -> str:
    from lincae_formats.signal import decibels

    size = "silent" if factor == 0 else f"{decibels(abs(factor)):.1f} dB"
    return f"{size}, inverted" if factor < 0 else size


def _clock(seconds: float) -> str:
    return format_time(round(seconds, 3))


# --- stats


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
    files: tuple[str, ...], decode: bool, per_dimension: bool, as_json: bool, model: str | None, device: str,
    files_from: str | None, null: bool,
) -> None:  # fmt: skip
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
        run(
            [f.path for f in inputs.found],
            lambda path: rows.append(_measured(path, models, model, decode)),
            inputs=inputs,
        )
    finally:
        # Also after failures: the other files' figures are still wanted.
        if as_json:
            click.echo(dumps(rows))
        elif rows:
            click.echo(
                table([tuple(_LOUDNESS.values()), *(tuple(_cell(key, row) for key in _LOUDNESS) for row in rows)])
            )


def _print_dimensions(paths: list[str]) -> None:
    from lincae_core.measure import dimension_statistics
    from lincae_formats import LatReader

    def readers() -> Iterator[LatReader]:
        for path in paths:
            with LatReader(open_source(path, "a .lat file")) as reader:
                yield reader

    click.echo(dumps(dimension_statistics(readers())))


def _measured(path: str, models: ModelCache, model: str | None, decode: bool) -> dict[str, Any]:
    from lincae_core.measure import measure_audio

    with ExitStack() as stack:
        if is_lat(path):
            from lincae_formats import LatReader

            reader = stack.enter_context(LatReader(open_source(path, "a .lat file")))
            header = reader.header
            facts = _row(path, header.duration, header.sample_rate, header.channels)
            if decode:
                return facts | _loudness(measure_audio(decoded(reader, models, model)), False)
            return facts | _loudness(_estimate(reader, models, model), True)
        from lincae_core.audio import AudioReader

        audio = stack.enter_context(AudioReader(open_source(path, "audio or a .lat file")))
        return _row(path, audio.duration, audio.sample_rate, audio.channels) | _loudness(measure_audio(audio), False)


def _estimate(reader: LatReader, models: ModelCache, model: str | None) -> Measurement:
    from lincae_core.measure import estimate

    info = models.matching(reader.header, reader.name, model)
    if info.loudness is None:
        raise failure(f"{reader.name}: the model {info.name} has no table to estimate loudness by", "add --decode")
    return estimate(reader, info.loudness)


def _row(path: str, duration: float, sample_rate: int, channels: int) -> dict[str, Any]:
    return {"file": path, "duration": duration, "sample_rate": sample_rate, "channels": channels}


def _loudness(found: Measurement, estimated: bool) -> dict[str, Any]:
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


def _cell(key: str, row: dict[str, Any]) -> str:
    value = row[key]
    if key == "file":
        return printable(value) if value != STDIO else "<stdin>"
    if key == "duration":
        return format_time(round(value, 3))
    if value is None:
        return "-" if key == "peak_dbfs" and row["estimated"] else "silent"
    return f"{'~' if row['estimated'] else ''}{value:.1f}"


# --- export


def _size(text: str) -> int:
    number, unit = text.strip().upper().removesuffix("B"), 1
    for letter, factor in (("K", 10**3), ("M", 10**6), ("G", 10**9)):
        if number.endswith(letter):
            number, unit = number[:-1], factor
    size = float(number) * unit if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", number, re.ASCII) else 0
    if not 1000 <= size <= 10**12:
        raise ValueError("is not a size from 1kB to 1000GB")
    return int(size)


@command(
    "export",
    "lincae export latents/ -o shards/ --to webdataset",
    "lincae export latents/ -o arrays/ --to npy --dtype float32 --levels",
)
@lats
@output("Folder to write.", metavar="FOLDER")
@click.option("--to", type=OneOf("webdataset", "zarr", "npy"), help="Format. [required]")
@click.option("--dtype", type=DTYPE, default="float16", help="Type of the numbers.")
@click.option("--shard-size", type=Text("size", _size, "256MB"), default="256MB", help="Size of a shard, at most.")
@click.option("--mono", is_flag=True, help="Average the channels of each file.")
@click.option("--levels", is_flag=True, help="Also export levels, of models that have them.")
@click.option("--jobs", "-j", type=Whole(1, 1024, word="auto"), default="auto", help="Shards at once.")
@force
@files_from
@null
def export(
    lats: tuple[str, ...], output: str | None, to: str | None, dtype: str, shard_size: int, mono: bool, levels: bool,
    jobs: int | None, force: bool, files_from: str | None, null: bool,
) -> None:  # fmt: skip
    """Write latents as arrays for training elsewhere.

    Shards of whole files: tar files for webdataset, arrays for numpy.load, or one Zarr array. Beside them are
    files.jsonl (names, places, tags) and export.json (model, mean and deviation of each latent dimension). Latents are
    floats: the integers of a .lat have a step for each group and frame. An export that was interrupted goes on.
    """
    if to is None or output is None or output == STDIO:
        missing = "--to" if to is None else "-o FOLDER"
        raise usage_error(f"lincae export: {missing} is missing", "for example: -o shards/ --to webdataset")
    inputs = gather_lats(lats, files_from, null)
    if STDIO in [f.path for f in inputs.found]:
        raise usage_error("export cannot read stdin (-)", "name files or folders")

    from lincae_core.export import Export

    from .workers import cores, in_threads

    files = [(f.path, f.relative.as_posix()) for f in inputs.found]
    made = Export(
        files, output, to, dtype=dtype, shard_size=shard_size, mono=mono, levels=levels, overwrite=force
    )  # fmt: skip
    if finished := made.count - len(made.todo):
        say("note", f"{finished} of {made.count} shards were finished already; --force makes them again")
    with Progress() as progress:
        done = in_threads(made.todo, made.write, jobs or cores(), progress.stop) if made.todo else ()
        for number, _ in enumerate(done, 1):
            progress.line(f"{number} of {len(made.todo)} shards", number / len(made.todo))
    if len(made.failures) < len(files):
        made.finish()

    def failed(path: str) -> None:
        if path in made.failures:
            raise made.failures[path]

    run([path for path, _ in files], failed, inputs=inputs)
