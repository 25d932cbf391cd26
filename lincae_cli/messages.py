"""What is printed: errors on stderr, each one line (what is wrong, with which file, what to type next), and JSON."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lincae_formats.errors import LincaeError, UsageError

FAILURE = 1
USAGE = 2
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
    """Warns of samples above full scale.

    Args:
        target: The file that was written.
        report: Of `decode_file`.
        how: What turns it down.
    """
    are = "are above full scale: the file keeps them, most players clip them" if report.kept else (
        "above full scale were clipped"
    )  # fmt: skip
    say("warning", f"{target}: {report.clipped} samples {are}; turn it down with: {how}, or write a .wav with "
        "--subtype FLOAT")  # fmt: skip


def one_line(text: str) -> str:
    """Escapes line breaks and control characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def dumps(value: Any) -> str:
    """Indented JSON without escapes for letters; what a terminal would obey or cannot show is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text)


def debugging() -> bool:
    """Whether tracebacks are wanted: `--debug` sets LINCAE_DEBUG for the run."""
    return os.environ.get("LINCAE_DEBUG", "") not in ("", "0")


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
    """Prints an error, after its traceback when debugging.

    Returns:
        The exit code for it.
    """
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
    if isinstance(error, RuntimeError | ImportError):
        text = str(error)
        return "out of memory" in text or any(sign in text.lower() for sign in _NO_MEMORY)
    return False


def is_closed_pipe(error: BaseException | None) -> bool:
    """Whether the error is, or was caused by, a reader of our output that ended."""
    while error is not None:
        if isinstance(error, BrokenPipeError):
            return True
        error = error.__cause__ or error.__context__
    return False
