"""`lincae render`: a mix described in YAML, computed on latents and decoded once, at the end."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .arithmetic import stored_as
from .batch import open_files
from .inspect import draw
from .messages import Progress, failure, say, say_clipped, usage_error
from .options import STDIO, SUBTYPE, argument, command, device, force, model, output, quality
from .paths import ModelCache, check_targets, nearest, open_target

if TYPE_CHECKING:
    from lincae_core.arrangement.load import Loaded

LAT = "lat"


@dataclass(frozen=True)
class _Result:
    """A file to write.

    Attributes:
        variant: Its variant; None for the song itself.
        target: Its path.
        audio: Whether it is audio, not a `.lat` file.
    """

    variant: str | None
    target: str
    audio: bool


@command(
    "render",
    "lincae render song.yaml -o song.wav",
    "lincae render song.yaml --variant karaoke -o karaoke.lat",
    "lincae render song.yaml -o out/ --format flac",
    "lincae render song.yaml --dry-run",
)
@argument("arrangement", "YAML", "The arrangement, or - for stdin.")
@output("A .lat or audio file, - for stdout, or a folder for all variants.")
@click.option("--variant", multiple=True, metavar="NAME", help="Render this variant; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the tracks as a tree, write nothing.")
@click.option("--allow-outside", is_flag=True, help="Allow files outside the arrangement's folder.")
@click.option("--format", metavar="lat|wav|flac|...", default=LAT, help="File type to write into a folder.")
@click.option("--subtype", type=SUBTYPE, help="Sample format of audio files.")
@quality
@model("The model's file, where the model is not installed.")
@device
@force
def render(
    arrangement: str, output: str | None, variant: tuple[str, ...], dry_run: bool, allow_outside: bool, format: str,
    subtype: str | None, quality: str | None, model: str | None, device: str, force: bool,
) -> None:  # fmt: skip
    """Render a mix that is described in YAML.

    Tracks are .lat files beside the arrangement, each with optional settings: gain, invert, pan (-1 to 1), curve,
    lines, offset, start, end, fade_in, fade_out, fade_shape, subtract, mute, bus. The mix is computed on latents and
    decoded once. Positions are rounded to latent frames (93 ms); curves count from the beginning of the song. If OUT is
    a folder, the song and all variants are written to it, each as long as the song.

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
    chosen = list(dict.fromkeys(variant))
    if output is None and not dry_run:
        raise usage_error("lincae render: there is no output", "add -o song.lat, -o song.wav, -o out/ or --dry-run")

    from lincae_core.arrangement.song import Song
    from lincae_formats import Pool

    loaded, folder = load_arrangement(arrangement)
    results = _results(loaded, output, chosen, format)
    if subtype is not None and not any(r.audio for r in results):
        raise usage_error("--subtype is for audio, and no audio is written", "name an audio file: -o song.wav")
    if not dry_run:
        into_folder = output is not None and _is_folder(output)
        check_targets([r.target for r in results], [arrangement] * len(results), force, make=into_folder)
    with Pool(open_files(len(loaded.song.tracks) * 2)) as pool:
        song = Song(loaded, folder, pool, allow_outside)
        built = {name: song.variant(name) for name in dict.fromkeys([r.variant for r in results] or chosen or [None])}
        if dry_run:
            click.echo("\n\n".join(draw(outline) for _, outline in built.values()))
            if not chosen and loaded.song.variants and not results:
                click.echo(f"\nvariants: {', '.join(loaded.song.variants)}")
            return
        _note_rounding(song, loaded.name)
        models = ModelCache(device)
        audio = [r for r in results if r.audio]
        info = models.matching(song.header, audio[0].target, model) if audio else None
        with _lat_targets(results) as lats:
            from lincae_formats import write_lats

            pairs = [(stored_as(built[r.variant][0], quality), lat) for r, lat in zip(results, lats, strict=True)]
            write_lats(pairs, overwrite=force)
            if audio:
                decoded = [(lat, r.target) for r, lat in zip(results, lats, strict=True) if r.audio]
                _decode(decoded, models.load(info), subtype, force)


def load_arrangement(arrangement: str) -> tuple[Loaded, Path]:
    """An arrangement, and the folder that its files are relative to.

    Raises:
        LincaeError: there is none, or it is wrong.
    """
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
        raise usage_error(f"{arrangement} is not an arrangement", f"did you mean: lincae mix {arrangement} -o out.lat")
    return load(Path(arrangement)), Path(arrangement).parent


def _results(loaded: Loaded, output: str | None, chosen: list[str], format: str) -> list[_Result]:
    """The files to write."""
    for name in chosen:
        if name not in loaded.song.variants:
            from lincae_core.arrangement.load import suggest

            hint = suggest(name, loaded.song.variants)
            raise usage_error(f"--variant {name}: {loaded.name} has no such variant", hint)
    if output is None:
        return []
    if _is_folder(output):
        suffix = f".{format.lower().removeprefix('.')}"
        audio = suffix != f".{LAT}"
        if audio:
            from lincae_core.audio import WRITE_EXTENSIONS

            if suffix not in WRITE_EXTENSIONS:
                known = ", ".join([LAT, *(extension.removeprefix(".") for extension in WRITE_EXTENSIONS)])
                raise usage_error(f"--format {format!r} is unknown", f"use one of {known}")
        everything: list[str | None] = [*chosen] if chosen else [None, *loaded.song.variants]
        stem = loaded.song.name or (Path(loaded.name).stem if loaded.name != "<stdin>" else "song")
        return [
            _Result(name, str(Path(output) / f"{stem}{f'-{name}' if name else ''}{suffix}"), audio)
            for name in everything
        ]
    if len(chosen) > 1:
        raise usage_error(f"{len(chosen)} variants cannot all go to {output}", "give a folder: -o out/")
    if format != LAT:
        raise usage_error("--format is for a folder", f"name the file: -o {Path(output).stem or 'song'}.{format}")
    return [_Result(chosen[0] if chosen else None, output, _is_audio(output))]


def _is_audio(target: str) -> bool:
    """Whether a target is audio by its name.

    Raises:
        UsageError: it is neither `.lat` nor an audio format that can be written.
    """
    if target == STDIO or target.lower().endswith(f".{LAT}"):
        return False

    from lincae_core.audio import find_format

    find_format(target, target, None)
    return True


def _is_folder(output: str) -> bool:
    return output != STDIO and (os.path.isdir(output) or output.endswith(("/", os.sep)))


def _note_rounding(song: Any, name: str) -> None:
    if song.rounded:
        many = song.rounded > 1
        what = f"{song.rounded} times lie" if many else "a time lies"
        by = f"{'were' if many else 'was'} rounded by up to {1000 * song.worst:.0f} ms"
        say("note", f"{name}: {what} between two frames and {by}; --dry-run shows what is used")


@contextlib.contextmanager
def _lat_targets(results: list[_Result]) -> Iterator[list[Any]]:
    """The `.lat` file of each result; a temporary one where the result is audio."""
    with tempfile.TemporaryDirectory(prefix="lincae-") as scratch:
        for result in results:
            if result.target != STDIO:
                os.makedirs(Path(result.target).parent, exist_ok=True)
        yield [str(Path(scratch) / f"{i}.lat") if r.audio else open_target(r.target) for i, r in enumerate(results)]


def _decode(pairs: list[tuple[str, str]], model: Any, subtype: str | None, force: bool) -> None:
    """Decodes `.lat` files to audio files."""
    from lincae_core.models.codec import decode_file

    with Progress([target for _, target in pairs]) as progress:
        for lat, target in pairs:
            bar = progress.bar(target)
            report = decode_file(model, lat, target, subtype=subtype, overwrite=force, progress=bar)
            progress.end(target, True)
            if report.clipped:
                say_clipped(target, report, "master: {gain: -3dB}")
