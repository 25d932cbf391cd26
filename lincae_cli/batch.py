"""Many files, one after the other or several at once: a bad one does not stop the others."""

import os
import threading
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import typer

from . import errors, paths
from .inputs import STDIO
from .outcomes import Outcomes
from .paths import Job

if TYPE_CHECKING:
    from concurrent.futures import Future

Item = TypeVar("Item")
Stream = str | BinaryIO


def run(
    items: Sequence[Item],
    work: Callable[[Item], None],
    *,
    jobs: int = 1,
    stop: threading.Event | None = None,
    failures: Sequence[Exception] = (),
    failed: Callable[[Item, Exception], bool] | None = None,
    ended: Callable[[int], None] | None = None,
) -> None:
    """Does `work` for every item and lists the failures at the end.

    A single item's error is simply raised.

    Args:
        items: What to work on.
        work: Called with each; raises when it fails.
        jobs: How many at once.
        stop: Set when the work still running should end, after Ctrl-C.
        failures: What went wrong before, to be listed too.
        failed: Told of every failure as it happens; whether the list may leave it out.
        ended: Called before the list with the number of items.

    Raises:
        typer.Exit: with code 1, when any of several failed.
    """

    def attempt(item: Item) -> Exception | None:
        try:
            work(item)
        except Exception as e:
            if errors.is_closed_pipe(e):
                raise
            listed = failed is None or not failed(item, e)
            if len(items) == 1 and not failures and listed:
                raise
            return e if listed else _Told(errors.exit_code(e))
        return None

    found = _in_turn(items, attempt) if jobs <= 1 or len(items) == 1 else _at_once(items, attempt, jobs, stop)
    if len(items) == 1 and len(found) == 1 and isinstance(found[0], _Told):
        raise typer.Exit(found[0].code)
    if ended is not None:
        ended(len(items))
    every = [*failures, *found]
    listed = [error for error in every if not isinstance(error, _Told)]
    for error in listed:
        errors.show(error)
    if listed:
        errors.say("error", _summary(len(found), len(items), len(failures)))
    if every:
        raise typer.Exit(errors.FAILURE)


def write(
    work: Sequence[Job],
    do: Callable[[Job, Stream, Stream], Any],
    outcomes: Outcomes,
    *,
    kind: str,
    finished: Callable[[Job], float] | None = None,
    jobs: int = 1,
    stop: threading.Event | None = None,
    failures: Sequence[Exception] = (),
    there: Container[Job] | None = None,
) -> None:
    """Writes every job's target; a batch that was interrupted goes on where it stopped.

    Args:
        work: What to read and write.
        do: Called with a job, its source and its target; returns what was done.
        outcomes: Told of every file.
        kind: What messages call the sources.
        finished: Checks a target that is there and returns its seconds of audio, for it is then left as it is, or
            raises. Without it such a target is refused.
        jobs, stop, failures: As for `run`.
        there: The jobs whose targets are there; by default each is looked for when its turn comes.
    """

    def one(job: Job) -> None:
        from lincae_formats import TargetExistsError

        source, target = paths.open_source(job.source, kind), paths.open_target(job.target)
        found = job in there if there is not None else job.target != STDIO and os.path.exists(job.target)
        if finished is not None and found:
            outcomes.skipped(job, finished(job))
            return
        paths.make_folder(job)
        try:
            outcomes.done(job, do(job, source, target))
        except TargetExistsError:
            if finished is None:
                raise
            outcomes.skipped(job, finished(job))  # another run of the same batch was faster

    run(work, one, jobs=jobs, stop=stop, failures=failures, failed=outcomes.failed, ended=outcomes.summary)


class _Told(Exception):
    """A failure that need not be listed."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


def _summary(failed: int, files: int, folders: int) -> str:
    parts = [f"{folders} folder{'s' if folders > 1 else ''} could not be read"] if folders else []
    parts += [f"{failed} of {files} files failed"] if failed or not folders else []
    rest = "" if failed == files else "; the others are done"
    return f"{' and '.join(parts)}{rest}"


def _in_turn(items: Sequence[Item], attempt: Callable[[Item], Exception | None]) -> list[Exception]:
    return [error for item in items if (error := attempt(item)) is not None]


def _at_once(
    items: Sequence[Item],
    attempt: Callable[[Item], Exception | None],
    jobs: int,
    stop: threading.Event | None,
) -> list[Exception]:
    from concurrent.futures import ThreadPoolExecutor  # costs a tenth of a whole `lincae info`

    failures: list[Exception] = []
    pool = ThreadPoolExecutor(min(jobs, len(items)))
    futures: list[Future[Exception | None]] = [pool.submit(attempt, item) for item in items]
    try:
        for future in futures:
            error = future.result()
            if error is not None:
                failures.append(error)
    except BaseException:
        if stop is not None:
            stop.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return failures
