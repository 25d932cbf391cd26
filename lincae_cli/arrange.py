"""`lincae render`: a mix described in YAML, computed in latent space and decoded once, at the end."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import errors, paths
from .command import add
from .errors import failure, usage_error
from .inputs import STDIO, nearest
from .lats import allowed
from .options import Device, Force
from .parsing import parse_device
from .progress import Progress
from .tree import draw
from .used import Models

if TYPE_CHECKING:
    from lincae_core.arrangement.load import Loaded

LATENTS = "lat"


@dataclass(frozen=True)
class _Result:
    """One file to write: which variant, None for the song itself, and whether it is decoded."""

    variant: str | None
    target: str
    audio: bool


def register(app: typer.Typer) -> None:
    """Adds the command."""
    add(
        app,
        render,
        "lincae render song.yaml -o song.wav",
        "lincae render song.yaml --variant karaoke -o karaoke.lat",
        "lincae render song.yaml -o out/ --format flac",
        "lincae render song.yaml --dry-run",
    )


def render(
    arrangement: Annotated[
        str, typer.Argument(metavar="YAML", help="The arrangement, or - for stdin.", show_default=False)
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="OUT", help="A .lat or audio file, - for stdout, or a folder for all variants."
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option("--variant", metavar="NAME", help="Render this variant; may be given several times."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the graph, write nothing.")
    ] = False,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Let it read files outside its own folder.")
    ] = False,
    format: Annotated[
        str, typer.Option("--format", metavar="lat|wav|flac|...", help="What to write into a folder.")
    ] = LATENTS,
    subtype: Annotated[
        str | None, typer.Option("--subtype", metavar="PCM_16|PCM_24|FLOAT", help="Sample format of audio.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME|PATH", help="The model's file, when it is not an installed one."),
    ] = None,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Render a mix that is described in YAML.

    Tracks are .lat files beside the arrangement, each with what it needs: gain, invert, curve, lines, offset, start,
    end, fade_in, fade_out, fade_shape, subtract, mute, bus. All is computed in latent space; audio is decoded once, at
    the end. Positions are rounded to frames (93 ms), curves are in the song's time. Into a folder go the song and every
    variant, each as long as the song.

    \b
      tracks:
        drums:  {file: stems/drums.lat, bus: band}
        bass:   {file: stems/bass.lat, bus: band, curve: "0:0dB 1:58:0dB 2:00:-inf"}
        vocals: {file: stems/vocals.lat, gain: -2dB, offset: 0:12}
      buses:
        band: {gain: -1dB}
      variants:
        karaoke:  {mute: vocals}
        practice: {gain: {band: -6dB}}
    """
    parse_device(device, "--device")
    chosen = list(dict.fromkeys(variant or []))
    if output is None and not dry_run:
        raise usage_error("lincae render: there is no output", "add -o song.lat, -o song.wav, -o out/ or --dry-run")

    from lincae_core.arrangement.song import Song
    from lincae_formats.pool import Pool

    loaded, folder = _load(arrangement)
    results = _results(loaded, output, chosen, format)
    if subtype is not None and not any(r.audio for r in results):
        raise usage_error("--subtype is for audio, and no audio is written", "name an audio file: -o song.wav")
    if not dry_run:
        into_folder = output is not None and _is_folder(output)
        paths.check_targets([r.target for r in results], [arrangement] * len(results), force, make=into_folder)
    with Pool(allowed(len(loaded.song.tracks) * 2)) as pool:
        song = Song(loaded, folder, pool, allow_outside)
        built = {name: song.variant(name) for name in dict.fromkeys([r.variant for r in results] or chosen or [None])}
        if dry_run:
            typer.echo("\n\n".join(draw(outline) for _, outline in built.values()))
            if not chosen and loaded.song.variants and not results:
                typer.echo(f"\nvariants: {', '.join(loaded.song.variants)}")
            return
        if song.rounded:
            many = f"{song.rounded} times lie between two frames and were"
            what = many if song.rounded > 1 else "a time lies between two frames and was"
            by = f"rounded by up to {1000 * song.worst:.0f} ms"
            errors.say("note", f"{loaded.name}: {what} {by}; --dry-run shows what is used")
        models = Models(device)
        heard = [r for r in results if r.audio]
        info = models.matching(song.header, heard[0].target, model) if heard else None
        with _lat_targets(results) as lats:
            from lincae_formats import write_lats

            pairs = [(built[r.variant][0], lat) for r, lat in zip(results, lats, strict=True)]
            write_lats(pairs, overwrite=force)
            decoded = [(lat, r.target) for r, lat in zip(results, lats, strict=True) if r.audio]
            if decoded:
                _decode(decoded, models.load(info), subtype, force)


def _load(arrangement: str) -> "tuple[Loaded, Path]":
    from lincae_core.arrangement.load import load

    if arrangement == STDIO:
        if sys.stdin.isatty():
            raise usage_error("stdin (-) is a terminal, not an arrangement", "pipe something in, or name a file")
        try:
            return load(sys.stdin.buffer.read().decode("utf-8-sig"), "<stdin>"), Path()
        except UnicodeDecodeError as e:
            raise failure(f"<stdin>: not text in UTF-8 ({e})", "save it as UTF-8") from None
    if os.path.isdir(arrangement):
        raise failure(f"{arrangement} is a folder", f"name an arrangement in it; see: ls {arrangement}")
    if not os.path.exists(arrangement):
        raise failure(f"{arrangement}: no such file", nearest(arrangement))
    if arrangement.lower().endswith(".lat"):
        raise usage_error(f"{arrangement} is no arrangement", f"did you mean: lincae mix {arrangement} -o out.lat")
    return load(Path(arrangement)), Path(arrangement).parent


def _results(loaded: "Loaded", output: str | None, chosen: list[str], format: str) -> list[_Result]:
    """What is to be written where."""
    for name in chosen:
        if name not in loaded.song.variants:
            from lincae_core.arrangement.load import suggest

            raise usage_error(f"--variant {name}: {loaded.name} has no such variant", suggest(name, loaded.song.variants))
    if output is None:
        return []
    if _is_folder(output):
        suffix = f".{format.lower().removeprefix('.')}"
        audio = suffix != f".{LATENTS}"
        if audio:
            from lincae_core.audio.formats import WRITE_EXTENSIONS

            if suffix not in WRITE_EXTENSIONS:
                known = ", ".join([LATENTS, *(extension.removeprefix(".") for extension in WRITE_EXTENSIONS)])
                raise usage_error(f"--format {format!r} is unknown", f"use one of {known}")
        everything: list[str | None] = [*chosen] if chosen else [None, *loaded.song.variants]
        stem = loaded.song.name or (Path(loaded.name).stem if loaded.name != "<stdin>" else "song")
        return [
            _Result(name, str(Path(output) / f"{stem}{f'-{name}' if name else ''}{suffix}"), audio)
            for name in everything
        ]
    if len(chosen) > 1:
        raise usage_error(f"{len(chosen)} variants cannot all go to {output}", "give a folder: -o out/")
    if format != LATENTS:
        raise usage_error("--format is for a folder", f"name the file: -o {Path(output).stem or 'song'}.{format}")
    return [_Result(chosen[0] if chosen else None, output, _is_audio(output))]


def _is_audio(target: str) -> bool:
    """Whether a target's name asks for audio; anything but `.lat` must be a format that can be written."""
    if target == STDIO or target.lower().endswith(f".{LATENTS}"):
        return False

    from lincae_core.audio.formats import find_format

    find_format(target, target, None)
    return True


def _is_folder(output: str) -> bool:
    return output != STDIO and (os.path.isdir(output) or output.endswith(("/", os.sep)))


@contextlib.contextmanager
def _lat_targets(results: list[_Result]) -> Iterator[list[Any]]:
    """Where each result's latents go: to its file, or to a temporary one that is decoded."""
    with tempfile.TemporaryDirectory(prefix="lincae-") as scratch:
        for result in results:
            if result.target != STDIO:
                os.makedirs(Path(result.target).parent, exist_ok=True)
        yield [
            str(Path(scratch) / f"{i}.lat") if r.audio else paths.open_target(r.target) for i, r in enumerate(results)
        ]


def _decode(pairs: list[tuple[str, str]], model: Any, subtype: str | None, force: bool) -> None:
    """Decodes `.lat` files to audio files."""
    from lincae_core.pipeline import decode_file

    with Progress([target for _, target in pairs]) as progress:
        for lat, target in pairs:
            bar = progress.bar(target)
            report = decode_file(model, lat, target, subtype=subtype, overwrite=force, progress=bar)
            progress.end(target, True)
            if report.clipped:
                hint = "turn it down with master: {gain: -3dB}, or add --subtype FLOAT"
                errors.say("warning", f"{target}: {report.clipped} samples were clipped; {hint}")
