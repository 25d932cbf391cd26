"""Every error is one line on stderr: what, which file, what to type next."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from lincae_formats.errors import LincaeError, UsageError

FAILURE = 1
USAGE = 2

_debug = False


def set_debug(on: bool) -> None:
    """Whether `show` prints tracebacks too."""
    global _debug
    _debug = on


def usage_error(message: str, hint: str | None = None) -> UsageError:
    """A UsageError to raise; imports its class, and numpy with it, only when something is wrong."""
    from lincae_formats.errors import UsageError

    return UsageError(message, hint)


def failure(message: str, hint: str | None = None) -> LincaeError:
    """A LincaeError to raise."""
    from lincae_formats.errors import LincaeError

    return LincaeError(message, hint)


def say(kind: str, text: str) -> None:
    """Prints `lincae: kind: text` on stderr, on one line whatever is in the text."""
    from lincae_formats.errors import one_line

    print(f"lincae: {kind}: {one_line(text)}", file=sys.stderr, flush=True)


def show(error: BaseException) -> int:
    """Prints one error, after its traceback when debugging.

    Returns:
        The exit code it asks for.
    """
    from lincae_formats.errors import LincaeError

    if _debug:
        traceback.print_exception(error)
    if isinstance(error, LincaeError):
        say("error", str(error))
        return exit_code(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        hint = "free some space" if error.errno == errno.ENOSPC else "add --debug to see where"
        say("error", f"{where}{error.strerror}; {hint}")
    elif isinstance(error, MemoryError):
        say("error", "not enough memory; close other programs, or use shorter files")
    else:
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        say("error", f"unexpected {what}; add --debug and report what it prints")
    return FAILURE


def exit_code(error: BaseException) -> int:
    """What the program ends with after an error: 2 where the command itself was wrong, else 1."""
    from lincae_formats.errors import UsageError

    return USAGE if isinstance(error, UsageError) else FAILURE


def report(error: Exception, root: Any, arguments: Sequence[str]) -> int:
    """Prints what ended the program, Typer's complaints about the command line too.

    Args:
        error: What was raised.
        root: The root command.
        arguments: What follows `lincae`.

    Returns:
        The exit code.
    """
    if not isinstance(error, typer.TyperException):
        return show(error)
    path, command = _find_command(root, arguments)
    message, hint = _explain(error, path, command)
    if _debug:
        traceback.print_exception(error)
    say("error", f"{message}; {hint}")
    return USAGE


def is_closed_pipe(error: BaseException | None) -> bool:
    """Whether the error is, or comes from, a reader of our output that left."""
    while error is not None:
        if isinstance(error, BrokenPipeError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _find_command(root: Any, arguments: Sequence[str]) -> tuple[str, Any]:
    """The words that name the command meant, and the command."""
    path, command = "lincae", root
    for word in arguments:
        inner = getattr(command, "commands", {}).get(word)
        if inner is None:
            break
        path, command = f"{path} {word}", inner
    return path, command


def _explain(error: typer.TyperException, path: str, command: Any) -> tuple[str, str]:
    from .command import first_example

    text = first_example(command)
    hint = f"for example: {text}" if text else f"see: {path} --help"
    if isinstance(error, typer.BadParameter) and error.param is not None and not error.message:
        return f"{path}: {_name(error.param)} is missing", hint
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        near = error.possibilities or _near(option, command)
        return f"{path} has no option {option}", f"did you mean {near[0]}" if near else f"see: {path} --help"
    if option is not None:
        return f"{path}: {error.format_message().rstrip('.')}", hint
    message = error.format_message().rstrip(".")
    return f"{path}: {message[:1].lower()}{message[1:]}", f"see: {path} --help"


def _name(param: Any) -> str:
    return str(param.metavar or param.name).removesuffix("...") if not param.opts[0].startswith("-") else param.opts[0]


def _near(option: str, command: Any) -> list[str]:
    from difflib import get_close_matches

    known = [name for param in command.params for name in (*param.opts, *param.secondary_opts)]
    return get_close_matches(option, [name for name in known if name.startswith("--")], n=1, cutoff=0.5)
