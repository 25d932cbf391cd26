"""From `.lat` to `.lat`: what can be refused before the work, operands that are opened, results that are written."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from . import messages
from .batch import Report
from .batch import write as write_batch
from .inputs import gather, open_source
from .messages import usage_error
from .options import BatchOptions
from .outputs import Job, check_targets, open_target, plan
from .progress import Progress
from .types import STDIO

if TYPE_CHECKING:
    from lincae_formats import LatReader
    from lincae_formats.header import Position

Make = Callable[["LatReader", ExitStack], "tuple[Any, list[str]]"]

AUDIO = (".wav", ".flac", ".ogg", ".mp3")
LAT = (".lat",)
_SPARE = 64  # file descriptors left for everything else


def each(
    make: Make,
    lats: Sequence[str],
    output: str | None,
    batch: BatchOptions,
    *,
    beside: Callable[[str], Sequence[str]] = lambda path: (),
) -> None:
    """Writes one `.lat` for each that is named: files, folders, lists, or a pipe.

    Args:
        make: From an open file to the signal to write and notes for the user; other files that it opens go on the
            stack, which is closed after the write. Each note is printed once.
        lats, output, batch: The command line's.
        beside: From the name of a file to those of the other files that its result is made from.
    """
    command = str(click.get_current_context().info_name)
    operands, output = split_output(lats, output)
    inputs = gather(
        operands, batch.files_from, batch.null, suffixes={".lat"}, kind=".lat", missing=f"lincae {command}: LAT"
    )
    output = check_name(output, command)
    planned = plan(inputs, output, new_suffix=".lat", force=batch.force)
    jobs = [replace(job, beside=tuple(beside(job.source))) for job in planned]

    def do(job: Job, overwrite: bool) -> Report:
        from lincae_formats import LatReader

        began = time.monotonic()
        with ExitStack() as stack, LatReader(open_source(job.source, "a .lat file")) as reader:
            result, notes = make(reader, stack)
            write(result, job.target, overwrite)
            header = result.header
        return Report(header.duration, time.monotonic() - began, header.channels, header.sample_rate, tuple(notes))

    from lincae_formats.files import synced_once

    with synced_once(), Progress([job.source for job in jobs], duration, quiet=batch.log_json) as progress:
        write_batch(jobs, do, batch, inputs, kind="a .lat file", progress=progress, processes=True)


def split_output(operands: Sequence[str], output: str | None) -> tuple[list[str], str | None]:
    """Operands and output, where `IN -` means the same as `IN -o -`: to stdout."""
    if output is None and len(operands) == 2 and operands[1] == STDIO:
        return [operands[0]], STDIO
    return list(operands), output


def check_output(names: Sequence[str], output: str | None, force: bool, command: str) -> str:
    """The target, once everything that can be refused without reading is known to be right.

    Raises:
        UsageError: there is no output, it is not a `.lat` file, or it is an input; stdin is read twice.
        TargetExistsError, LincaeError: it exists, or cannot be written.
    """
    output = check_name(output, command)
    if list(names).count(STDIO) > 1:
        raise usage_error("stdin (-) can be read only once", "name files for the other operands")
    check_targets([output], names, force)
    open_target(output)
    return output


def check_name(output: str | None, command: str) -> str:
    """An output that is given and not named like audio.

    Raises:
        UsageError: there is none, or its extension is that of audio.
    """
    if output is None:
        raise usage_error(f"lincae {command}: there is no output", "add -o out.lat, or -o - for stdout")
    if output.lower().endswith(AUDIO):
        stem = output.rpartition(".")[0]
        raise usage_error(
            f"-o {output} is not a .lat file", f"write -o {stem}.lat, then: lincae decode {stem}.lat -o {output}"
        )
    return output


@contextlib.contextmanager
def opened(names: Sequence[str]) -> "Iterator[list[Any]]":
    """The operands, opened and checked, in their order; a file named twice is one object and read once."""
    from lincae_formats.reader import Pool

    sources = {name: open_source(name, "a .lat file") for name in names}
    with Pool(open_files(len(sources))) as pool:
        files = {name: pool.open(source) for name, source in sources.items()}
        yield [files[name] for name in names]


def write(signal: Any, target: str, force: bool) -> None:
    """Writes a result in constant memory."""
    from lincae_formats import write_lat

    write_lat(signal, open_target(target), overwrite=force)


def note_position(option: str, position: "Position") -> None:
    """Prints where a time between two frames was moved to."""
    if not position.exact:
        messages.say("note", rounded(option, position))


def rounded(option: str, position: "Position") -> str:
    """`--start 12.5 s lies between two frames; 12.539 s is used`."""
    digits = next((n for n in (3, 4, 5) if f"{position.asked:.{n}f}" != f"{position.seconds:.{n}f}"), 6)
    return f"{option} {position.asked:.6g} s lies between two frames; {position.seconds:.{digits}f} s is used"


def beyond(option: str, header: Any, last: float | None) -> list[str]:
    """A note where an end lies beyond that of the audio."""
    if last is None or last <= header.duration + 0.5 / header.sample_rate:
        return []
    return [f"{option} reaches beyond the end of the audio; {header.duration:.3f} s is used"]


def duration(path: str) -> float:
    """The length of the audio in a `.lat` file, s."""
    from lincae_formats import LatReader

    with LatReader(path) as reader:
        return reader.header.duration


def open_files(files: int) -> int:
    """How many of `files` may be open at once."""
    try:
        import resource
    except ImportError:
        return min(files, 256)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return files if limit == resource.RLIM_INFINITY else max(16, min(files, limit - _SPARE))
