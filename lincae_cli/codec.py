"""`lincae encode` and `decode`: audio to `.lat` and back."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import batch, errors, paths
from .command import add
from .errors import failure, usage_error
from .options import Device, Force, LatArguments
from .parsing import format_time, parse_choice, parse_device, parse_int, parse_rate, parse_time
from .paths import Job
from .progress import Progress

if TYPE_CHECKING:
    from lincae_formats import Header

DTYPES = ("float16", "float32")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    add(app, encode, "lincae encode song.wav", "lincae encode stems/ -o latents/")
    add(app, decode, "lincae decode song.lat", "lincae decode song.lat --start 1:00 --end 1:10 -o chorus.flac")


def encode(
    audio: Annotated[
        list[str],
        typer.Argument(metavar="AUDIO...", help="Files, folders, or - for stdin.", show_default=False),
    ],
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
    jobs: Annotated[str, typer.Option("--jobs", "-j", metavar="N", help="Files at once.")] = "1",
    force: Force = False,
) -> None:
    """Turn audio files into .lat files."""
    stored = parse_choice(dtype, "--dtype", DTYPES)
    parse_device(device, "--device")
    workers = parse_int(jobs, "--jobs", 1, 1024)
    _refuse_swapped(audio, output)

    from lincae_core.audio import AUDIO_EXTENSIONS

    work = paths.plan(audio, output, suffixes=AUDIO_EXTENSIONS, kind="audio", new_suffix=".lat", force=force)
    models = _Models(device)

    with Progress() as progress:

        def one(job: Job) -> None:
            source, target = paths.open_source(job.source, "audio"), paths.open_target(job.target)
            loaded = models.named(model)

            from lincae_core.pipeline import encode_file

            paths.make_folder(job)
            bar = progress.bar(job.source)
            report = encode_file(loaded, source, target, mono=mono, dtype=stored, overwrite=force, progress=bar)
            _note(progress, job, report)

        batch.run(work, one, jobs=workers, stop=progress.stop)


def decode(
    lats: LatArguments,
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
    force: Force = False,
) -> None:
    """Turn .lat files into audio files."""
    begin = None if start is None else parse_time(start, "--start")
    stop = None if end is None else parse_time(end, "--end")
    if stop is not None and stop <= (begin or 0.0):
        raise usage_error(f"--end {end} is not after --start {start or 0}", "give a later --end")
    count = parse_int(steps, "--steps", 1, 1000)
    noise = parse_int(seed, "--seed", 0, 2**63 - 1)
    hertz = None if rate is None else parse_rate(rate, "--rate")
    parse_device(device, "--device")
    _refuse_swapped(lats, output, decoding=True)

    from lincae_core.audio.formats import WRITE_EXTENSIONS, find_format

    suffix = ".wav"
    if format is not None:
        find_format("the output", None, format)
        suffix = f".{format.lower()}"
    work = paths.plan(lats, output, suffixes={".lat"}, kind=".lat", new_suffix=suffix, force=force)
    for job in work:
        if job.target != paths.STDIO and Path(job.target).suffix.lower() not in WRITE_EXTENSIONS and format is None:
            find_format(job.target, job.target, None)
    models = _Models(device)

    with Progress() as progress:

        def one(job: Job) -> None:
            source, target = paths.open_source(job.source, "a .lat file"), paths.open_target(job.target)
            seekable = _spooled(source)
            with _reader(seekable) as reader:
                loaded = models.matching(reader.header, reader.name, model)
            if not isinstance(seekable, str):
                seekable.seek(0)

            from lincae_core.pipeline import decode_file

            paths.make_folder(job)
            report = decode_file(
                loaded,
                seekable,
                target,
                start=begin,
                end=stop,
                steps=count,
                seed=noise,
                subtype=subtype,
                format=format,
                sample_rate=hertz,
                overwrite=force,
                progress=progress.bar(job.source),
            )
            _note(progress, job, report)
            if report.clipped:
                hint = "turn it down with: lincae gain, or add --subtype FLOAT"
                errors.say("warning", f"{job.target}: {report.clipped} samples were clipped; {hint}")

        batch.run(work, one, stop=progress.stop)


class _Models:
    """Loads each model once, when the first file needs it."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._loaded: dict[str, Any] = {}
        self._lock = threading.Lock()

    def named(self, name: str | None) -> Any:
        """The model of that name or path; the default without one."""
        from lincae_core.models.registry import DEFAULT_MODEL

        return self._load(name or DEFAULT_MODEL)

    def matching(self, header: "Header", file: str, name: str | None) -> Any:
        """The model that encoded a file: an installed one, or the one named."""
        from lincae_core.models.registry import find_fingerprint, resolve

        if name is None:
            return self._load(str(find_fingerprint(header.model_fingerprint, header.model, file).path))
        info = resolve(name)
        if info.fingerprint != header.model_fingerprint:
            raise failure(
                f"{file} was encoded by another model ({header.model}) than {name}",
                "leave out --model, or give the model's file",
            )
        return self._load(name)

    def _load(self, name: str) -> Any:
        from lincae_core.models.registry import load, remember, resolve

        with self._lock:
            if name not in self._loaded:
                info = resolve(name)
                self._loaded[name] = load(info, device=self._device)
                remember(info)
            return self._loaded[name]


def _reader(source: Any) -> Any:
    from lincae_formats import LatReader

    return LatReader(source)


def _spooled(source: Any) -> Any:
    """A path as it is; stdin as a file that can be read twice, for its header and then its latents."""
    if isinstance(source, str):
        return source
    import shutil
    import tempfile

    copy = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the decode
    shutil.copyfileobj(source, copy, 1 << 20)
    copy.seek(0)
    return copy


def _refuse_swapped(inputs: list[str], output: str | None, decoding: bool = False) -> None:
    """Answers `encode x.lat` and `decode x.wav` with the other command."""
    other = (".wav", ".flac", ".ogg", ".mp3") if decoding else (".lat",)
    wrong = [name for name in inputs if name.lower().endswith(other)]
    if wrong:
        kind, command = ("an audio file", "encode") if decoding else ("a .lat file", "decode")
        raise usage_error(f"{wrong[0]} is already {kind}", f"did you mean: lincae {command} {wrong[0]}")
    mistaken = (".lat",) if decoding else (".wav", ".flac", ".ogg", ".mp3")
    if output is not None and output.lower().endswith(mistaken):
        right = ".wav" if decoding else ".lat"
        raise usage_error(f"-o {output} has the wrong extension", f"write -o {output.rpartition('.')[0]}{right}")


def _note(progress: Progress, job: Job, report: Any) -> None:
    speed = report.seconds / max(report.elapsed, 1e-9)
    took = f"{format_time(round(report.seconds, 3))} of audio in {report.elapsed:.1f} s, {speed:.0f}x real time"
    progress.note(f"{job.source} -> {job.target}  {took}")
