"""`lincae slice`, `concat`, `shift` and `fade`: when things are heard. All of it on frames of 93 ms."""

from typing import TYPE_CHECKING, Annotated

import typer

from . import errors
from .command import add
from .errors import usage_error
from .lats import check_output, opened, rounded, write
from .mapping import each
from .options import Batch, FilesFrom, Force, LatInputs, LatOutput, LogOption, Null, Overwrite, SampleRate
from .parsing import parse_choice, parse_offset, parse_rate, parse_time

if TYPE_CHECKING:
    from lincae_formats import LatReader
    from lincae_formats.header import Header
    from lincae_formats.signal import Lazy
    from lincae_formats.timeline import Position

SHAPES = ("linear", "sine")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    add(
        app,
        slice_,
        "lincae slice song.lat --start 1:00 --end 1:10 -o chorus.lat",
        "lincae slice album/ --end 30 -o previews/",
        name="slice",
    )
    add(app, concat, "lincae concat intro.lat song.lat outro.lat -o show.lat")
    add(
        app,
        shift,
        "lincae shift vocals.lat --by 1:23.5 -o later.lat",
        "lincae shift takes/ --by -2.5 -o trimmed/",
    )
    add(app, fade, "lincae fade song.lat --in 2 --out 5 -o faded.lat", "lincae fade loops/ --out 0.5 -o soft/")


def slice_(
    lats: LatInputs = None,
    start: Annotated[
        str | None, typer.Option("--start", metavar="TIME", help="Where to begin: 83.5, 1:23.5 or 90s.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--end", metavar="TIME", help="Where to stop; after its end is at its end.")
    ] = None,
    output: LatOutput = None,
    jobs: Batch = "auto",
    files_from: FilesFrom = None,
    null: Null = False,
    log: LogOption = None,
    force: Overwrite = False,
) -> None:
    """Cut a part out of .lat files.

    Both ends are rounded to frames (93 ms), with a note; the part then has whole frames, or ends where the audio does.
    For an exact sample, decode with --start and --end.
    """
    if start is None and end is None:
        raise usage_error("lincae slice: no part is given", "add --start 1:00, or --end 1:10, or both")
    first = None if start is None else parse_time(start, "--start")
    last = None if end is None else parse_time(end, "--end")
    if last is not None and last <= (first or 0.0):
        raise usage_error(f"--end {end} is not after --start {start or 0}", "give a later --end")

    from lincae_formats import lazy, timeline

    def make(reader: "LatReader") -> "tuple[Lazy, list[str]]":
        header, name = reader.header, reader.name
        span = timeline.span(header, first, last, name, beyond=True)
        notes = [] if first is None else _note("--start", timeline.nearest(header, first, name))
        if last is not None and last < header.duration:
            notes += _note("--end", timeline.nearest(header, last, name))
        return lazy.cut(reader, *span), notes

    each(
        "slice", lats, output, make, files_from=files_from, null=null, jobs=jobs, log=log, force=force,
    )  # fmt: skip


def concat(
    lats: Annotated[
        list[str], typer.Argument(metavar="LAT...", help="Files, or - for stdin, in order.", show_default=False)
    ],
    output: LatOutput = None,
    sample_rate: SampleRate = None,
    force: Force = False,
) -> None:
    """Put .lat files one after the other.

    Each but the last takes whole frames, so up to 93 ms of silence are heard after it; a note tells how much.
    Nothing is heard between parts that were cut by lincae slice inside a file: those end with a frame. The decoder
    hears across a seam, which is smooth and not a click. Mono files are heard on every channel.
    """
    rate = None if sample_rate is None else parse_rate(sample_rate, "--sample-rate")
    target = check_output(lats, output, force, "concat")

    from lincae_formats import lazy

    with opened(lats) as signals:
        result = lazy.concat(signals, sample_rate=rate)
        _note_gaps([(s.name, s.header) for s in signals[:-1]])
        write(result, target, force)


def shift(
    lats: LatInputs = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar="TIME", help="How much later, with silence before it; earlier where negative: -2."
        ),
    ] = None,
    output: LatOutput = None,
    jobs: Batch = "auto",
    files_from: FilesFrom = None,
    null: Null = False,
    log: LogOption = None,
    force: Overwrite = False,
) -> None:
    """Move .lat files in time.

    Later is after silence, earlier is without the beginning. The time is rounded to frames (93 ms), with a note.
    What was moved later and then earlier again is as it was.
    """
    if by is None:
        raise usage_error("lincae shift: no time is given", "add --by 1:23.5, or --by -2.5")
    seconds = parse_offset(by, "--by")

    from lincae_formats import lazy, timeline

    def make(reader: "LatReader") -> "tuple[Lazy, list[str]]":
        position = timeline.offset(reader.header, seconds, reader.name)
        return lazy.shift(reader, position.frame), _note("--by", position)

    each(
        "shift", lats, output, make, files_from=files_from, null=null, jobs=jobs, log=log, force=force,
    )  # fmt: skip


def fade(
    lats: LatInputs = None,
    fade_in: Annotated[
        str | None, typer.Option("--in", metavar="TIME", help="How long to rise from silence at the beginning.")
    ] = None,
    fade_out: Annotated[
        str | None, typer.Option("--out", metavar="TIME", help="How long to fall to silence at the end.")
    ] = None,
    shape: Annotated[
        str,
        typer.Option(
            "--shape",
            metavar="linear|sine",
            help="An even slope, or a quarter of a sine, whose crossfades keep the power.",
        ),
    ] = "linear",
    output: LatOutput = None,
    jobs: Batch = "auto",
    files_from: FilesFrom = None,
    null: Null = False,
    log: LogOption = None,
    force: Overwrite = False,
) -> None:
    """Fade .lat files in and out.

    The fade is evaluated in the middle of each frame (93 ms), which makes it a staircase of that many steps that the
    decoder smooths.
    """
    if fade_in is None and fade_out is None:
        raise usage_error("lincae fade: no fade is given", "add --in 2, or --out 5, or both")
    rise = 0.0 if fade_in is None else parse_time(fade_in, "--in")
    fall = 0.0 if fade_out is None else parse_time(fade_out, "--out")
    chosen = parse_choice(shape, "--shape", SHAPES)

    from lincae_formats import Fade, lazy

    def make(reader: "LatReader") -> "tuple[Lazy, list[str]]":
        result = lazy.gain(reader, Fade(reader.header.duration, rise, fall, chosen))
        return result, _fade_notes(reader.header, {"--in": rise, "--out": fall})

    each(
        "fade", lats, output, make, files_from=files_from, null=null, jobs=jobs, log=log, force=force,
    )  # fmt: skip


def _note(option: str, position: "Position") -> list[str]:
    return [] if position.exact else [rounded(option, position)]


def _fade_notes(header: "Header", fades: dict[str, float]) -> list[str]:
    frame = header.samples_per_frame / header.model_sample_rate
    asked = " and ".join(f"{option} {seconds:g} s" for option, seconds in fades.items() if seconds)
    long = sum(fades.values()) > header.duration  # the same words for every file of a batch: they are said once
    return [f"{asked}: longer than a file, which never reaches its full level"] * long + [
        f"{option} {seconds:g} s is shorter than a frame ({1000 * frame:.0f} ms) and hardly heard"
        for option, seconds in fades.items()
        if 0 < seconds < frame
    ]


def _note_gaps(parts: "list[tuple[str, Header]]") -> None:
    from lincae_formats.timeline import silence_after

    gaps = [(name, silence) for name, header in parts if (silence := silence_after(header))]
    if gaps:
        name, silence = max(gaps, key=lambda gap: gap[1])
        more = f", and {len(gaps) - 1} more by less" if len(gaps) > 1 else ""
        errors.say(
            "note", f"{name} is followed by {1000 * silence:.0f} ms of silence, to the end of its last frame{more}"
        )
