"""Progress and notes on stderr, and only when it is a terminal."""

import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

Callback = Callable[[float, float], None]


class Progress:
    """Bars that vanish when the work is done, and lines that stay. A context manager.

    Attributes:
        stop: Set when work in other threads should end: their next step then raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        """Draws nothing yet."""
        self.stop = threading.Event()
        self._bars: Any = None

    def __enter__(self) -> Self:
        """Begins to draw."""
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
            self._bars = Bars(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the bars."""
        if self._bars is not None:
            self._bars.stop()

    def bar(self, name: str) -> Callback:
        """A bar for one file: call it with the seconds of audio done and their total."""
        task = None if self._bars is None else self._bars.add_task(name, total=None)

        def advance(done: float, total: float) -> None:
            if self.stop.is_set():
                raise KeyboardInterrupt
            if task is not None:
                self._bars.update(task, completed=done, total=total, visible=done < total)

        return advance

    def note(self, text: str) -> None:
        """A line that stays."""
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
