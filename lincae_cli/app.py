"""The command `lincae`: its options, its subcommands, and the one place where errors become one line."""

import codecs
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Any

import typer
from typer.main import get_command

from . import algebra, arrange, codec, compare, demo, errors, evaluate, inspect, models, plot, timeline, train
from .command import Group, adjust, example

INTERRUPTED = 130  # what shells call 128 + SIGINT
TERMINATED = 143  # 128 + SIGTERM
PIPE_CLOSED = 141  # 128 + SIGPIPE

app = typer.Typer(cls=Group, rich_markup_mode=None, pretty_exceptions_enable=False, name="lincae")


@app.callback(
    invoke_without_command=True,
    epilog=example("lincae encode song.wav && lincae gain song.lat --db -6 -o quiet.lat"),
)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show the traceback of an error (anywhere on the line; LINCAE_DEBUG=1)."),
    ] = False,
) -> None:
    """Audio as latents: mixing is addition, volume is multiplication."""
    if version:
        typer.echo(f"lincae {_version()}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


codec.register(app)
algebra.register(app)
timeline.register(app)
arrange.register(app)
inspect.register(app)
plot.register(app)
compare.register(app)
train.register(app)
evaluate.register(app)
models.register(app)
demo.register(app)


def root_command() -> Any:
    """The whole command line, as Typer runs it."""
    command = get_command(app)
    for param in command.params:
        adjust(param)  # the two for completion, which Typer adds at the end
    return command


def run() -> None:
    """Entry point of the installed command."""
    raise SystemExit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: What follows `lincae`; by default the process's own.

    Returns:
        The exit code: 0, 1 for failure, 2 for wrong usage, 130 after Ctrl-C, 141 when a pipe's reader left.
    """
    given, debug = _split_debug(sys.argv[1:] if arguments is None else arguments)
    errors.set_debug(debug or os.environ.get("LINCAE_DEBUG", "") not in ("", "0"))
    _survive_odd_names()
    _clean_up_on_termination()
    command = root_command()
    try:
        code = command.main(given, prog_name="lincae", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    except Exception as e:
        if errors.is_closed_pipe(e):
            _drop_stdout()
            return PIPE_CLOSED
        return errors.report(e, command, given)
    if code == INTERRUPTED:
        print("lincae: interrupted; no half-written file is left", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _split_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without `--debug`, allowed after the subcommand too, and whether it was there."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    before = [a for a in arguments[:end] if a != "--debug"]
    return [*before, *arguments[end:]], len(before) < end


def _version() -> str:
    from lincae_formats import __version__

    return __version__


def _survive_odd_names() -> None:
    # File names need not be valid UTF-8, and must be printed back as the bytes they are.
    codecs.register_error("lincae", _as_it_came)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="lincae" if stream is sys.stdout else "backslashreplace")


def _as_it_came(error: UnicodeError) -> tuple[str | bytes, int]:
    """Undecodable bytes as they are, half characters (from a hostile history) as JSON writes them."""
    if not isinstance(error, UnicodeEncodeError):
        return codecs.lookup_error("surrogateescape")(error)
    odd = error.object[error.start : error.end]
    kinds = ("surrogateescape" if "\udc80" <= c <= "\udcff" else "backslashreplace" for c in odd)
    return b"".join(c.encode("ascii", kind) for c, kind in zip(odd, kinds, strict=True)), error.end


def _clean_up_on_termination() -> None:
    # SIGTERM's default ends Python without running `finally`, which removes temporary files.
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    try:
        signal.signal(signal.SIGTERM, stop)
    except ValueError:
        return  # not the main thread: the caller owns the signals


def _drop_stdout() -> None:
    # Otherwise the interpreter complains when it flushes the closed pipe at exit.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
