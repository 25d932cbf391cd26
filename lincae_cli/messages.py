"""What is printed: errors, each one line (what is wrong, which file, what to type next), progress, tables, JSON."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from lincae_formats.errors import LincaeError, UsageError

FAILURE, USAGE = 1, 2
FULL = "free some space, or write elsewhere"

# How Python, C++, the dynamic linker and torch report that an allocation failed.
_NO_MEMORY = ("bad_alloc", "can't allocate memory", "cannot allocate memory", "failed to map segment", "new thread")


def usage_error(message: str, hint: str | None = None) -> UsageError:
    """Makes a UsageError (exit code 2). Imports its class, and numpy with it, only when something is wrong."""
    from lincae_formats.errors import UsageError

    return UsageError(message, hint)


def failure(message: str, hint: str | None = None) -> LincaeError:
    """Makes a LincaeError (exit code 1)."""
    from lincae_formats.errors import LincaeError

    return LincaeError(message, hint)


def say(kind: str, text: str) -> None:
    """Prints `lincae: KIND: TEXT` on stderr as one line; control characters in the text are escaped."""
    print(f"lincae: {kind}: {one_line(text)}", file=sys.stderr, flush=True)


def say_clipped(target: str, report: Any, how: str) -> None:
    """Warns of samples above full scale in a file that `decode_file` wrote; `how` turns it down."""
    kept = "samples are above full scale: the file keeps them, most players clip them"
    what = kept if report.kept else "samples above full scale were clipped"
    hint = f"turn it down with: {how}, or write a .wav with --subtype FLOAT"
    say("warning", f"{target}: {report.clipped} {what}; {hint}")


def one_line(text: str) -> str:
    """Escapes line breaks and control characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable(path: str) -> str:
    """A file name on one line. Bytes that are not UTF-8 are not control characters: they are printed as they are."""
    return "".join(c if "\udc80" <= c <= "\udcff" else one_line(c) for c in path)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def dumps(value: Any) -> str:
    """Indented JSON without escapes for letters; what a terminal would obey or cannot show is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text)


def format_time(seconds: float) -> str:
    """`1:23.5`, `1:02:03`: what TIME reads back as the same number."""
    from lincae_formats.header import clock

    return clock(seconds)


# --- errors


def debugging() -> bool:
    """Whether tracebacks are wanted: `--debug` sets LINCAE_DEBUG for the run."""
    return os.environ.get("LINCAE_DEBUG", "") not in ("", "0")


def describe(error: BaseException) -> str:
    """The line that a user sees for an error, without its prefix."""
    from lincae_formats.errors import LincaeError

    if isinstance(error, LincaeError):
        return str(error).replace("pass overwrite=True", "add --force")
    if is_out_of_memory(error):
        if "CUDA" in str(error):
            return "not enough GPU memory; add --device cpu, or close other programs that use the GPU"
        return "not enough memory; close other programs, or use shorter files"
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"{'cannot write ' if where else ''}{where}{error.strerror}; {FULL}"
        return f"{where}{error.strerror}; add --debug to see where"
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"unexpected {what}; add --debug and report what it prints"


def show(error: BaseException) -> int:
    """Prints an error, after its traceback when debugging, and returns its exit code."""
    if debugging():
        import traceback

        traceback.print_exception(error)
    say("error", describe(error))
    return exit_code(error)


def exit_code(error: BaseException) -> int:
    """2 where the command itself was wrong, else 1."""
    from lincae_formats.errors import UsageError

    return USAGE if isinstance(error, UsageError) else FAILURE


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, whichever library reports it."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    text = str(error)
    signs = "out of memory" in text or any(sign in text.lower() for sign in _NO_MEMORY)
    return isinstance(error, RuntimeError | ImportError) and signs


def is_closed_pipe(error: BaseException | None) -> bool:
    """Whether the error is, or was caused by, a reader of our output that ended."""
    while error is not None and not isinstance(error, BrokenPipeError):
        error = error.__cause__ or error.__context__
    return error is not None


# --- what libraries write to stderr

_captured: list[int] = []  # descriptor of what libraries wrote, and how much of it was told


@contextlib.contextmanager
def libraries_captured() -> Iterator[None]:
    """Keeps what C libraries and Python's warnings write to stderr out of it, for `library_says`; not in debugging."""
    try:
        ours = not debugging() and not _captured and sys.stderr.fileno() == 2 and hasattr(os, "memfd_create")
    except (AttributeError, OSError, ValueError):
        ours = False
    if not ours:
        yield
        return
    stderr = sys.stderr
    stderr.flush()
    copy, memory = os.dup(2), os.memfd_create("lincae")
    os.dup2(memory, 2)
    _captured[:] = memory, 0
    try:
        with warnings.catch_warnings(), open(copy, "w", 1, errors="backslashreplace", closefd=False) as sys.stderr:
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.stderr = stderr
        os.dup2(copy, 2)
        os.close(copy)


def library_says() -> str:
    """What libraries wrote to stderr since this was last asked: its first line, and how many more; mostly empty."""
    if not _captured:
        return ""
    text = os.pread(_captured[0], 1 << 16, _captured[1]).decode(errors="replace")
    _captured[1] = os.lseek(_captured[0], 0, os.SEEK_END)
    lines = [re.sub(r"^\s*(\[[^]]*\]|note:|warning:|error:)[\s:]*", "", line, flags=re.I) for line in text.splitlines()]
    lines = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    more = f" (and {len(lines) - 1} more; add --debug to see all)" if len(lines) > 1 else ""
    return f"{lines[0][:200]}{more}" if lines else ""


# --- progress


class Progress:
    """Bars and lines that vanish when the work is done, and notes that stay; only on a terminal. A context manager.

    One bar for each file that is being worked on and, where there are several files, one for all of them, with the
    seconds of audio done, the speed in times real time, and the time left.

    Args:
        names: The files.
        duration: Finds the seconds of audio in one. Called for regular files only (the bytes of a pipe would be lost),
            in a thread, and only on a terminal.
        quiet: Whether to draw nothing on a terminal either.

    Attributes:
        stop: Set when work in other threads should end: their next step then raises KeyboardInterrupt.
        shown_as: The files that bars are for, where the work has other names for them.
    """

    def __init__(
        self, names: Sequence[str] = (), duration: Callable[[str], float] | None = None, quiet: bool = False
    ) -> None:
        """Draws nothing yet."""
        self.stop = threading.Event()
        self.shown_as: dict[str, str] = {}
        self._names, self._duration, self._quiet = names, duration, quiet
        self._bars: Any = None
        self._whole: _Whole | None = None
        self._tasks: dict[str, Any] = {}

    def __reduce__(self) -> Any:
        return Progress, ()  # nothing is drawn by another process

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

    def __exit__(self, *_: object) -> None:
        """Removes the bars."""
        if self._bars is not None:
            self._bars.stop()

    def bar(self, name: str) -> Callable[[float, float], None]:
        """A bar for one file: call it with the seconds of audio done and their total."""
        if self._bars is None:
            return self._check_stop
        name = self.shown_as.pop(name, name)
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
        """Shows one line in place of the one before; `fraction` of the work done adds a bar and the time left."""
        if self._bars is not None:
            if "" not in self._tasks:
                self._tasks[""] = self._bars.add_task("", total=None, clock="")
            total = None if fraction is None else 1.0
            self._bars.update(self._tasks[""], description=one_line(text), completed=fraction or 0.0, total=total)

    def end(self, name: str, worked: bool, seconds: float = 0.0) -> None:
        """Removes a file's bar and counts it as done; `seconds` of audio are counted here if it had no bar."""
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

    def _measure(self, whole: _Whole) -> None:
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
        self._lock, self._began = threading.Lock(), time.monotonic()
        self._done, self._total, self._ended, self._complete = 0.0, 0.0, 0, False
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
        shown = {"description": f"{self._ended}/{self._files} files", "clock": _clock(self._done, total, self._began)}
        self._bars.update(self._task, completed=self._done, total=total, **shown)


def _clock(done: float, total: float | None, began: float) -> str:
    """`1:02 of 4:30, 38x real time`."""
    speed = done / max(time.monotonic() - began, 1e-9)
    of = "" if total is None else f" of {format_time(round(total))}"
    return f"{format_time(round(done))}{of}, {speed:.{0 if speed >= 10 else 1}f}x real time"
