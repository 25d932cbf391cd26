"""`lincae encode`: audio to `.lat`."""

from typing import Any

import click

from . import batch as batches
from .inputs import FFMPEG, ModelCache, gather, left_out, open_source
from .latfiles import AUDIO, LAT, split_output
from .messages import say, usage_error
from .options import BatchOptions, argument, batch_options, command, device, model, output
from .outputs import Job, open_target, plan
from .progress import Progress
from .types import DTYPE, QUALITIES, QUALITY, STDIO


@command(
    "encode",
    "lincae encode song.wav",
    "lincae encode stems/ -o latents/ --jobs 2",
    "find in -name '*.wav' -print0 | lincae encode -0 --files-from - -o latents/",
    "lincae encode - - < song.wav | lincae gain - --db -6 -o - | lincae decode - -o quiet.flac",
)
@argument("audio", "AUDIO...", "Files, folders, quoted globs, or - for stdin.")
@output("File, folder, or - for stdout; default: beside the input.")
@model("The model; see: lincae models list.")
@click.option("--quality", type=QUALITY, help="Size against precision; exact stores float32. [default: medium]")
@click.option("--dtype", type=DTYPE, help="Store floats, for models without qualities. [default: float16]")
@click.option("--mono", is_flag=True, help="Average the channels into one.")
@click.option("--keep-extension", is_flag=True, help="Name results song.wav.lat, not song.lat.")
@device
@batch_options(jobs="1")
def encode(
    audio: tuple[str, ...],
    output: str | None,
    model: str | None,
    quality: str | None,
    dtype: str | None,
    mono: bool,
    keep_extension: bool,
    device: str,
    batch: BatchOptions,
) -> None:
    """Turn audio files into .lat files.

    A batch (a folder, a glob, a list or several files) skips what is finished: it goes on where it was interrupted.
    """
    if quality is not None and dtype is not None:
        raise usage_error("--quality and --dtype exclude each other", f"keep --quality {quality}")
    operands, output = split_output(audio, output)
    _check_direction(operands, output)

    from lincae_core.audio import AUDIO_EXTENSIONS, SNDFILE_EXTENSIONS
    from lincae_core.audio.ffmpeg import has_ffmpeg

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
    jobs = plan(inputs, output, new_suffix=".lat", force=batch.force, keep_extension=keep_extension)

    def do(job: Job, overwrite: bool) -> object:
        loaded = models.load(info)

        from lincae_core.models.transcode import encode_file

        source, target = open_source(job.source, "audio"), open_target(job.target)
        bar = progress.bar(job.source)
        return batches.Report.of(
            encode_file(loaded, source, target, mono=mono, overwrite=overwrite, progress=bar, **storage)
        )

    by = {"model": f"{info.name} {info.fingerprint.removeprefix('sha256:')[:12]}", "dtype": None, **storage}
    with Progress([job.source for job in jobs], _duration, quiet=batch.log_json) as progress:
        batches.write(jobs, do, batch, inputs, kind="audio", progress=progress, by=by)


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


def _check_direction(operands: list[str], output: str | None) -> None:
    """Answers `encode x.lat` with `decode`, and `encode x.wav x.lat` with `-o`."""
    wrong = [name for name in operands if name.lower().endswith(LAT)]
    if wrong and output is None and len(operands) == 2 and wrong == operands[1:]:
        raise usage_error(f"{wrong[0]} is a .lat file", f"did you mean: lincae encode {operands[0]} -o {wrong[0]}")
    if wrong:
        raise usage_error(f"{wrong[0]} is already a .lat file", f"did you mean: lincae decode {wrong[0]}")
    if output is not None and output != STDIO and output.lower().endswith(AUDIO):
        raise usage_error(f"-o {output} has the wrong extension", f"write -o {output.rpartition('.')[0]}.lat")


def _duration(path: str) -> float:
    import soundfile

    return float(soundfile.info(path).duration)
