"""Many files, one after the other or several at once: a bad one does not stop the others."""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import typer

from . import errors

if TYPE_CHECKING:
    from concurrent.futures import Future

Item = TypeVar("Item")


def run(
    items: Sequence[Item],
    work: Callable[[Item], None],
    *,
    jobs: int = 1,
    stop: threading.Event | None = None,
) -> None:
    """Does `work` for every item and lists the failures at the end.

    A single item's error is simply raised.

    Args:
        items: What to work on.
        work: Called with each; raises when it fails.
        jobs: How many at once.
        stop: Set when the work still running should end, after Ctrl-C.

    Raises:
        typer.Exit: with code 1, when any of several failed.
    """
    if len(items) == 1:
        work(items[0])
        return
    failures = _in_turn(items, work) if jobs <= 1 else _at_once(items, work, jobs, stop)
    for error in failures:
        errors.show(error)
    if failures:
        errors.say("error", f"{len(failures)} of {len(items)} files failed; the others are done")
        raise typer.Exit(errors.FAILURE)


def _in_turn(items: Sequence[Item], work: Callable[[Item], None]) -> list[Exception]:
    failures: list[Exception] = []
    for item in items:
        try:
            work(item)
        except Exception as e:
            if errors.is_closed_pipe(e):
                raise
            failures.append(e)
    return failures


def _at_once(
    items: Sequence[Item], work: Callable[[Item], None], jobs: int, stop: threading.Event | None
) -> list[Exception]:
    from concurrent.futures import ThreadPoolExecutor  # costs a tenth of a whole `lincae info`

    failures: list[Exception] = []
    pool = ThreadPoolExecutor(min(jobs, len(items)))
    futures: list[Future[None]] = [pool.submit(work, item) for item in items]
    try:
        for future in futures:
            error = future.exception()
            if isinstance(error, Exception):
                failures.append(error)
            elif error is not None:
                raise error
    except BaseException:
        if stop is not None:
            stop.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return failures
