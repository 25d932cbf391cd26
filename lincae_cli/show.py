"""`lincae plot` and `lincae demo`: a file as a picture, and the method on a page with players."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from .messages import Progress, say, usage_error
from .options import STDIO, argument, command, device, force, model, output
from .paths import ModelCache, check_targets, decoded, is_lat, open_source, open_target

if TYPE_CHECKING:
    from lincae_core.demo import Summary
    from lincae_core.plot import LatentPicture, Spectrogram

FORMATS = (".png", ".svg", ".pdf")


@command("plot", "lincae plot song.lat -o song.png", "lincae plot song.wav -o song.svg")
@argument("file", "LAT|AUDIO", "A .lat or audio file, or - for stdin.", required=True)
@output("The .png, .svg or .pdf file to write, or - for stdout.")
@model("The model to encode or decode with.")
@device
@force
def plot(file: str, output: str | None, model: str | None, device: str, force: bool) -> None:
    """Draw a file's latents, their level, and its spectrogram.

    Audio is encoded for it. A .lat is decoded for its spectrogram, if its model is installed.
    """
    if output is None:
        raise usage_error("lincae plot: -o is missing", f"add -o {Path(file).stem or 'out'}.png")
    suffix = Path(output).suffix.lower() if output != STDIO else ".png"
    if suffix not in FORMATS:
        raise usage_error(f"-o {output} is no kind of picture", f"write -o {Path(output).stem}.png, .svg or .pdf")
    check_targets([output], [file], force)
    target = open_target(output)
    cache = ModelCache(device)

    with Progress() as progress, ExitStack() as stack:
        source = open_source(file, "audio or a .lat file")
        drawing = _of_lat if is_lat(file) else _of_audio
        title, latents, spectrum = drawing(source, cache, model, stack, progress)

        from lincae_core.plot import draw

        draw(title, latents, spectrum, target, format=suffix[1:], overwrite=force)


Drawing = tuple[str, "LatentPicture", "Spectrogram | None"]


def _of_lat(
    source: str | BinaryIO, cache: ModelCache, model: str | None, stack: ExitStack, progress: Progress
) -> Drawing:
    from lincae_core.plot import latent_picture, spectrogram
    from lincae_formats import LatReader, LincaeError
    from lincae_formats.signal import blocks

    reader = stack.enter_context(LatReader(source))
    latents = latent_picture(reader.header, blocks(reader))
    try:
        audio = decoded(reader, cache, model)
    except LincaeError as e:
        if model is not None:
            raise
        say("note", f"no spectrogram: {e}")
        return f"{reader.name}  (model {reader.header.model}, not installed)", latents, None
    return reader.name, latents, spectrogram(audio, progress.bar(reader.name))


def _of_audio(
    source: str | BinaryIO, cache: ModelCache, model: str | None, stack: ExitStack, progress: Progress
) -> Drawing:
    info = cache.info(model)

    from lincae_core.audio import AudioReader
    from lincae_core.plot import latent_picture, spectrogram

    reader = stack.enter_context(AudioReader(source))
    loaded = cache.load(info)

    from lincae_core.models.codec import encoded_blocks, encoded_header

    spectrum = spectrogram(reader, progress.bar(reader.name))
    blocks = (latents for latents, _ in encoded_blocks(loaded, reader))
    return reader.name, latent_picture(encoded_header(loaded, reader), blocks), spectrum


@command("demo", "lincae demo -o lincae-demo")
@output("The folder to write audio, picture and page to. [default: lincae-demo]", metavar="DIR")
@model("The model; the default one without.")
def demo(output: str | None, model: str | None) -> None:
    """Make audio to hear what lincae does.

    Encodes the bundled stems, adds, subtracts and scales them, and decodes the results.
    """
    from lincae_core.demo import run_demo

    with Progress() as progress:
        summary = run_demo(Path(output or "lincae-demo"), model=model, tell=lambda text: progress.line(f"{text} ..."))
    _print(summary)


def _print(summary: Summary) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("result")
    for title in ("kbit/s", "operation", "decode", *summary.scores):
        table.add_column(title, justify="right", no_wrap=True)

    def add(title: str, kbps: float, operation: str, decode: str, scores: dict[str, float]) -> None:
        table.add_row(title, f"{kbps:.1f}", operation, decode, *(f"{scores[name]:.2f}" for name in summary.scores))

    for row in summary.rows:
        operation = "-" if row.operation_seconds is None else f"{1000 * row.operation_seconds:.0f} ms"
        add(row.title, row.kbps, operation, f"{row.decode_speed:.0f}x real time", row.scores)
        if row.opus is not None:
            add("  Opus of the same bytes", row.opus[0], "", "", row.opus[1])
    for row in summary.qualities:
        add(f"{row.title}, {row.quality}", row.kbps, "", f"{row.decode_speed:.0f}x real time", row.scores)
    Console(width=200, highlight=False, color_system=None).print(table)
    click.echo(
        f"\n{summary.seconds:.0f} s of stereo, encoded at {summary.encode_speed:.0f}x real time. kbit/s: of both "
        "channels, header included."
    )
    click.echo(f"Listen: open {summary.folder / 'index.html'}")
