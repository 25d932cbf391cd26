"""`lincae encode`: audio to `.lat`."""

from typing import Annotated

import typer

from . import batch, paths
from .inputs import gather
from .operands import check_direction, split_output
from .options import Device, FilesFrom, Jobs, LogOption, Null, Overwrite
from .outcomes import Outcomes
from .parsing import parse_choice, parse_device, parse_int, parse_log
from .paths import Job
from .progress import Progress
from .used import Models

DTYPES = ("float16", "float32")


def encode(
    audio: Annotated[
        list[str] | None,
        typer.Argument(metavar="AUDIO...", help="Files, folders, quoted globs, or - for stdin.", show_default=False),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="File, folder, or - for stdout; default: beside the input."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME|PATH", help="The model; see: lincae models list.")
    ] = None,
    mono: Annotated[bool, typer.Option("--mono", help="Average the channels into one.")] = False,
    dtype: Annotated[str, typer.Option("--dtype", metavar="float16|float32", help="How to store.")] = "float16",
    device: Device = "auto",
    jobs: Jobs = "1",
    files_from: FilesFrom = None,
    null: Null = False,
    log: LogOption = None,
    force: Overwrite = False,
) -> None:
    """Turn audio files into .lat files.

    A batch (a folder, a glob, a list or several files) that was interrupted goes on where it stopped.
    """
    stored = parse_choice(dtype, "--dtype", DTYPES)
    parse_device(device, "--device")
    workers = parse_int(jobs, "--jobs", 1, 1024)
    as_json = parse_log(log, "--log")
    operands, output = split_output(audio or [], output)
    check_direction(operands, output, decoding=False)

    from lincae_core.audio import AUDIO_EXTENSIONS

    inputs = gather(operands, files_from, null, suffixes=AUDIO_EXTENSIONS, kind="audio", missing="lincae encode: AUDIO")
    models = Models(device)
    info = models.info(model)
    work = paths.plan(inputs, output, new_suffix=".lat", force=force)

    def finished(job: Job) -> float:
        from lincae_core.finished import check_encoded

        return check_encoded(info, job.source, job.target, mono=mono, dtype=stored)

    def one(job: Job, source: batch.Stream, target: batch.Stream) -> object:
        loaded = models.load(info)

        from lincae_core.pipeline import encode_file

        bar = progress.bar(job.source)
        return encode_file(loaded, source, target, mono=mono, dtype=stored, overwrite=force, progress=bar)

    with Progress([job.source for job in work], _duration, quiet=as_json) as progress:
        batch.write(
            work,
            one,
            Outcomes(progress, as_json),
            kind="audio",
            finished=finished if inputs.many and not force else None,
            jobs=workers,
            stop=progress.stop,
            failures=inputs.failures,
        )


def _duration(path: str) -> float:
    import soundfile

    return float(soundfile.info(path).duration)
