"""`lincae mix`, `gain` and `subtract`: arithmetic on latents, at the speed of a file copy."""

from typing import TYPE_CHECKING, Annotated

import typer

from . import paths
from .command import add
from .errors import usage_error
from .options import Force, LatArgument, LatOutput, SampleRate
from .parsing import parse_choice, parse_decibels, parse_factor, parse_rate, split_operand

if TYPE_CHECKING:
    from lincae_formats import Latents

LENGTHS = ("longest", "shortest", "first")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    add(app, mix, "lincae mix drums.lat bass.lat:0.5 vocals.lat:-6dB -o song.lat")
    add(
        app,
        gain,
        "lincae gain song.lat --db -6 -o quiet.lat",
        "lincae gain song.lat --factor -1 -o flipped.lat",
    )
    add(app, subtract, "lincae subtract song.lat vocals.lat -o karaoke.lat")


def mix(
    operands: Annotated[
        list[str],
        typer.Argument(
            metavar="LAT[:GAIN]...",
            help="Files, or - for stdin, each with a gain if it is not 1: a.lat:0.5, a.lat:-6dB.",
            show_default=False,
        ),
    ],
    output: LatOutput = None,
    length: Annotated[
        str,
        typer.Option("--length", metavar="longest|shortest|first", help="The operand whose length the mix has."),
    ] = "longest",
    sample_rate: SampleRate = None,
    force: Force = False,
) -> None:
    """Add .lat files: the mixture of what they hold."""
    chosen = parse_choice(length, "--length", LENGTHS)
    rate = None if sample_rate is None else parse_rate(sample_rate, "--sample-rate")
    pairs = [split_operand(operand) for operand in operands]
    names = [path for path, _ in pairs]
    target = _check(names, output, force, "mix")

    from lincae_formats import mix as add_up

    latents = _read(names)
    _write(add_up(latents, [factor for _, factor in pairs], length=chosen, sample_rate=rate), target, force)


def gain(
    lat: LatArgument,
    db: Annotated[
        str | None, typer.Option("--db", metavar="X", help="The gain in decibels: -6 halves the level.")
    ] = None,
    factor: Annotated[
        str | None,
        typer.Option("--factor", metavar="A", help="The gain as a factor, which may be negative or 0."),
    ] = None,
    output: LatOutput = None,
    force: Force = False,
) -> None:
    """Change the volume of a .lat file."""
    if db is not None and factor is not None:
        raise usage_error("--db and --factor say the same thing twice", f"keep one: --db {db}")
    if db is not None:
        times = parse_decibels(db, "--db")
    elif factor is not None:
        times = parse_factor(factor, "--factor")
    else:
        raise usage_error("lincae gain: no gain is given", "add --db -6, or --factor 0.5")
    target = _check([lat], output, force, "gain")

    from lincae_formats import gain as scale

    (latents,) = _read([lat])
    _write(scale(latents, times), target, force)


def subtract(
    whole: Annotated[
        str,
        typer.Argument(metavar="MIX", help="The .lat file to take from, or - for stdin.", show_default=False),
    ],
    parts: Annotated[
        list[str],
        typer.Argument(metavar="PART...", help="The .lat files to take out of it.", show_default=False),
    ],
    output: LatOutput = None,
    sample_rate: SampleRate = None,
    force: Force = False,
) -> None:
    """Take .lat files out of a mixture."""
    rate = None if sample_rate is None else parse_rate(sample_rate, "--sample-rate")
    target = _check([whole, *parts], output, force, "subtract")

    from lincae_formats import subtract as take_out

    first, *rest = _read([whole, *parts])
    _write(take_out(first, rest, sample_rate=rate), target, force)


def _check(names: list[str], output: str | None, force: bool, command: str) -> str:
    """The target, once everything that can be refused without reading is known to be right."""
    if output is None:
        raise usage_error(f"lincae {command}: there is no output", "add -o out.lat, or -o - for stdout")
    if names.count(paths.STDIO) > 1:
        raise usage_error("stdin (-) can be read only once", "name files for the other operands")
    if output.lower().endswith((".wav", ".flac", ".ogg", ".mp3")):
        stem = output.rpartition(".")[0]
        raise usage_error(
            f"-o {output} is no .lat file", f"write -o {stem}.lat, then: lincae decode {stem}.lat -o {output}"
        )
    paths.check_targets([output], names, force)
    paths.open_target(output)
    return output


def _read(names: list[str]) -> "list[Latents]":
    from lincae_formats import read_lat

    # A file named twice is one object: it is read once.
    sources = {name: paths.open_source(name, "a .lat file") for name in names}
    latents = {name: read_lat(source) for name, source in sources.items()}
    return [latents[name] for name in names]


def _write(latents: "Latents", target: str, force: bool) -> None:
    from lincae_formats import write_lat

    write_lat(latents, paths.open_target(target), overwrite=force)
