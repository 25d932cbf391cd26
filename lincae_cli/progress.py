"""Progress on stderr: bars by seconds of audio, or one line; only on a terminal."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from .messages import one_line
from .types import format_time

Callback = Callable[[float, float], None]


class Progress:
    """Bars and lines that vanish when the work is done, and notes that stay. A context manager.

    One bar for each file that is being worked on and, where there are several files, one for all of them, with the
    seconds of audio done, the speed in times real time, and the time left.

    Args:
        names: The files.
        duration: Finds the seconds of audio in one. Called for regular files only (the bytes of a pipe would be lost),
            in a thread, and only on a terminal.
        quiet: Whether to draw nothing on a terminal either.

    Attributes:
        stop: Set when work in other threads should end: their next step then raises KeyboardInterrupt.
    """

    def __init__(
        self, names: Sequence[str] = (), duration: Callable[[str], float] | None = None, quiet: bool = False
    ) -> None:
        """Draws nothing yet."""
        self.stop = threading.Event()
        self._names = names
        self._duration = duration
        self._quiet = quiet
        self._bars: Any = None
        self._whole: _Whole | None = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        """Begins to draw."""
        if not self._quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            texts = [TextColumn(f"{{task.{field}}}", markup=False) for field in ("description", "fields[clock]")]
            columns = (texts[0], BarColumn(), texts[1], TimeRemainingColumn(), TextColumn("left"))
            self._bars = Bars(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
            if len(self._names) > 1:
                self._whole = _Whole(self._bars, len(self._names))
                threading.Thread(target=self._measure, args=(self._whole,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the bars."""
        if self._bars is not None:
            self._bars.stop()

    def bar(self, name: str) -> Callback:
        """A bar for one file: call it with the seconds of audio done and their total."""
        if self._bars is None:
            return self._check_stop
        task = self._tasks[name] = self._bars.add_task(one_line(name), total=None, clock="")
        began, last = time.monotonic(), 0.0

        def advance(done: float, total: float) -> None:
            nonlocal last
            self._check_stop(done, total)
            self._bars.update(task, completed=done, total=total, clock=_clock(done, total, began))
            if self._whole is not None:
                self._whole.advance(done - last)
            last = done

        return advance

    def line(self, text: str, fraction: float | None = None) -> None:
        """Shows one line in place of the one before.

        Args:
            text: The line.
            fraction: How much of the work is done, from 0 to 1, for a bar and the time left.
        """
        if self._bars is not None:
            if "" not in self._tasks:
                self._tasks[""] = self._bars.add_task("", total=None, clock="")
            total = None if fraction is None else 1.0
            self._bars.update(self._tasks[""], description=one_line(text), completed=fraction or 0.0, total=total)

    def end(self, name: str, worked: bool, seconds: float = 0.0) -> None:
        """Removes a file's bar and counts it as done.

        Args:
            name: The file.
            worked: Whether it was worked on; its audio counts no more if not.
            seconds: Its audio, counted here if it had no bar, s.
        """
        if name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))
        elif self._whole is not None:
            self._whole.advance(seconds)
        if self._whole is not None:
            self._whole.end(name, worked)

    def note(self, text: str) -> None:
        """A line that stays."""
        if self._bars is not None:
            self._bars.console.print(one_line(text), markup=False, highlight=False, soft_wrap=True)

    def _check_stop(self, _done: float, _total: float) -> None:
        if self.stop.is_set():
            raise KeyboardInterrupt

    def _measure(self, whole: "_Whole") -> None:
        for name in self._names:
            seconds = 0.0
            if self._duration is not None and os.path.isfile(name):
                with contextlib.suppress(Exception):  # the work itself will report what is wrong with it
                    seconds = self._duration(name)
            whole.expect(name, seconds)
        whole.measured()


class _Whole:
    """The bar for all files. Its total is unknown until every file was measured."""

    def __init__(self, bars: Any, files: int) -> None:
        self._bars, self._files = bars, files
        self._task = bars.add_task(f"0/{files} files", total=None, clock="")
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._done, self._total, self._ended = 0.0, 0.0, 0
        self._complete = False
        self._seconds: dict[str, float] = {}
        self._gone: set[str] = set()

    def expect(self, name: str, seconds: float) -> None:
        with self._lock:
            if name not in self._gone:
                self._seconds[name] = seconds
                self._total += seconds

    def measured(self) -> None:
        with self._lock:
            self._complete = True
            self._draw()

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._done += seconds
            self._draw()

    def end(self, name: str, worked: bool) -> None:
        with self._lock:
            self._ended += 1
            if not worked:
                self._gone.add(name)
                self._total -= self._seconds.pop(name, 0.0)
            self._draw()

    def _draw(self) -> None:
        total = max(self._total, self._done) if self._complete else None
        self._bars.update(
            self._task,
            description=f"{self._ended}/{self._files} files",
            completed=self._done,
            total=total,
            clock=_clock(self._done, total, self._began),
        )


def _clock(done: float, total: float | None, began: float) -> str:
    """`1:02 of 4:30, 38x real time`."""
    speed = done / max(time.monotonic() - began, 1e-9)
    of = "" if total is None else f" of {format_time(round(total))}"
    return f"{format_time(round(done))}{of}, {speed:.{0 if speed >= 10 else 1}f}x real time"
