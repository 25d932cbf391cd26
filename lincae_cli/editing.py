"""`lincae slice`, `pad`, `repeat`, `concat`, `crossfade`, `shift` and `fade`: edits in time, in steps of 93 ms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .batch import beyond, check_output, lats_to_lats, note_position, opened, rounded, write
from .messages import say, usage_error
from .options import DURATION, OFFSET, TIME, OneOf, Whole, argument, command, force, lat_output, quality, sample_rate

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from lincae_formats import LatReader
    from lincae_formats.header import Header, Position
    from lincae_formats.signal import Signal

    from .batch import Each
    from .options import Function

    Made = tuple[Signal, list[str]]

SHAPES = OneOf("linear", "sine", "log", "exp", "s-curve")
SHAPES_HELP = (
    "linear; sine: equal power in a crossfade; log: fast at first; exp: even in decibels, from -60 dB; s-curve: smooth "
    "at both ends."
)

in_order = argument("lats", "LAT...", "Files, or - for stdin, in order.", required=True)


def _time(*names: str, help: str, type: click.ParamType = TIME) -> Callable[[Function], Function]:
    return click.option(*names, type=type, metavar="TIME", help=help)


@command(
    "slice",
    "lincae slice song.lat --start 1:00 --end 1:10 -o chorus.lat",
    "lincae slice song.lat --start -10 -o ending.lat",
    "lincae slice album/ --duration 30 -o previews/",
)
@_time("--start", help="First second to keep: 83.5, 1:23.5 or 90s; -10 counts from the end.", type=OFFSET)
@_time("--end", help="Where to stop; -10 counts from the end.", type=OFFSET)
@_time("--duration", help="How much to keep, instead of --end.", type=DURATION)
@lats_to_lats
def slice_(start: float | None, end: float | None, duration: float | None, each: Each) -> None:
    """Cut a part out of .lat files.

    Both ends are rounded to latent frames (93 ms); a note says so. To cut at an exact sample, use lincae decode with
    --start and --end.
    """
    if start is None and end is None and duration is None:
        raise usage_error("lincae slice: no part is given", "add --start 1:00, --end 1:10 or --duration 10")
    if end is not None and duration is not None:
        raise usage_error("--end and --duration both set the end", "keep one")
    if start is not None and end is not None and (start < 0) == (end < 0) and end <= start:
        raise usage_error(f"--end {end:g} is not after --start {start:g}", "give a later --end")

    from lincae_formats import algebra

    def make(reader: LatReader, _: ExitStack) -> Made:
        header, name = reader.header, reader.name
        first, last = header.absolute(start, end, duration, name)
        notes = [] if first is None else _note("--start", header.nearest(first, name))
        if last is not None and last < header.duration:
            notes += _note("--end" if duration is None else "the end", header.nearest(last, name))
        notes += beyond("--end" if duration is None else "--duration", header, last)
        return algebra.cut(reader, *header.span(first, last, name, beyond=True)), notes

    each(make)


@command(
    "pad",
    "lincae pad song.lat --before 2 --after 5 -o padded.lat",
    "lincae pad loops/ --to 30 -o padded/",
)
@_time("--before", help="Silence to add at the beginning.")
@_time("--after", help="Silence to add at the end.")
@_time("--to", help="Add silence at the end up to this length.", type=DURATION)
@lats_to_lats
def pad(before: float | None, after: float | None, to: float | None, each: Each) -> None:
    """Add silence at the beginning or the end of .lat files.

    Silence at the beginning is rounded to latent frames (93 ms); a note says so. Silence at the end is exact.
    """
    if not before and not after and to is None:
        raise usage_error("lincae pad: no silence is given", "add --before 2, --after 5 or --to 30")
    if after and to is not None:
        raise usage_error("--after and --to both set the end", "keep one")

    from lincae_formats import algebra

    def make(reader: LatReader, _: ExitStack) -> Made:
        position = reader.header.offset(before or 0.0, reader.name)
        rest = (after or 0.0) if to is None else max(0.0, to - reader.header.duration - position.seconds)
        return algebra.pad(reader, position.frame, rest), _note("--before", position)

    each(make)


@command("repeat", "lincae repeat loop.lat --times 8 -o long.lat")
@click.option("--times", type=Whole(1, 100_000), metavar="N", help="How often it is heard.")
@lats_to_lats
def repeat(times: int | None, each: Each) -> None:
    """Repeat .lat files.

    A file that ends within a latent frame (93 ms) is followed by silence up to the end of that frame; a note says so.
    Cut loops with lincae slice, whose results end with a frame.
    """
    if times is None:
        raise usage_error("lincae repeat: --times is missing", "add --times 8")

    from lincae_formats import algebra

    each(lambda file, _: (algebra.repeat(file, times), _gap_notes([(file.name, file.header)]) if times > 1 else []))


@command("concat", "lincae concat intro.lat song.lat outro.lat -o show.lat")
@in_order
@lat_output
@sample_rate
@force
def concat(lats: tuple[str, ...], output: str | None, sample_rate: int | None, force: bool) -> None:
    """Join .lat files one after another.

    A file that ends within a latent frame (93 ms) is followed by silence up to the end of that frame; a note says how
    long. Parts cut by lincae slice end with a frame and join without a gap. The decoder smooths each joint. Mono files
    are played on every channel. Tags are kept where all files agree.
    """
    target = check_output(lats, output, force, "concat")

    from lincae_formats import algebra

    with opened(lats) as signals:
        result = algebra.concat(signals, sample_rate=sample_rate)
        for note in _gap_notes([(s.name, s.header) for s in signals[:-1]]):
            say("note", note)
        write(result, target, force)


@command(
    "crossfade",
    "lincae crossfade a.lat b.lat --over 2s -o both.lat",
    "lincae crossfade 01.lat 02.lat 03.lat --over 5 --shape s-curve -o set.lat",
)
@in_order
@_time("--over", help="How long both are heard.", type=DURATION)
@click.option("--shape", type=SHAPES, default="sine", help=SHAPES_HELP)
@lat_output
@quality
@sample_rate
@force
def crossfade(
    lats: tuple[str, ...], over: float | None, shape: str, output: str | None, quality: str | None,
    sample_rate: int | None, force: bool,
) -> None:  # fmt: skip
    """Join .lat files with crossfades.

    Each file fades in while the one before it fades out. Start times are rounded to latent frames (93 ms); a note says
    so. The default shape keeps the power of unrelated material; linear keeps the amplitude of related material.
    """
    if over is None:
        raise usage_error("lincae crossfade: --over is missing", "add --over 2s")
    if len(lats) < 2:
        raise usage_error("lincae crossfade: only one file is given", "name two or more")
    target = check_output(lats, output, force, "crossfade")

    from lincae_formats import algebra

    from .arithmetic import stored_as

    with opened(lats) as signals:
        result, positions = algebra.crossfade(signals, over, shape, sample_rate=sample_rate)
        for signal, position in zip(signals[1:], positions, strict=True):
            note_position(f"{signal.name} at", position)
        write(stored_as(result, quality), target, force)


@command(
    "shift",
    "lincae shift vocals.lat --by 1:23.5 -o later.lat",
    "lincae shift takes/ --by -2.5 -o trimmed/",
)
@_time("--by", help="How much later; negative is earlier: -2.5.", type=OFFSET)
@lats_to_lats
def shift(by: float | None, each: Each) -> None:
    """Move .lat files in time.

    Later puts silence in front; earlier cuts the beginning off. The time is rounded to latent frames (93 ms); a note
    says so. Moving later and then earlier by the same time restores the file.
    """
    if by is None:
        raise usage_error("lincae shift: no time is given", "add --by 1:23.5, or --by -2.5")

    from lincae_formats import algebra

    def make(reader: LatReader, _: ExitStack) -> Made:
        position = reader.header.offset(by, reader.name)
        return algebra.shift(reader, position.frame), _note("--by", position)

    each(make)


@command(
    "fade", "lincae fade song.lat --in 2 --out 5 -o faded.lat", "lincae fade loops/ --out 0.5 --shape exp -o soft/"
)
@_time("--in", "fade_in", help="Length of a fade-in at the beginning.")
@_time("--out", "fade_out", help="Length of a fade-out at the end.")
@click.option("--shape", type=SHAPES, default="linear", help=SHAPES_HELP)
@lats_to_lats
def fade(fade_in: float | None, fade_out: float | None, shape: str, each: Each) -> None:
    """Fade .lat files in and out.

    Fades are evaluated at the middle of each latent frame (93 ms); the decoder smooths the steps.
    """
    if fade_in is None and fade_out is None:
        raise usage_error("lincae fade: no fade is given", "add --in 2, or --out 5, or both")
    rise, fall = fade_in or 0.0, fade_out or 0.0

    from lincae_formats import Fade, algebra

    def make(reader: LatReader, _: ExitStack) -> Made:
        result = algebra.gain(reader, Fade(reader.header.duration, rise, fall, shape))
        return result, _fade_notes(reader.header, {"--in": rise, "--out": fall})

    each(make)


def _note(option: str, position: Position) -> list[str]:
    return [] if position.exact else [rounded(option, position)]


def _fade_notes(header: Header, fades: dict[str, float]) -> list[str]:
    frame = header.samples_per_frame / header.model_sample_rate
    asked = " and ".join(f"{option} {seconds:g} s" for option, seconds in fades.items() if seconds)
    overlap = sum(fades.values()) > header.duration
    # No file names: a note that is the same for all files of a batch is printed once.
    return [f"{asked}: longer than a file, which never reaches its full level"] * overlap + [
        f"{option} {seconds:g} s is shorter than a latent frame ({1000 * frame:.0f} ms) and has little effect"
        for option, seconds in fades.items()
        if 0 < seconds < frame
    ]


def _gap_notes(parts: list[tuple[str, Header]]) -> list[str]:
    """Notes about files that are followed by silence of half a millisecond or more."""
    gaps = [(name, silence) for name, header in parts if (silence := header.silence_after) >= 0.0005]
    if not gaps:
        return []
    name, silence = max(gaps, key=lambda gap: gap[1])
    more = f", and {len(gaps) - 1} more by less" if len(gaps) > 1 else ""
    return [f"{name} is followed by {1000 * silence:.0f} ms of silence, to the end of its last frame{more}"]
