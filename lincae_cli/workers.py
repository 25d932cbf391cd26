"""Several processes for many small jobs: threads would wait for one another, as HDF5 lets one in at a time."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from .paths import Job

_FEW = 24  # jobs that are done sooner than processes are started
_TOGETHER = 16  # jobs handed over at once
_THREADS = 8  # of a process: while one waits for the disk, another computes

_do: Callable[[Job], Any] | None = None  # what the processes do; they get it by being forked


class Workers:
    """Does jobs ahead of whoever asks for their results, in order. A context manager.

    Args:
        do: Does a job and returns what can be pickled, or raises.
        jobs: The jobs; with few of them, or one process, each is done when its result is asked for.
        processes: How many at once; 0 for as many as there are cores.
    """

    def __init__(self, do: Callable[[Job], Any], jobs: Sequence[Job], processes: int = 0) -> None:
        """Starts nothing yet."""
        self._do, self._jobs = do, jobs
        self._processes = min(processes or _cores(), -(-len(jobs) // _TOGETHER))
        self._ready: dict[Job, Any] = {}
        self._results: Iterator[list[tuple[Job, Any]]] = iter(())
        self._pool: Any = None

    def __enter__(self) -> Self:
        """Starts the processes."""
        # macOS forks too, but its libraries do not survive it.
        if self._processes > 1 and len(self._jobs) > _FEW and sys.platform == "linux":
            import multiprocessing

            global _do
            _do = self._do
            self._pool = multiprocessing.get_context("fork").Pool(self._processes, _start)
            groups = [self._jobs[i : i + _TOGETHER] for i in range(0, len(self._jobs), _TOGETHER)]
            self._results = self._pool.imap(_work, groups)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends them."""
        if self._pool is not None:
            if error is None:
                self._pool.close()
            else:
                self._pool.terminate()
            self._pool.join()

    def result(self, job: Job) -> Any:
        """What doing the job gave, or raises what it raised."""
        while self._pool is not None and job not in self._ready:
            group = next(self._results, None)
            if group is None:
                break
            self._ready.update(group)
        if job not in self._ready:
            return self._do(job)
        found = self._ready.pop(job)
        if isinstance(found, BaseException):
            raise found
        return found


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the first process, which ends the others


def _work(jobs: Sequence[Job]) -> list[tuple[Job, Any]]:
    from concurrent.futures import ThreadPoolExecutor

    from lincae_formats.atomic import folders_synced_once

    with folders_synced_once(), ThreadPoolExecutor(_THREADS) as pool:
        return list(zip(jobs, pool.map(_attempt, jobs), strict=True))


def _attempt(job: Job) -> Any:
    assert _do is not None
    try:
        return _do(job)
    except Exception as e:
        return e


def _cores() -> int:
    with contextlib.suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
