"""Work on many files, in turn, in threads or in processes; results come in the order of the files.

Processes serve the commands from `.lat` to `.lat`: HDF5 lets one thread in at a time. They are forked, so what they do
need not be pickled; only results are.
"""

import contextlib
import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from .messages import describe, failure

Item = TypeVar("Item")
Work = Callable[[Any], Any]  # does an item; returns what can be pickled, exceptions included

_FEW = 24  # items that are done sooner than processes are started
_TOGETHER = 16  # items handed over at once
_THREADS = 8  # of a process: while one waits for the disk, another computes


def cores() -> int:
    """Cores that this process may use."""
    with contextlib.suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_turn(items: Sequence[Item], work: Work) -> Iterator[Any]:
    """Does one item after the other."""
    return map(work, items)


def in_threads(items: Sequence[Item], work: Work, threads: int, stop: threading.Event) -> Iterator[Any]:
    """Does several items at once in threads; `stop` is set when the running ones should end early."""
    from concurrent.futures import ThreadPoolExecutor  # costs a tenth of a whole `lincae info`

    pool = ThreadPoolExecutor(min(threads, len(items)))
    try:
        for future in [pool.submit(work, item) for item in items]:
            yield future.result()
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_processes(
    items: Sequence[Item], work: Work, processes: int, lost: Callable[[list[Item]], None] = lambda items: None
) -> Iterator[Any]:
    """Does several items at once in processes; few items, or those of one process, are done in this one.

    When a process dies (killed, out of memory, a crash in a library), the items that were being done are tried again,
    each alone; the one that kills its process again is reported by an error that names it, and the rest goes on.

    Args:
        items: What to work on.
        work: Called with each.
        processes: How many.
        lost: Called with the items that a dead process had, before they are tried again.
    """
    processes = min(processes, -(-len(items) // _TOGETHER))
    # macOS can fork too, but its libraries do not survive it.
    if processes < 2 or len(items) <= _FEW or sys.platform != "linux":
        yield from in_turn(items, work)
        return
    from concurrent.futures import FIRST_COMPLETED, wait
    from concurrent.futures.process import BrokenProcessPool

    groups = deque(range(i, min(i + _TOGETHER, len(items))) for i in range(0, len(items), _TOGETHER))
    results: dict[int, Any] = {}
    running: dict[Any, range] = {}
    following = 0
    pool = _Pool(work, processes)
    try:
        while following < len(items):
            gone: list[int] = []
            try:
                while groups and len(running) < 2 * processes:
                    running[pool.submit([items[i] for i in groups[0]])] = groups[0]
                    groups.popleft()
            except BrokenProcessPool:
                wait(running)
            done = wait(running, return_when=FIRST_COMPLETED).done
            if any(isinstance(future.exception(), BrokenProcessPool) for future in done) or not running:
                done = wait(running).done  # all end at once
            for future in done:
                group = running.pop(future)
                try:
                    results.update(zip(group, future.result(), strict=True))
                except BrokenProcessPool:
                    gone += group
            if gone or pool.broken:
                pool.close()
                lost([items[i] for i in gone])
                results.update(_alone(items, work, sorted(gone)))
                lost([items[i] for i in gone])
                pool = _Pool(work, processes)
            while following in results:
                yield results.pop(following)
                following += 1
    except BaseException:
        pool.kill()
        raise
    finally:
        pool.close()


class _Pool:
    """Forked processes that do groups of items."""

    def __init__(self, work: Work, processes: int) -> None:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        self.broken = False
        self._pool = ProcessPoolExecutor(
            processes, multiprocessing.get_context("fork"), initializer=_start, initargs=(work,)
        )

    def submit(self, items: list[Any]) -> Any:
        try:
            return self._pool.submit(_work, items)
        except RuntimeError:  # BrokenProcessPool
            self.broken = True
            raise

    def kill(self) -> None:
        """Ends the processes; each removes its temporary files first."""
        for process in list((self._pool._processes or {}).values()):
            process.terminate()

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _alone(items: Sequence[Any], work: Work, indices: list[int]) -> dict[int, Any]:
    """Does items one by one in a process of their own, as one of them ended a process."""
    from concurrent.futures.process import BrokenProcessPool

    results: dict[int, Any] = {}
    pool = _Pool(work, 1)
    try:
        for i in indices:
            try:
                (results[i],) = pool.submit([items[i]]).result()
            except BrokenProcessPool:
                name = getattr(items[i], "source", items[i])
                what = f"{name}: the process that worked on it died (killed, or out of memory)"
                results[i] = failure(what, "run the same command again")
                pool.close()
                pool = _Pool(work, 1)
    except BaseException:
        pool.kill()
        raise
    finally:
        pool.close()
    return results


class _Worker:
    """What a worker process does and when it ends. There is one in each such process, and none in the first."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.threads: Any = None
        self.leaving = threading.Event()

    def leave(self) -> None:
        """Ends the process after the items that are being done, so that no temporary file is left.

        In a thread: an exception in the pool's own code, which a signal handler could raise, would be lost there.
        """
        self.leaving.set()
        threads = self.threads
        if threads is not None:
            threads.shutdown(wait=True, cancel_futures=True)
        os._exit(1)


_worker: _Worker | None = None


def _start(work: Work) -> None:
    global _worker
    _worker = worker = _Worker(work)

    def leave(_number: int, _frame: Any) -> None:
        threading.Thread(target=worker.leave).start()

    def end_with_parent() -> None:
        import multiprocessing

        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            worker.leave()

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the first process, which ends the others
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)
    threading.Thread(target=end_with_parent, daemon=True).start()


def _work(items: list[Any]) -> list[Any]:
    from concurrent.futures import ThreadPoolExecutor

    from lincae_formats.files import synced_once

    assert _worker is not None, "called in a worker process"
    with synced_once(), ThreadPoolExecutor(min(_THREADS, len(items))) as _worker.threads:
        if _worker.leaving.is_set():
            threading.Event().wait()
        return [picklable(result) for result in _worker.threads.map(_worker.work, items)]


def picklable(result: Any) -> Any:
    """The result, or for an exception that cannot be pickled one with its message."""
    if isinstance(result, Exception):
        try:
            pickle.loads(pickle.dumps(result))
        except Exception:
            return failure(describe(result))
    return result
