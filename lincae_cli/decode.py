"""`lincae decode`: `.lat` to audio."""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import batch, paths
from .errors import usage_error
from .inputs import STDIO, gather
from .operands import check_direction, split_output
from .options import Device, FilesFrom, Jobs, LatInputs, LogOption, Null, Overwrite
from .outcomes import Outcomes
from .parsing import parse_device, parse_int, parse_log, parse_rate, parse_time
from .paths import Job
from .progress import Progress
from .used import Models


def decode(
    lats: LatInputs = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="File, folder, or - for stdout; default: a .wav beside it."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--start", metavar="TIME", help="Where to begin: 83.5, 1:23.5 or 90s.")
    ] = None,
    end: Annotated[str | None, typer.Option("--end", metavar="TIME", help="Where to stop.")] = None,
    steps: Annotated[str, typer.Option("--steps", metavar="N", help="Sampling steps.")] = "1",
    seed: Annotated[str, typer.Option("--seed", metavar="N", help="Seed of the noise.")] = "0",
    subtype: Annotated[
        str | None, typer.Option("--subtype", metavar="PCM_16|PCM_24|FLOAT", help="Sample format.")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option("--rate", "--sample-rate", metavar="HZ", help="Sample rate; default: that of the source."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option("--format", metavar="WAV|FLAC|...", help="Audio format, where no file name says it."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME|PATH", help="The model's file, when it is not an installed one."),
    ] = None,
    device: Device = "auto",
    jobs: Jobs = "1",
    files_from: FilesFrom = None,
    null: Null = False,
    log: LogOption = None,
    force: Overwrite = False,
) -> None:
    """Turn .lat files into audio files.

    A batch (a folder, a glob, a list or several files) that was interrupted goes on where it stopped.
    """
    begin = None if start is None else parse_time(start, "--start")
    finish = None if end is None else parse_time(end, "--end")
    if finish is not None and finish <= (begin or 0.0):
        raise usage_error(f"--end {end} is not after --start {start or 0}", "give a later --end")
    count = parse_int(steps, "--steps", 1, 1000)
    noise = parse_int(seed, "--seed", 0, 2**63 - 1)
    hertz = None if rate is None else parse_rate(rate, "--rate")
    parse_device(device, "--device")
    workers = parse_int(jobs, "--jobs", 1, 1024)
    as_json = parse_log(log, "--log")
    operands, output = split_output(lats or [], output)
    check_direction(operands, output, decoding=True)

    from lincae_core.audio.formats import WRITE_EXTENSIONS, find_format

    suffix = ".wav"
    if format is not None:
        find_format("the output", None, format)
        suffix = f".{format.lower()}"
    inputs = gather(operands, files_from, null, suffixes={".lat"}, kind=".lat", missing="lincae decode: LAT")
    models = Models(device)
    if model is not None:
        models.info(model)
    work = paths.plan(inputs, output, new_suffix=suffix, force=force, suffixes=WRITE_EXTENSIONS)
    for job in work:
        if job.target != STDIO and Path(job.target).suffix.lower() not in WRITE_EXTENSIONS and format is None:
            find_format(job.target, job.target, None)

    def planned(path: str) -> tuple[int, Any]:
        from lincae_core.plan import decoded_span
        from lincae_formats import LatReader

        with LatReader(path) as reader:
            return reader.header.channels, decoded_span(reader.header, reader.name, begin, finish, hertz)

    def duration(path: str) -> float:
        _, span = planned(path)
        return float(span.num_samples / span.rate)

    def finished(job: Job) -> float:
        from lincae_core.finished import check_decoded

        return check_decoded(*planned(job.source), job.source, job.target, format, subtype)

    def one(job: Job, source: batch.Stream, target: batch.Stream) -> object:
        from lincae_formats import LatReader

        with LatReader(source) as reader:
            loaded = models.load(models.matching(reader.header, reader.name, model))

            from lincae_core.pipeline import decode_file

            return decode_file(
                loaded,
                reader,
                target,
                start=begin,
                end=finish,
                steps=count,
                seed=noise,
                subtype=subtype,
                format=format,
                sample_rate=hertz,
                overwrite=force,
                progress=progress.bar(job.source),
            )

    with Progress([job.source for job in work], duration, quiet=as_json) as progress:
        batch.write(
            work,
            one,
            Outcomes(progress, as_json),
            kind="a .lat file",
            finished=finished if inputs.many and not force else None,
            jobs=workers,
            stop=progress.stop,
            failures=inputs.failures,
        )
