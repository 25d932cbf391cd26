"""One `.lat` out for each in: files, folders, or a pipe; what `gain`, `slice`, `shift`, `fade` and `invert` share."""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import batch, errors, paths
from .inputs import gather
from .lats import check_name, reuse_memory, write
from .operands import split_output
from .outcomes import Outcomes
from .parsing import parse_int, parse_log
from .paths import Job
from .progress import Progress
from .workers import Workers

if TYPE_CHECKING:
    from lincae_formats import LatReader
    from lincae_formats.signal import Lazy

Make = Callable[["LatReader"], "tuple[Lazy, list[str]]"]
MakeWith = Callable[["LatReader", ExitStack], "tuple[Lazy, list[str]]"]


@dataclass(frozen=True)
class Report:
    """What was done with a file: its length and the time it took, s; what has to be said about it."""

    seconds: float
    elapsed: float
    channels: int
    sample_rate: int
    notes: tuple[str, ...] = ()
    clipped: int = 0


def each(
    command: str,
    lats: list[str] | None,
    output: str | None,
    make: Make,
    *,
    files_from: str | None,
    null: bool,
    jobs: str,
    log: str | None,
    force: bool,
) -> None:
    """Writes what `make` makes of each file, beside a list of notes for the user; each note is shown once.

    Args:
        command: The command's name, for messages.
        lats, output, files_from, null, jobs, log, force: The command line's.
        make: From an open file to what is to be written.
    """
    each_with(
        command, lats, output, lambda reader, _: make(reader),
        files_from=files_from, null=null, jobs=jobs, log=log, force=force,
    )  # fmt: skip


def each_with(
    command: str,
    lats: list[str] | None,
    output: str | None,
    make: MakeWith,
    *,
    files_from: str | None,
    null: bool,
    jobs: str,
    log: str | None,
    force: bool,
) -> None:
    """As `each`, for what needs other files beside each: they are put on the stack, which is closed after the write."""
    as_json = parse_log(log, "--log")
    processes = 0 if jobs == "auto" else parse_int(jobs, "--jobs", 1, 1024)
    operands, output = split_output(lats or [], output)
    inputs = gather(operands, files_from, null, suffixes={".lat"}, kind=".lat", missing=f"lincae {command}: LAT")
    output = check_name(output, command)
    work = paths.plan(inputs, output, new_suffix=".lat", force=force)

    def do(job: Job) -> Report:
        paths.make_folder(job)
        return _apply(make, job, force)

    said: set[str] = set()

    def one(job: Job, source: batch.Stream, target: batch.Stream) -> Report:
        del source, target
        report: Report = workers.result(job)
        for note in report.notes:
            if note not in said and not as_json:
                errors.say("note", note)
            said.add(note)
        return report

    skipping = inputs.many and not force
    there = {job for job in work if os.path.exists(job.target)} if skipping else set()
    from lincae_formats.atomic import folders_synced_once

    reuse_memory()
    # Processes are started before anything that has threads.
    with (
        folders_synced_once(),
        Workers(do, [job for job in work if job not in there], processes) as workers,
        Progress([job.source for job in work], _duration, quiet=as_json) as progress,
    ):
        batch.write(
            work,
            one,
            Outcomes(progress, as_json),
            kind="a .lat file",
            finished=(lambda job: _finished(make, job)) if skipping else None,
            failures=inputs.failures,
            there=there,
        )


def _apply(make: MakeWith, job: Job, force: bool) -> Report:
    from lincae_formats import LatReader

    began = time.monotonic()
    with ExitStack() as stack, LatReader(paths.open_source(job.source, "a .lat file")) as reader:
        result, notes = make(reader, stack)
        write(result, job.target, force)
        header = result.header
    return Report(header.duration, time.monotonic() - began, header.channels, header.sample_rate, tuple(notes))


def _finished(make: MakeWith, job: Job) -> float:
    """The seconds of audio in a target that is there, whole, and what would be written.

    Raises:
        TargetExistsError: it is damaged, or something else.
    """
    from lincae_formats import LatError, LatReader, TargetExistsError, verify

    hint = "add --force to overwrite it, or move it away"
    with ExitStack() as stack, LatReader(job.source) as source:
        wanted, _ = make(source, stack)
        if os.stat(job.source).st_mtime_ns > os.stat(job.target).st_mtime_ns:
            raise TargetExistsError(f"{job.target} exists already and is older than {job.source}", hint)
        try:
            verify(job.target)
            with LatReader(job.target) as found:
                same = (found.header, found.dtype, found.history, found.tags) == (
                    wanted.header, wanted.dtype, wanted.history, wanted.tags,
                )  # fmt: skip
        except LatError as e:
            raise TargetExistsError(f"{job.target} exists already and is no whole result: {e.message}", hint) from e
    if not same:
        raise TargetExistsError(f"{job.target} exists already and is not this result of {job.source}", hint)
    return wanted.header.duration


def _duration(path: str) -> float:
    from lincae_formats import LatReader

    with LatReader(path) as reader:
        return reader.header.duration
