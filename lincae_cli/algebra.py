"""`lincae mix`, `gain`, `invert`, `subtract` and `residual`: arithmetic on latents, at the speed of a file copy."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import jsontext
from .command import add
from .errors import failure, usage_error
from .lats import check_output, note_position, opened, rounded, write
from .mapping import each, each_with
from .options import Batch, FilesFrom, Force, Json, LatInputs, LatOutput, LogOption, Null, Overwrite, SampleRate
from .parsing import (
    format_time,
    parse_choice,
    parse_decibels,
    parse_factor,
    parse_points,
    parse_rate,
    split_placed,
)
from .paths import open_source

if TYPE_CHECKING:
    from contextlib import ExitStack

    from lincae_formats import LatReader
    from lincae_formats.curve import Gain
    from lincae_formats.pool import Pooled
    from lincae_formats.signal import Lazy
    from lincae_formats.timeline import Position

LENGTHS = ("longest", "shortest", "first")
LINES = ("factor", "db")

Whole = Annotated[
    str, typer.Argument(metavar="MIX", help="The .lat file to take from, or - for stdin.", show_default=False)
]
Parts = Annotated[
    list[str],
    typer.Argument(
        metavar="PART...",
        help="The .lat files to take out of it; each may have a gain and a beginning: a.lat:-6dB@1:23.5.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    add(
        app,
        mix,
        "lincae mix drums.lat bass.lat:0.5 vocals.lat:-6dB -o song.lat",
        "lincae mix song.lat jingle.lat:-3dB@1:23.5 -o spot.lat",
    )
    add(
        app,
        gain,
        "lincae gain song.lat --db -6 -o quiet.lat",
        "lincae gain stems/ --factor 0.5 -o quieter/",
        'lincae gain song.lat --curve "0:-inf 2:0dB 58:0dB 60:-inf" -o shaped.lat',
    )
    add(app, invert, "lincae invert vocals.lat -o flipped.lat")
    add(
        app,
        subtract,
        "lincae subtract song.lat vocals.lat -o karaoke.lat",
        "lincae subtract songs/ karaoke/ -o vocals/",
    )
    add(
        app,
        residual,
        "lincae residual song.lat drums.lat bass.lat other.lat vocals.lat",
        "lincae residual song.lat vocals.lat --json -o rest.lat",
    )


def mix(
    operands: Annotated[
        list[str],
        typer.Argument(
            metavar="LAT[:GAIN][@TIME]...",
            help="Files, or - for stdin, each with its gain if that is not 1 (a.lat:0.5, a.lat:-6dB, a.lat:-inf) "
            "and where it begins if that is not 0 (a.lat@1:23.5, a.lat:-6dB@-2).",
            show_default=False,
        ),
    ],
    output: LatOutput = None,
    length: Annotated[
        str,
        typer.Option("--length", metavar="longest|shortest|first", help="The operand whose end is the mix's."),
    ] = "longest",
    sample_rate: SampleRate = None,
    force: Force = False,
) -> None:
    """Add .lat files: the mixture of what they hold.

    Beginnings are rounded to frames (93 ms), with a note; what begins before 0 is cut off there. A file whose name has
    a : or an @ in it is found by its name.
    """
    chosen = parse_choice(length, "--length", LENGTHS)
    rate = None if sample_rate is None else parse_rate(sample_rate, "--sample-rate")
    placed = [split_placed(operand) for operand in operands]
    names = [path for path, _, _ in placed]
    target = check_output(names, output, force, "mix")

    from lincae_formats import lazy

    with opened(names) as signals:
        places = _places(signals, placed)
        gains, offsets = [factor for _, factor, _ in placed], [place.frame for place in places]
        result = lazy.mix(signals, gains, offsets=offsets, length=chosen, sample_rate=rate)
        _note(signals, places)
        write(result, target, force)


def gain(
    lats: LatInputs = None,
    db: Annotated[
        str | None,
        typer.Option("--db", metavar="X", help="The gain in decibels: -6 halves the level, -inf is silence."),
    ] = None,
    factor: Annotated[
        str | None,
        typer.Option("--factor", metavar="A", help="The gain as a factor, which may be negative or 0."),
    ] = None,
    curve: Annotated[
        str | None,
        typer.Option("--curve", metavar="POINTS", help='A gain that changes: TIME:GAIN points, as in "0:-inf 2:0dB".'),
    ] = None,
    lines: Annotated[
        str,
        typer.Option("--lines", metavar="factor|db", help="What a curve's lines between its points are straight in."),
    ] = "factor",
    output: LatOutput = None,
    jobs: Batch = "auto",
    files_from: FilesFrom = None,
    null: Null = False,
    log: LogOption = None,
    force: Overwrite = False,
) -> None:
    """Change the volume of .lat files.

    A curve holds its first gain before its first point and its last one after the last; two points at one time make a
    step. It is evaluated in the middle of each frame (93 ms).
    """
    by = _gain(db, factor, curve, parse_choice(lines, "--lines", LINES))

    from lincae_formats import lazy

    each(
        "gain", lats, output, lambda reader: (lazy.gain(reader, by), []),
        files_from=files_from, null=null, jobs=jobs, log=log, force=force,
    )  # fmt: skip


def invert(
    lats: LatInputs = None,
    output: LatOutput = None,
    jobs: Batch = "auto",
    files_from: FilesFrom = None,
    null: Null = False,
    log: LogOption = None,
    force: Overwrite = False,
) -> None:
    """Flip the sign of .lat files.

    Mixed with what it came from, the result takes it out. The same as gain --factor -1.
    """
    from lincae_formats import lazy

    each(
        "invert", lats, output, lambda reader: (lazy.gain(reader, -1.0), []),
        files_from=files_from, null=null, jobs=jobs, log=log, force=force,
    )  # fmt: skip


def subtract(
    whole: Whole,
    parts: Parts,
    output: LatOutput = None,
    sample_rate: SampleRate = None,
    jobs: Batch = "auto",
    log: LogOption = None,
    force: Overwrite = False,
) -> None:
    """Take .lat files out of a mixture.

    The result is as long as the mixture. Beginnings are rounded to frames (93 ms), with a note. From each file of a
    folder of mixtures those of the same name in folders of parts are taken.
    """
    rate = None if sample_rate is None else parse_rate(sample_rate, "--sample-rate")
    placed = [split_placed(part) for part in parts]
    if os.path.isdir(whole):
        _subtract_folders(whole, placed, output, rate, jobs, log, force)
        return
    if log is not None:
        raise usage_error("lincae subtract: --log is about folders", "leave it out")
    names = [whole, *(path for path, _, _ in placed)]
    target = check_output(names, output, force, "subtract")

    from lincae_formats import lazy

    with opened(names) as (first, *rest):
        places = _places(rest, placed)
        gains, offsets = [factor for _, factor, _ in placed], [place.frame for place in places]
        result = lazy.subtract(first, rest, gains, offsets=offsets, sample_rate=rate)
        _note(rest, places)
        write(result, target, force)


def _subtract_folders(
    whole: str,
    placed: list[tuple[str, float, float]],
    output: str | None,
    rate: int | None,
    jobs: str,
    log: str | None,
    force: bool,
) -> None:
    for folder, _, _ in placed:
        if not os.path.isdir(folder):
            hint = "name a folder with a part for each" if os.path.exists(folder) else f"see: ls {whole}"
            raise failure(f"{whole} is a folder and {folder} is none", hint)
        if output is not None and os.path.realpath(output) == os.path.realpath(folder):
            raise usage_error(f"{folder} is an input and cannot be the output too", "give another -o")
    gains = [factor for _, factor, _ in placed]

    from lincae_formats import LatReader, lazy
    from lincae_formats.fingerprint import Fingerprint
    from lincae_formats.timeline import offset

    def make(mixture: "LatReader", stack: "ExitStack") -> "tuple[Lazy, list[str]]":
        below = os.path.relpath(mixture.name, whole)
        paths = [str(Path(folder, below)) for folder, _, _ in placed]  # parts/ and parts are one name in histories
        parts = [stack.enter_context(LatReader(open_source(path, "a .lat file"))) for path in paths]
        for reader in (mixture, *parts):
            reader.follow(Fingerprint(reader.header))  # hashed as it is read, for the history
        places = [offset(part.header, at, part.name) for part, (_, _, at) in zip(parts, placed, strict=True)]
        result = lazy.subtract(mixture, parts, gains, offsets=[place.frame for place in places], sample_rate=rate)
        notes = [
            rounded(f"the beginning of {folder},", place)
            for (folder, _, _), place in zip(placed, places, strict=True)
            if not place.exact
        ]
        return result, notes

    each_with(
        "subtract", [whole], output, make, files_from=None, null=False, jobs=jobs, log=log, force=force,
    )  # fmt: skip


def residual(
    whole: Whole,
    parts: Parts,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="OUT", help="Write what is left to this .lat file, too.")
    ] = None,
    as_json: Json = False,
    sample_rate: SampleRate = None,
    force: Force = False,
) -> None:
    """Tell how much of a mixture its parts leave.

    Do the stems add up to the mixture? Prints the level of what is left when the parts are taken out, relative to the
    mixture's, in dB: the less, the better they do. Minus infinity is nothing at all, 0 dB as much as there was. Levels
    are those of the latents.
    """
    rate = None if sample_rate is None else parse_rate(sample_rate, "--sample-rate")
    placed = [split_placed(part) for part in parts]
    names = [whole, *(path for path, _, _ in placed)]
    if output == "-":
        raise usage_error("lincae residual prints a level on stdout", "write what is left to a file: -o rest.lat")
    target = check_output(names, output or "rest.lat", force or output is None, "residual")

    from lincae_formats import lazy
    from lincae_formats.levels import Meter, decibels

    with opened(names) as (first, *rest):
        before = Meter(first)
        places = _places(rest, placed)
        gains, offsets = [factor for _, factor, _ in placed], [place.frame for place in places]
        left = Meter(lazy.subtract(before, rest, gains, offsets=offsets, sample_rate=rate))
        _note(rest, places)
        if output is None:
            left.read_all()
        else:
            write(left, target, force)
    level = decibels(left.rms / before.rms) if before.rms else 0.0 if left.rms else -math.inf
    if as_json:
        facts = {"mix": whole, "parts": parts, "residual_db": None if level == -math.inf else level}
        facts |= {"mix_rms": before.rms, "residual_rms": left.rms, "loudest": left.loudest}
        typer.echo(jsontext.dumps(facts))
    else:
        where = "" if level == -math.inf else f", loudest at {format_time(round(left.loudest, 1))}"
        typer.echo(f"{level:.1f} dB{where}")


def _gain(db: str | None, factor: str | None, curve: str | None, lines: str) -> "float | Gain":
    given = {"--db": db, "--factor": factor, "--curve": curve}
    texts = {option: text for option, text in given.items() if text is not None}
    if not texts:
        raise usage_error("lincae gain: no gain is given", "add --db -6, or --factor 0.5")
    if len(texts) > 1:
        first, second = list(texts)[:2]
        raise usage_error(f"{first} and {second} say the same thing twice", f"keep one: {first} {texts[first]}")
    if lines != LINES[0] and curve is None:
        raise usage_error("--lines is about a curve", 'add --curve "0:-80dB 2:0dB"')
    if db is not None:
        return parse_decibels(db, "--db")
    if factor is not None:
        return parse_factor(factor, "--factor")
    points = parse_points(curve or "", "--curve")

    from lincae_formats import Curve, LatError

    try:
        return Curve(points, decibels=lines == "db")
    except LatError as e:
        raise usage_error(f"--curve {curve!r}: {e.message}", e.hint) from e


def _places(signals: "list[Pooled]", placed: list[tuple[str, float, float]]) -> "list[Position]":
    """The frames at which operands begin."""
    from lincae_formats.timeline import offset

    return [offset(signal.header, at, signal.name) for signal, (_, _, at) in zip(signals, placed, strict=True)]


def _note(signals: "list[Pooled]", places: "list[Position]") -> None:
    """Tells of the beginnings that were rounded."""
    for signal, place in zip(signals, places, strict=True):
        note_position(f"the beginning of {signal.name},", place)
