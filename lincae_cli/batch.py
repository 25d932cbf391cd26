"""Batches: many files one after the other or several at once, reports for each, and no stop at a bad one."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from . import messages
from .inputs import Inputs, open_source
from .options import BATCH_PARAMETERS, BatchOptions
from .outputs import Job, make_folder
from .types import STDIO, format_time

if TYPE_CHECKING:
    from .progress import Progress
    from .records import Records

Item = TypeVar("Item")


@dataclass(frozen=True)
class Report:
    """What was done with a file.

    Attributes:
        seconds: Its length, s.
        elapsed: The time it took, s.
        channels, sample_rate: Of the audio.
        notes: What the user should know.
        warnings: What may be wrong with the source.
        clipped, kept: Samples above full scale, and whether the file holds them all the same.
    """

    seconds: float
    elapsed: float
    channels: int
    sample_rate: int
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    clipped: int = 0
    kept: bool = False

    @classmethod
    def of(cls, found: Any, *notes: str) -> "Report":
        """From the report of `encode_file` or `decode_file`."""
        facts = found.seconds, found.elapsed, found.channels, found.sample_rate
        return cls(*facts, notes, found.warnings, found.clipped, found.kept)


@dataclass(frozen=True)
class Finished:
    """The target was there already, made from the same sources in the same way."""


def run(items: Sequence[Item], work: Callable[[Item], None], inputs: Inputs | None = None) -> None:
    """Does `work` for every item and lists the failures at the end. A single item's error is raised.

    Args:
        items: What to work on.
        work: Called with each; raises when it fails.
        inputs: Where they were found; what failed there is listed too.

    Raises:
        click.exceptions.Exit: with code 1, when any of several failed.
    """
    inputs = inputs or Inputs()
    found = []
    for item in items:
        try:
            work(item)
        except Exception as e:
            if messages.is_closed_pipe(e) or (len(items) == 1 and not inputs.failures):
                raise
            found.append(e)
    _list_failures(found, len(items), inputs)


def write(
    jobs: Sequence[Job],
    do: Callable[[Job, bool], Any],
    options: BatchOptions,
    inputs: Inputs,
    *,
    kind: str,
    progress: "Progress",
    processes: bool = False,
    by: Mapping[str, Any] | None = None,
) -> None:
    """Writes every job's target. A batch that was interrupted goes on where it stopped.

    Args:
        jobs: What to read and write.
        do: Called with a job and whether an existing target may be replaced; returns a report.
        options: The options of the batch.
        inputs: What was found; its failures are listed with the others.
        kind: What messages call the sources.
        progress: Where to show what is being done.
        processes: Whether files are worked on in processes, not threads.
        by: What else makes the results, as JSON, in place of the command's options of the same names.

    Raises:
        click.exceptions.Exit: with code 1, when any of several failed.
    """
    outcomes = _Outcomes(progress, options.log_json, alone=len(jobs) == 1 or options.jobs == 1)
    records = None
    if inputs.many:
        from .records import Records

        records = Records({**_made_by(), **(by or {})})

    def attempt(job: Job) -> Any:
        try:
            return _attempt(job, do, options, records, kind)
        except Exception as e:
            return e

    results: Iterator[Any] = map(attempt, jobs)
    if len(jobs) > 1:
        from .workers import cores, in_processes, in_threads

        if processes:
            results = in_processes(jobs, attempt, options.jobs or cores(), _remove_leftovers)
        elif (options.jobs or cores()) > 1:
            results = in_threads(jobs, attempt, options.jobs or cores(), progress.stop)
    failed: list[Exception] = []
    with _closing(results):
        for job, result in zip(jobs, results, strict=True):
            if not isinstance(result, Exception):
                outcomes.add(job, result)
                continue
            if messages.is_closed_pipe(result):
                raise result
            failed.append(result)
            outcomes.failed(job, result)
    if options.log_json:
        outcomes.summary(failed, inputs.failures)
    elif len(jobs) == 1 and len(failed) == 1 and not inputs.failures:
        raise failed[0]
    else:
        outcomes.note_finished(len(jobs))
        _list_failures(failed, len(jobs), inputs)
    if failed or inputs.failures:
        only = failed[0] if len(jobs) == len(failed) == 1 and not inputs.failures else None
        raise click.exceptions.Exit(messages.exit_code(only) if only else messages.FAILURE)


def _attempt(
    job: Job, do: Callable[[Job, bool], Any], options: BatchOptions, records: "Records | None", kind: str
) -> "Report | Finished":
    from lincae_formats import TargetExistsError

    open_source(job.source, kind)
    for name in job.beside:
        open_source(name, kind)
    if records is None or job.target == STDIO or not all(os.path.isfile(source) for source in job.sources):
        # Alone, or from a pipe, which could not be read twice.
        make_folder(job)
        return do(job, options.force)
    overwrite = options.force
    if os.path.lexists(job.target) and not overwrite:
        if _is_finished(job, records, options.update):
            return Finished()
        overwrite = True
    make_folder(job)
    line = records.begin(job.target, job.sources)
    try:
        report = do(job, overwrite)
    except TargetExistsError:
        if not _is_finished(job, records, False):
            raise
        return Finished()  # another run of the same batch was faster
    records.end(job.target, line)
    return report


def _is_finished(job: Job, records: "Records", update: bool) -> bool:
    """Whether a target that exists is what would be made.

    Returns:
        False when it is out of date and may be made again.

    Raises:
        TargetExistsError: it is something else, or out of date and there is no `--update`.
    """
    from lincae_formats import TargetExistsError

    difference = records.difference(job.target, job.sources)
    if difference is None:
        return True
    if difference == "":
        raise TargetExistsError(
            f"{job.target} exists already, and nothing tells what made it",
            "add --force to overwrite it, or move it away",
        )
    if not update:
        raise TargetExistsError(
            f"{job.target} exists already and {difference}", "add --update to make again what is out of date"
        )
    return False


@contextlib.contextmanager
def _closing(results: Iterator[Any]) -> Iterator[None]:
    """Ends the workers behind the results, whatever happens."""
    try:
        yield
    finally:
        close = getattr(results, "close", None)
        if close is not None:
            close()


def _remove_leftovers(jobs: Sequence[Job]) -> None:
    from lincae_formats import remove_leftovers

    remove_leftovers(job.target for job in jobs)


def _made_by() -> dict[str, Any]:
    """The command and the options that change its results."""
    context = click.get_current_context()
    arguments = {param.name for param in context.command.params if isinstance(param, click.Argument)}
    plumbing = {*BATCH_PARAMETERS, *arguments, "output", "device", "keep_extension"}
    options = {name: value for name, value in context.params.items() if name not in plumbing}
    return {"command": context.info_name, **{name: _plain(value) for name, value in options.items()}}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


class _Outcomes:
    """Reports each file: a line on a terminal, JSON with `--log json`, else only what went wrong."""

    def __init__(self, progress: "Progress", as_json: bool, alone: bool) -> None:
        self._progress, self._json = progress, as_json
        self._alone = alone  # whether files are done in turn, so that what a library says is about the last one
        self._began = time.monotonic()
        self._counts = {"done": 0, "finished": 0, "failed": 0}
        self._seconds = 0.0
        self._said: set[str] = set()

    def add(self, job: Job, result: Any) -> None:
        """A target was written, or was there already."""
        if isinstance(result, Finished):
            self._counts["finished"] += 1
            self._progress.end(job.source, False)
            self._log(job, "finished")
            return
        self._counts["done"] += 1
        self._seconds += result.seconds
        self._progress.end(job.source, True, result.seconds)
        speed = result.seconds / max(result.elapsed, 1e-9)
        took = f"{format_time(round(result.seconds, 3))} of audio in {result.elapsed:.1f} s, {speed:.0f}x real time"
        self._progress.note(f"{job.source} -> {job.target}  {took}")
        facts = {"seconds": result.seconds, "elapsed": round(result.elapsed, 4), "speed": round(speed, 2)}
        facts |= {"channels": result.channels, "sample_rate": result.sample_rate, "clipped": result.clipped}
        said = messages.library_says() if self._alone else ""
        told = (*result.warnings, *([f"{job.source}: its decoder reports: {said}"] if said else []))
        facts["notes"] = [*result.notes, *told]
        self._log(job, "done", **facts)
        if self._json:
            return
        for kind, texts in (("note", result.notes), ("warning", told)):
            for text in texts:
                if text not in self._said:
                    messages.say(kind, text)
                self._said.add(text)
        if result.clipped:
            messages.say_clipped(job.target, result, "lincae gain")

    def failed(self, job: Job, error: Exception) -> None:
        """A target could not be written."""
        self._counts["failed"] += 1
        self._progress.end(job.source, False)
        self._log(job, "failed", error=messages.describe(error))

    def note_finished(self, files: int) -> None:
        """Says how many files were there already."""
        if self._counts["finished"]:
            count = self._counts["finished"]
            messages.say("note", f"{count} of {files} files were finished already; --force makes them again")

    def summary(self, failed: Sequence[Exception], failures: Sequence[Exception]) -> None:
        """The last line of the JSON log."""
        for error in failures:
            _print_json({"file": None, "output": None, "status": "failed", "error": messages.describe(error)})
        messages.library_says()  # is no JSON
        counts = {**self._counts, "failed": len(failed) + len(failures)}
        elapsed = round(time.monotonic() - self._began, 4)
        _print_json({"status": "summary", **counts, "seconds": self._seconds, "elapsed": elapsed})

    def _log(self, job: Job, status: str, **facts: Any) -> None:
        if self._json:
            _print_json({"file": job.source, "output": job.target, "status": status, **facts})


def _print_json(line: Mapping[str, Any]) -> None:
    print(json.dumps(line), file=sys.stderr, flush=True)


def _list_failures(found: Sequence[Exception], files: int, inputs: Inputs) -> None:
    """Prints every failure and how many there are.

    Raises:
        click.exceptions.Exit: with code 1, when there are any.
    """
    if not found and not inputs.failures:
        return
    for error in (*inputs.failures, *found):
        messages.show(error)
    failed, total, folders = len(found) + inputs.shared, files + inputs.shared, inputs.unreadable
    parts = [f"{folders} folder{'s' if folders > 1 else ''} could not be read"] if folders else []
    parts += [f"{failed} of {total} files failed"] if failed else []
    rest = "" if failed == total else "; the others are done"
    messages.say("error", f"{' and '.join(parts)}{rest}")
    raise click.exceptions.Exit(messages.FAILURE)
