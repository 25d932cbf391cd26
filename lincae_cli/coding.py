"""`lincae encode` and `decode`: audio to `.lat`, and back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from .batch import AUDIO, LAT, Report, beyond, split_output, write_all
from .messages import Progress, say, usage_error
from .options import (
    DTYPE,
    DURATION,
    OFFSET,
    QUALITIES,
    QUALITY,
    RATE,
    STDIO,
    SUBTYPE,
    BatchOptions,
    Whole,
    argument,
    batch_options,
    command,
    device,
    model,
    output,
)  # fmt: skip
from .paths import FFMPEG, Job, ModelCache, gather, left_out, open_source, open_target, plan


@command(
    "encode",
    "lincae encode song.wav",
    "lincae encode stems/ -o latents/ --jobs 2",
    "lincae encode s3://music/in -o s3://music/latents/ --jobs 8",
    "find in -name '*.wav' -print0 | lincae encode -0 --files-from - -o latents/",
    "lincae encode - - < song.wav | lincae gain - --db -6 -o - | lincae decode - -o quiet.flac",
)
@argument("audio", "AUDIO...", "Files, folders, quoted globs, URLs, or - for stdin.")
@output("File, folder, or - for stdout; default: beside the input.")
@model("The model; see: lincae models list.")
@click.option("--quality", type=QUALITY, help="Size against precision; exact stores float32. [default: medium]")
@click.option("--dtype", type=DTYPE, help="Store floats, for models without qualities. [default: float16]")
@click.option("--mono", is_flag=True, help="Average the channels into one.")
@click.option("--keep-extension", is_flag=True, help="Name results song.wav.lat, not song.lat.")
@device
@batch_options(jobs="1")
def encode(
    audio: tuple[str, ...], output: str | None, model: str | None, quality: str | None, dtype: str | None, mono: bool,
    keep_extension: bool, device: str, batch: BatchOptions,
) -> None:  # fmt: skip
    """Turn audio files into .lat files.

    A batch (a folder, a glob, a list or several files) skips what is finished: it goes on where it was interrupted.
    """
    if quality is not None and dtype is not None:
        raise usage_error("--quality and --dtype exclude each other", f"keep --quality {quality}")
    operands, output = split_output(audio, output)
    _check_direction("encode", operands, output)

    from lincae_core.audio import AUDIO_EXTENSIONS, SNDFILE_EXTENSIONS
    from lincae_core.audio.containers import has_ffmpeg

    suffixes = AUDIO_EXTENSIONS if has_ffmpeg() else SNDFILE_EXTENSIONS
    inputs = gather(
        operands, batch.files_from, batch.null, suffixes=suffixes, kind="audio", missing="lincae encode: AUDIO",
        others=AUDIO_EXTENSIONS - suffixes,
    )  # fmt: skip
    if inputs.left_out and not batch.log_json:
        say("note", f"{left_out(inputs)} left out; {FFMPEG}")
    models = ModelCache(device)
    info = models.info(model)
    storage = _storage(info, quality, dtype)
    jobs = plan(inputs, output, new_suffix=".lat", force=batch.force, keep_extension=keep_extension, shard=batch.shard)

    def do(job: Job, overwrite: bool) -> Report:
        loaded = models.load(info, to_encode=True)

        from lincae_core.models.codec import encode_file

        source, target = open_source(job.source, "audio"), open_target(job.target)
        bar = progress.bar(job.source)
        return Report.of(encode_file(loaded, source, target, mono=mono, overwrite=overwrite, progress=bar, **storage))

    by = {"model": f"{info.name} {info.fingerprint.removeprefix('sha256:')[:12]}", "dtype": None, **storage}
    with Progress([job.source for job in jobs], _duration, quiet=batch.log_json) as progress:
        write_all(jobs, do, _together(batch, device), inputs, kind="audio", progress=progress, by=by)


def _together(batch: BatchOptions, device: str) -> BatchOptions:
    """On a GPU several files at once by default: they share batches."""
    from lincae_core.models.codec import FILES_ON_GPU

    if batch.engine == "ray":
        if device.startswith("cuda:"):
            raise usage_error(f"--device {device} is a GPU of this machine", "with --engine ray write --device cuda")
        return replace(batch, gpu_jobs=0 if device == "cpu" else FILES_ON_GPU)
    default = click.get_current_context().get_parameter_source("jobs") is click.core.ParameterSource.DEFAULT
    return replace(batch, jobs=FILES_ON_GPU) if device.startswith("cuda") and default else batch


def _storage(info: Any, quality: str | None, dtype: str | None) -> dict[str, str]:
    """How latents are stored, as arguments of `encode_file`.

    Raises:
        UsageError: the model has no qualities, or has them and a dtype is given.
    """
    if not info.qualities:
        if quality is not None:
            raise usage_error(f"the model {info.name} has no qualities", "give --dtype float16, or --dtype float32")
        return {"dtype": dtype or "float16"}
    if dtype is not None:
        hint = f"give --quality {', '.join(QUALITIES[:-1])} or {QUALITIES[-1]}"
        raise usage_error(f"the model {info.name} stores by quality, not by --dtype", hint)
    return {"quality": quality or "medium"}


def _check_direction(command: str, operands: list[str], output: str | None) -> None:
    """Answers `encode x.lat` with `decode`, `encode x.wav x.lat` with `-o`, and the same the other way round."""
    encodes = command == "encode"
    results, kind, other = (LAT, "a .lat file", "decode") if encodes else (AUDIO, "an audio file", "encode")
    sources, suffix = (AUDIO, ".lat") if encodes else (LAT, ".wav")
    wrong = [name for name in operands if name.lower().endswith(results)]
    if wrong and output is None and len(operands) == 2 and wrong == operands[1:]:
        raise usage_error(f"{wrong[0]} is {kind}", f"did you mean: lincae {command} {operands[0]} -o {wrong[0]}")
    if wrong:
        raise usage_error(f"{wrong[0]} is already {kind}", f"did you mean: lincae {other} {wrong[0]}")
    if output is not None and output.lower().endswith(sources):
        raise usage_error(f"-o {output} has the wrong extension", f"write -o {output.rpartition('.')[0]}{suffix}")


def _duration(path: str) -> float:
    import soundfile

    return float(soundfile.info(path).duration)


@command(
    "decode",
    "lincae decode song.lat",
    "lincae decode song.lat --start 1:00 --duration 10 -o chorus.flac",
    "lincae decode 'latents/**/mix.lat' -o mixes/",
)
@argument("lats", "LAT...", "Files, folders, quoted globs, URLs, or - for stdin.")
@output("File, folder, or - for stdout; default: a .wav beside the input.")
@click.option("--start", type=OFFSET, help="Where to begin: 83.5, 1:23.5 or 90s; -10 is 10 s before the end.")
@click.option("--end", type=OFFSET, help="Where to stop; -10 is 10 s before the end.")
@click.option("--duration", type=DURATION, help="How much to decode.")
@click.option("--steps", type=Whole(1, 1000), default=1, help="Sampling steps, of models that sample.")
@click.option("--seed", type=Whole(0, 2**63 - 1), default=0, help="Seed of the noise, of models that sample.")
@click.option("--subtype", type=SUBTYPE, help="Sample format.")
@click.option(
    "--sample-rate",
    type=RATE,
    metavar="HZ",
    help="Sample rate. [default: that of the source, or the nearest that the format has]",
)
@click.option("--format", metavar="WAV|FLAC|...", help="Audio format, where the file name does not tell it.")
@model("The model's file, when it is not an installed one.")
@device
@batch_options(jobs="1")
def decode(
    lats: tuple[str, ...], output: str | None, start: float | None, end: float | None, duration: float | None, steps:
    int, seed: int, subtype: str | None, sample_rate: int | None, format: str | None, model: str | None, device: str,
    batch: BatchOptions,
) -> None:  # fmt: skip
    """Turn .lat files into audio files.

    A batch (a folder, a glob, a list or several files) skips what is finished: it goes on where it was interrupted.
    """
    _check_span(start, end, duration)
    operands, output = split_output(lats, output)
    _check_direction("decode", operands, output)

    from lincae_core.audio import WRITE_EXTENSIONS, find_format

    suffix = ".wav"
    if format is not None:
        find_format("the output", None, format)
        suffix = f".{format.lower()}"
    inputs = gather(
        operands, batch.files_from, batch.null, suffixes={".lat"}, kind=".lat", missing="lincae decode: LAT"
    )
    models = ModelCache(device)
    if model is not None:
        models.info(model)
    jobs = plan(inputs, output, new_suffix=suffix, force=batch.force, suffixes=WRITE_EXTENSIONS, shard=batch.shard)
    for job in jobs:
        suffix = Path(job.target).suffix.lower()
        if format is not None or job.target.startswith(("/dev/", STDIO)) or suffix in WRITE_EXTENSIONS:
            continue
        if not suffix:
            hint = f"add one, as in {job.target}.wav, or a slash for a folder: -o {job.target}/"
            raise usage_error(f"-o {job.target} has no extension", hint)
        find_format(job.target, job.target, None)

    def seconds(path: str) -> float:
        from lincae_formats import LatReader

        with LatReader(path) as reader:
            begin, finish = reader.header.absolute(start, end, duration)
            length = reader.header.duration
            return max(0.0, min(finish or length, length) - (begin or 0.0))

    def do(job: Job, overwrite: bool) -> Report:
        from lincae_formats import LatReader

        target = open_target(job.target)
        with LatReader(open_source(job.source, "a .lat file")) as reader:
            loaded = models.load(models.matching(reader.header, reader.name, model))

            from lincae_core.models.codec import decode_file

            begin, finish = reader.header.absolute(start, end, duration, reader.name)
            made = decode_file(
                loaded,
                reader,
                target,
                start=begin,
                end=finish,
                steps=steps,
                seed=seed,
                subtype=subtype,
                format=format,
                sample_rate=sample_rate,
                overwrite=overwrite,
                progress=progress.bar(job.source),
            )
            return Report.of(made, *beyond("--end" if duration is None else "--duration", reader.header, finish))

    with Progress([job.source for job in jobs], seconds, quiet=batch.log_json) as progress:
        write_all(jobs, do, _together(batch, device), inputs, kind="a .lat file", progress=progress)


def _check_span(start: float | None, end: float | None, duration: float | None) -> None:
    """Refuses a part of a file that is empty whatever the file.

    Raises:
        UsageError: the end is not after the start, or there are an end and a duration.
    """
    if end is not None and duration is not None:
        raise usage_error("--end and --duration exclude each other", "keep one of them")
    if end is not None and end <= (start or 0.0) and (end < 0) == ((start or 0.0) < 0):
        raise usage_error(f"--end {end:g} is not after --start {start or 0:g}", "give a later --end")
