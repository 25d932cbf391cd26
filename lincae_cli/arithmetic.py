"""`lincae mix`, `gain`, `invert`, `subtract`, `residual` and `channels`: arithmetic on latents, without decoding."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .batch import check_output, lats_to_lats, note_position, opened, rounded, write
from .messages import dumps, failure, format_time, usage_error
from .options import (
    DECIBELS,
    FACTOR,
    OPERAND,
    POINTS,
    OneOf,
    Operand,
    argument,
    as_json,
    command,
    force,
    lat_output,
    output,
    quality,
    sample_rate,
)  # fmt: skip
from .paths import open_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from lincae_formats import LatReader
    from lincae_formats.algebra import Gain
    from lincae_formats.signal import Signal

    from .batch import Each

parts = argument(
    "parts",
    "PART...",
    "The .lat files to subtract, each with an optional gain and start time: a.lat:-6dB@1:23.5.",
    type=OPERAND,
    required=True,
)
whole = argument("whole", "MIX", "The .lat file to subtract from, or - for stdin.")


@command(
    "mix",
    "lincae mix drums.lat bass.lat:0.5 vocals.lat:-6dB -o song.lat",
    "lincae mix song.lat jingle.lat:-3dB@1:23.5 -o spot.lat",
)
@argument(
    "operands",
    "LAT[:GAIN][@TIME]...",
    "Files, or - for stdin, each with an optional gain (a.lat:0.5, a.lat:-6dB, a.lat:-inf) and an optional start time "
    "(a.lat@1:23.5, a.lat:-6dB@-2).",
    type=OPERAND,
    required=True,
)
@lat_output
@click.option(
    "--length", type=OneOf("longest", "shortest", "first"), default="longest", help="Which operand sets the length."
)
@quality
@sample_rate
@force
def mix(
    operands: tuple[Operand, ...], output: str | None, length: str, quality: str | None, sample_rate: int | None,
    force: bool,
) -> None:  # fmt: skip
    """Mix .lat files: add them.

    Start times are rounded to latent frames (93 ms); a note says so. Audio before time 0 is cut off. Mono files are
    added to every channel. Tags are kept where all operands agree. An existing file whose name contains : or @ is found
    by its full name.
    """
    names = [operand.path for operand in operands]
    target = check_output(names, output, force, "mix")

    from lincae_formats import algebra

    with opened(names) as signals:
        gains, offsets, note_rounding = _placed(signals, operands)
        result = algebra.mix(signals, gains, offsets=offsets, length=length, sample_rate=sample_rate)
        note_rounding()
        write(stored_as(result, quality), target, force)


@command(
    "gain",
    "lincae gain song.lat --db -6 -o quiet.lat",
    "lincae gain stems/ --factor 0.5 -o quieter/",
    'lincae gain song.lat --curve "0:-inf 2:0dB 58:0dB 60:-inf" -o shaped.lat',
)
@click.option("--db", type=DECIBELS, metavar="X", help="Gain in decibels: -6 halves the amplitude, -inf is silence.")
@click.option("--factor", type=FACTOR, metavar="A", help="Gain as a factor; may be negative or 0.")
@click.option("--curve", type=POINTS, metavar="POINTS", help='Gain over time, as TIME:GAIN points: "0:-inf 2:0dB".')
@click.option("--lines", type=OneOf("factor", "db"), default="factor", help="Unit in which a curve is interpolated.")
@lats_to_lats
def gain(
    db: float | None, factor: float | None, curve: list[tuple[float, float]] | None, lines: str, each: Each
) -> None:
    """Change the volume of .lat files.

    Before its first and after its last point a curve stays constant; two points at the same time make a step. Curves
    are evaluated at the middle of each latent frame (93 ms).
    """
    by = _chosen_gain(db, factor, curve, lines)

    from lincae_formats import algebra

    each(lambda reader, _: (algebra.gain(reader, by), []))


@command("invert", "lincae invert vocals.lat -o inverted.lat")
@lats_to_lats
def invert(each: Each) -> None:
    """Invert the polarity of .lat files. Same as gain --factor -1.

    A file mixed with its inverse is silence.
    """
    from lincae_formats import algebra

    each(lambda reader, _: (algebra.gain(reader, -1.0), []))


@command(
    "subtract",
    "lincae subtract song.lat vocals.lat -o karaoke.lat",
    "lincae subtract songs/ karaoke/ -o vocals/",
)
@whole
@parts
@quality
@sample_rate
@lats_to_lats(lists=False, named=False)
def subtract(whole: str, parts: tuple[Operand, ...], quality: str | None, sample_rate: int | None, each: Each) -> None:
    """Subtract .lat files from a mix.

    The result is as long as the mix. Start times are rounded to latent frames (93 ms); a note says so. If MIX and the
    PARTs are folders, files of the same name are subtracted from each other.
    """
    if os.path.isdir(whole):
        _subtract_folders(whole, parts, quality, sample_rate, each)
        return
    if each.batch.log_json:
        raise usage_error("lincae subtract: --log is for folders", "remove it")
    names = [whole, *(part.path for part in parts)]
    target = check_output(names, each.output, each.batch.force, "subtract")

    from lincae_formats import algebra

    with opened(names) as (first, *rest):
        gains, offsets, note_rounding = _placed(rest, parts)
        result = algebra.subtract(first, rest, gains, offsets=offsets, sample_rate=sample_rate)
        note_rounding()
        write(stored_as(result, quality), target, each.batch.force)


def _subtract_folders(
    whole: str, parts: tuple[Operand, ...], quality: str | None, sample_rate: int | None, each: Each
) -> None:
    for part in parts:
        if not os.path.isdir(part.path):
            hint = "name a folder with a part for each mix" if os.path.exists(part.path) else f"see: ls {whole}"
            raise failure(f"{whole} is a folder, {part.path} is not", hint)
        if each.output is not None and os.path.realpath(each.output) == os.path.realpath(part.path):
            raise usage_error(f"{part.path} is an input and cannot be the output too", "give another -o")
    gains = [part.gain for part in parts]

    from lincae_formats import LatReader, algebra

    def parts_of(mixture: str) -> list[str]:
        below = os.path.relpath(mixture, whole)
        return [str(Path(part.path, below)) for part in parts]  # so that parts/ and parts give the same history

    def make(mixture: LatReader, stack: ExitStack) -> tuple[Signal, list[str]]:
        paths = parts_of(mixture.name)
        readers = [stack.enter_context(LatReader(open_source(path, "a .lat file"))) for path in paths]
        for reader in (mixture, *readers):
            reader.follow()  # computed while it is read, for the history
        places = [r.header.offset(part.offset, r.name) for r, part in zip(readers, parts, strict=True)]
        offsets = [place.frame for place in places]
        result = algebra.subtract(mixture, readers, gains, offsets=offsets, sample_rate=sample_rate)
        noted = [(f"{part.path} at", place) for part, place in zip(parts, places, strict=True) if not place.exact]
        return stored_as(result, quality), [rounded(*note) for note in noted]

    replace(each, lats=(whole,))(make, beside=parts_of)


@command(
    "residual",
    "lincae residual song.lat drums.lat bass.lat other.lat vocals.lat",
    "lincae residual song.lat vocals.lat --json -o rest.lat",
)
@whole
@parts
@output("Also write the residual to this .lat file.")
@as_json
@sample_rate
@force
def residual(
    whole: str, parts: tuple[Operand, ...], output: str | None, as_json: bool, sample_rate: int | None, force: bool
) -> None:
    """Measure what remains of a mix after subtracting its parts.

    Do the stems add up to the mix? Prints the RMS of the residual relative to that of the mix, in dB, both measured on
    the latents. -inf dB: nothing remains; 0 dB: as much as before.
    """
    names = [whole, *(part.path for part in parts)]
    if output == "-":
        raise usage_error("lincae residual prints to stdout", "write the residual to a file: -o rest.lat")
    target = check_output(names, output or "rest.lat", force or output is None, "residual")

    from lincae_formats import algebra
    from lincae_formats.signal import Meter, decibels

    with opened(names) as (first, *rest):
        before = Meter(first)
        gains, offsets, note_rounding = _placed(rest, parts)
        left = Meter(algebra.subtract(before, rest, gains, offsets=offsets, sample_rate=sample_rate))
        note_rounding()
        if output is None:
            left.read_all()
        else:
            write(left, target, force)
    level = decibels(left.rms / before.rms) if before.rms else 0.0 if left.rms else -math.inf
    if as_json:
        facts = {
            "mix": whole,
            "parts": [part.path for part in parts],
            "residual_db": None if level == -math.inf else level,
            "mix_rms": before.rms,
            "residual_rms": left.rms,
            "loudest": left.loudest,
        }
        click.echo(dumps(facts))
    else:
        where = "" if level == -math.inf else f", loudest at {format_time(round(left.loudest, 1))}"
        click.echo(f"{level:.1f} dB{where}")


@command(
    "channels",
    "lincae channels stereo.lat --mono -o mono.lat",
    "lincae channels song.lat --swap -o swapped.lat",
    "lincae channels guitar.lat --pan -0.5 -o left.lat",
    'lincae channels song.lat --remix "1v0.5,2v0.5 1,2i" -o mid-side.lat',
)
@click.option("--mono", is_flag=True, help="Average all channels.")
@click.option("--swap", is_flag=True, help="Exchange left and right.")
@click.option("--pick", metavar="N,...", help="Keep these channels, counted from 1, in this order: 2, or 2,1.")
@click.option("--gains", metavar="GAIN,...", help="A gain for each channel: 0dB,-3dB or 1,0.7.")
@click.option("--pan", metavar="X", help="Place mono or narrow stereo from -1 (left) to 1 (right), at constant power.")
@click.option(
    "--balance", metavar="X", help="Turn down one side: -1 leaves only left, 0 changes nothing, 1 only right."
)
@click.option("--mid-side", is_flag=True, help="Left and right to mid (L+R)/2 and side (L-R)/2.")
@click.option("--left-right", is_flag=True, help="Mid and side back to left and right.")
@click.option(
    "--remix",
    metavar="SPEC",
    help='sox\'s remix notation: "1,2" averages, "2 1" swaps, "1v0.5 2i", "-" is all, 0 is none.',
)
@lats_to_lats
def channels(each: Each, **given: str | bool | None) -> None:
    """Change the channels of .lat files.

    Each output channel is a sum of input channels times gains, so everything here is exact in the latents; picking,
    swapping and gains copy the stored numbers. In --remix, output channels are separated by spaces; each is a list of
    input channels such as 1, 1-3 or 1,2, with v0.5 (factor), p-6 (dB) or i (inverted) after the number; several
    without a factor are averaged.
    """
    chosen = [(f"--{name.replace('_', '-')}", value) for name, value in given.items() if value not in (None, False)]
    if not chosen:
        raise usage_error("lincae channels: nothing to do", "add --mono, --swap, --pan 0.5, or another; see --help")
    if len(chosen) > 1:
        raise usage_error(
            f"{chosen[0][0]} and {chosen[1][0]} cannot be combined", "run the command twice, or use --remix"
        )
    option, value = chosen[0]

    from lincae_formats.channels import matrix_builder
    from lincae_formats.channels import remix as remixed

    try:
        build = matrix_builder(option.removeprefix("--"), value if isinstance(value, str) else "")
    except ValueError as e:
        raise usage_error(f"{option} {value!r} {e}", "see: lincae channels --help") from None

    def make(reader: LatReader, _: ExitStack) -> tuple[Signal, list[str]]:
        try:
            matrix = build(reader.header.channels)
        except ValueError as e:
            raise failure(f"{reader.name} {e}", "see: lincae channels --help") from None
        return remixed(reader, matrix), []

    each(make)


def stored_as(signal: Signal, quality: str | None) -> Signal:
    """The signal, stored with another quality than its operands have.

    Raises:
        LincaeError: its model has no such quality, or is not installed.
    """
    if quality is None:
        return signal

    from lincae_formats import algebra

    if quality == "exact":
        return algebra.requantised(signal, dtype="float32") if signal.dtype == "int8" else signal

    from lincae_core.models.store import qualities

    header = signal.header
    table = qualities(header.model_fingerprint)
    if quality not in table:
        hint = f"use one of {', '.join(table)}" if table else "use --quality exact"
        raise failure(f"the model {header.model} has no quality {quality!r}", hint)
    return algebra.requantised(signal, table[quality])


def _chosen_gain(
    db: float | None, factor: float | None, curve: list[tuple[float, float]] | None, lines: str
) -> float | Gain:
    given = [option for option, value in (("--db", db), ("--factor", factor), ("--curve", curve)) if value is not None]
    if not given:
        raise usage_error("lincae gain: no gain is given", "add --db -6, or --factor 0.5")
    if len(given) > 1:
        raise usage_error(f"{given[0]} and {given[1]} both set the gain", f"keep one: {given[0]}")
    if lines != "factor" and curve is None:
        raise usage_error("--lines is for a curve", 'add --curve "0:-80dB 2:0dB"')
    if db is not None:
        return db
    if factor is not None:
        return factor

    from lincae_formats import Curve, LatError

    try:
        return Curve(curve or [], decibels=lines == "db")
    except LatError as e:
        raise usage_error(f"--curve: {e.message}", e.hint) from e


def _placed(signals: list[Signal], operands: tuple[Operand, ...]) -> tuple[list[float], list[int], Callable[[], None]]:
    """The factors, the frames at which operands begin, and what prints notes where times were rounded."""
    places = [s.header.offset(operand.offset, s.name) for s, operand in zip(signals, operands, strict=True)]

    def note_rounding() -> None:
        for signal, place in zip(signals, places, strict=True):
            note_position(f"{signal.name} at", place)

    return [operand.gain for operand in operands], [place.frame for place in places], note_rounding
