"""`lincae plot`: latents, level and spectrogram as a picture."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from . import errors, paths
from .command import add
from .errors import usage_error
from .inputs import STDIO
from .media import decoded, is_lat
from .options import Device, Force
from .parsing import parse_device
from .progress import Progress
from .used import Models

if TYPE_CHECKING:
    from lincae_core.plot import LatentPicture, Spectrogram

FORMATS = (".png", ".svg", ".pdf")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    add(app, plot, "lincae plot song.lat -o song.png", "lincae plot song.wav -o song.svg")


def plot(
    file: Annotated[
        str, typer.Argument(metavar="LAT|AUDIO", help="A .lat or audio file, or - for stdin.", show_default=False)
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="The .png, .svg or .pdf file to write, or - for stdout."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME|PATH", help="The model to encode or decode with.")
    ] = None,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Draw a file's latents, level and spectrogram.

    Audio is encoded for it. A .lat is decoded for its spectrogram, if its model is at hand.
    """
    parse_device(device, "--device")
    if output is None:
        raise usage_error("lincae plot: there is no output", f"add -o {Path(file).stem or 'out'}.png")
    suffix = Path(output).suffix.lower() if output != STDIO else ".png"
    if suffix not in FORMATS:
        raise usage_error(f"-o {output} names no kind of picture", f"write -o {Path(output).stem}.png, .svg or .pdf")
    paths.check_targets([output], [file], force)
    target = paths.open_target(output)
    models = Models(device)

    with Progress() as progress, ExitStack() as stack:
        draw_lat = is_lat(file)
        source = paths.open_source(file, "audio or a .lat file")
        drawing = _of_lat if draw_lat else _of_audio
        title, latents, spectrum = drawing(source, models, model, stack, progress)

        from lincae_core.plot import draw

        draw(title, latents, spectrum, target, format=suffix[1:], overwrite=force)


def _of_lat(
    source: str | BinaryIO, models: Models, model: str | None, stack: ExitStack, progress: Progress
) -> "tuple[str, LatentPicture, Spectrogram | None]":
    from lincae_core.plot import latent_picture, spectrogram
    from lincae_formats import LatReader, LincaeError

    reader = stack.enter_context(LatReader(source))
    latents = latent_picture(reader.header, reader.blocks())
    try:
        audio = decoded(reader, models, model)
    except LincaeError as e:
        if model is not None:
            raise
        errors.say("note", f"no spectrogram: {e}")
        return f"{reader.name}  (model {reader.header.model}, not at hand)", latents, None
    return reader.name, latents, spectrogram(audio, progress.bar(reader.name))


def _of_audio(
    source: str | BinaryIO, models: Models, model: str | None, stack: ExitStack, progress: Progress
) -> "tuple[str, LatentPicture, Spectrogram | None]":
    loaded = models.load(models.info(model))

    from lincae_core.audio import AudioReader
    from lincae_core.plot import latent_picture, spectrogram
    from lincae_core.transcode import encoded_blocks, encoded_header

    reader = stack.enter_context(AudioReader(source))
    spectrum = spectrogram(reader, progress.bar(reader.name))
    return reader.name, latent_picture(encoded_header(loaded, reader), encoded_blocks(loaded, reader)), spectrum
