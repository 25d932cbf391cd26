"""The command `lincae`: its subcommands, and the one place where exceptions become one line and an exit code."""

import codecs
import contextlib
import os
import platform
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import click

from . import messages
from .messages import failure
from .options import SETTINGS, Group, example, first_example, spelling

INTERRUPTED = 130  # what shells report for a process that SIGINT ended: 128 + 2
PIPE_CLOSED = 141  # 128 + SIGPIPE
SHELLS = ("bash", "zsh", "fish")  # that tab completion is for
COMPLETE = "_LINCAE_COMPLETE"

# Modules are imported when their command runs, or when the help lists them.
COMMANDS = {
    "encode": "coding:encode",
    "decode": "coding:decode",
    "mix": "arithmetic:mix",
    "gain": "arithmetic:gain",
    "invert": "arithmetic:invert",
    "subtract": "arithmetic:subtract",
    "residual": "arithmetic:residual",
    "channels": "arithmetic:channels",
    "slice": "editing:slice_",
    "pad": "editing:pad",
    "repeat": "editing:repeat",
    "concat": "editing:concat",
    "crossfade": "editing:crossfade",
    "shift": "editing:shift",
    "fade": "editing:fade",
    "render": "render:render",
    "desk": "desk:desk",
    "info": "inspect:info",
    "stats": "inspect:stats",
    "faders": "faders:faders",
    "find": "faders:find",
    "verify": "inspect:verify",
    "export": "inspect:export",
    "plot": "evaluate:plot",
    "compare": "evaluate:compare",
    "train": "models:train",
    "eval": "evaluate:evaluate",
    "demo": "evaluate:demo",
    "models": "models:models",
}

# From .lat to .lat nothing needs the threads of numpy's OpenBLAS, and to start them takes as long as half of h5py;
# `encode` has threads of its own.
_LIGHT = ("arithmetic", "editing", "inspect", "coding")

# What users of other programs type, and the options of ours that are meant; the first that the command has is named.
_MEANT = {
    "--gain": ("--db",), "--volume": ("--db",), "--level": ("--db",), "--rate": ("--sample-rate",),
    "--out": ("--output",), "--threads": ("--jobs",), "--workers": ("--jobs",), "--overwrite": ("--force",),
    "--yes": ("--force",), "--begin": ("--start",), "--from": ("--start",), "--to": ("--end",), "--stop": ("--end",),
    "--length": ("--duration",), "--bitrate": ("--quality",), "--bits": ("--subtype", "--dtype"),
    "--gpu": ("--device",), "--cuda": ("--device",), "--verbose": ("--debug",),
}  # fmt: skip


class Root(Group):
    """`lincae`, which imports a subcommand's module when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all subcommands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> Any:
        """The subcommand of that name, or None. `help` is `--help` of what follows."""
        if name == "help":
            return help_
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        if module in _LIGHT:
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
            # h5py asks for the machine when it is imported, for which Python would run `uname -p`.
            vars(platform.uname())["processor"] = ""
        return getattr(import_module(f".{module}", __package__), attribute)


def _completion(name: str, help: str, finish: Any) -> Any:
    """An eager option of `lincae` that ends the program by `finish(shell, script)`, which returns what to print."""

    def callback(context: click.Context, _param: click.Parameter, value: bool) -> None:
        if value and not context.resilient_parsing:
            from click.shell_completion import get_completion_class

            shell = _current_shell()
            completer = get_completion_class(shell)
            assert completer is not None, "click knows all of SHELLS"
            click.echo(finish(shell, completer(context.command, {}, "lincae", COMPLETE).source()))
            context.exit()

    return click.option(name, is_flag=True, expose_value=False, is_eager=True, callback=callback, help=help)


def _shown(shell: str, script: str) -> str:
    """The script itself."""
    return script.rstrip()


def _installed(shell: str, script: str) -> str:
    """Writes the script where the shell finds it, and tells where."""
    home = Path.home()
    if shell == "fish":
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        path = _write(config / "fish" / "completions" / "lincae.fish", script)
    elif shell == "zsh":
        # click's end of the script misses the second Tab when it is loaded by fpath.
        function = script.partition("\nif [[ $zsh_eval_context")[0]
        path = _write(home / ".zfunc" / "_lincae", f'{function}\n_lincae_completion "$@"\n')
        _append(home / ".zshrc", "fpath+=~/.zfunc; autoload -Uz compinit; compinit")
    else:
        path = _write(home / ".bash_completions" / "lincae.sh", script)
        _append(home / ".bashrc", f"source '{path}'")
    return f"{shell} completion installed in {path}; it works in the next shell"


def _current_shell() -> str:
    """The shell that started this process, else the user's login shell.

    Raises:
        LincaeError: it is not one that completion is for.
    """
    try:
        parent = Path(f"/proc/{os.getppid()}/comm").read_text().strip().lstrip("-")
    except OSError:
        parent = ""
    login = os.path.basename(os.environ.get("SHELL", ""))
    for name in (parent, login):
        if name in SHELLS:
            return name
    raise failure(f"no completion for the shell {login or parent or '?'}", f"start it from {', '.join(SHELLS)}")


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _append(path: Path, line: str) -> None:
    before = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
    if line not in before.splitlines():
        with open(path, "a", encoding="utf-8") as file:
            file.write(("" if before.endswith("\n") or not before else "\n") + line + "\n")


@click.group(
    cls=Root,
    invoke_without_command=True,
    context_settings=SETTINGS,
    epilog=example("lincae encode song.wav && lincae gain song.lat --db -6 -o quiet.lat"),
)
@click.option("--version", is_flag=True, help="Print the version and exit.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error (anywhere on the line; or LINCAE_DEBUG=1).")
@_completion("--install-completion", "Install tab completion for bash, zsh or fish.", _installed)
@_completion("--show-completion", "Print the script for tab completion.", _shown)
@click.pass_context
def root(context: click.Context, version: bool, debug: bool) -> None:
    """Audio as latents: mixing is addition, volume is multiplication."""
    if version:
        click.echo(f"lincae {_version()}")
    elif context.invoked_subcommand is None:
        click.echo(context.get_help())


@click.command("help", hidden=True, context_settings=SETTINGS)
@click.argument("words", nargs=-1)
@click.pass_context
def help_(context: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command."""
    here: Any = context.parent
    for word in words:
        if isinstance(here.command, click.Group):
            _, command, _ = here.command.resolve_command(here, [word])
            here = click.Context(command, parent=here, info_name=word, **SETTINGS)  # type: ignore[arg-type]
    click.echo(here.get_help())


def run() -> None:
    """Entry point of the installed command."""
    _open_standard_streams()
    _use_utf8()
    raise SystemExit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: What follows `lincae`; by default the process's own.

    Returns:
        The exit code: 0, 1 for failure, 2 for wrong usage, 130 after Ctrl-C, 141 when the reader of a pipe ended.
    """
    given, debug = _split_debug(sys.argv[1:] if arguments is None else arguments)
    _survive_odd_names()
    with _debugging(debug), _clean_up_on_termination():
        return _run(given)


def _run(given: list[str]) -> int:
    try:
        instruction = os.environ.get(COMPLETE)
        if instruction:
            from click.shell_completion import shell_complete

            return shell_complete(root, {}, "lincae", COMPLETE, instruction)
        with messages.libraries_captured(), root.make_context("lincae", given) as context:
            try:
                root.invoke(context)
            finally:
                if said := messages.library_says():
                    messages.say("warning", f"a library reports: {said}")
        sys.stdout.flush()
        code = 0
    except click.exceptions.Exit as e:
        code = e.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    except click.ClickException as e:
        return _report(e, given)
    except Exception as e:
        if messages.is_closed_pipe(e):
            _drop_stdout()
            return PIPE_CLOSED
        return messages.show(e)
    if code == INTERRUPTED:
        print("lincae: interrupted; no half-written file is left", file=sys.stderr)
    return code


def _report(error: click.ClickException, given: list[str]) -> int:
    """Prints click's complaint about the command line in one line."""
    context: Any = getattr(error, "ctx", None) or _context(given)
    path, command = context.command_path, context.command
    text = first_example(command)
    hint, see = f"for example: {text}" if text else f"see: {path} --help", f"see: {path} --help"
    message = error.format_message().rstrip(".")
    if isinstance(error, click.MissingParameter) and error.param is not None:
        message = f"{spelling(error.param)} is missing"
    elif isinstance(error, click.NoSuchOption):
        message, near = "", _nearest_option(error.option_name, command)
        path, hint = f"{path} has no option {error.option_name}", f"did you mean {near}" if near else see
    elif not isinstance(error, click.BadOptionUsage):
        message, hint = f"{message[:1].lower()}{message[1:]}", see
    messages.say("error", "; ".join([f"{path}: {message}" if message else path, hint]))
    return messages.USAGE


def _context(given: list[str]) -> click.Context:
    """The context of the command that the words name; some of click's errors do not tell it."""
    here = click.Context(root, info_name="lincae")
    for word in given:
        command = here.command.get_command(here, word) if isinstance(here.command, click.Group) else None
        if command is None:
            break
        here = click.Context(command, parent=here, info_name=word)
    return here


def _nearest_option(option: str, command: click.Command) -> str | None:
    from difflib import get_close_matches

    known = [name for param in command.params for name in (*param.opts, *param.secondary_opts) if name[:2] == "--"]
    known += ["--help"]
    meant = [name for name in _MEANT.get(option, ()) if name in known]
    begins = [name for name in known if name.startswith(option)] if len(option) > 3 else []
    return next(iter([*meant, *begins, *get_close_matches(option, known, n=1, cutoff=0.6)]), None)


def _split_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without `--debug`, which is allowed after the subcommand too, and whether it was there."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    before = [a for a in arguments[:end] if a != "--debug"]
    return [*before, *arguments[end:]], len(before) < end


def _version() -> str:
    from lincae_formats import __version__

    return __version__


def _open_standard_streams() -> None:
    """Opens /dev/null on each of descriptors 0 to 2 that is closed.

    Otherwise the next file opened would get its number, and messages would be written into it. Descriptor 1 is opened
    for reading, so that writing a result to a closed stdout is an error and not a loss.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _use_utf8() -> None:
    """Starts again in Python's UTF-8 mode where the locale is another one.

    File names are bytes. In UTF-8 mode they are the same text here, in the libraries that open them, and in `.lat`
    histories, whatever the locale.
    """
    if sys.platform != "win32" and not sys.flags.utf8_mode and sys.getfilesystemencoding().lower() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


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


@contextlib.contextmanager
def _debugging(on: bool) -> Iterator[None]:
    before = os.environ.get("LINCAE_DEBUG")
    if on:
        os.environ["LINCAE_DEBUG"] = "1"
    try:
        yield
    finally:
        if on and before is None:
            del os.environ["LINCAE_DEBUG"]
        elif on and before is not None:
            os.environ["LINCAE_DEBUG"] = before


@contextlib.contextmanager
def _clean_up_on_termination() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP run `finally`, which removes temporary files; what is ignored (nohup) stays so."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {}
    with contextlib.suppress(ValueError):  # not the main thread: the caller owns the signals
        for number in (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _drop_stdout() -> None:
    # Otherwise the interpreter complains when it flushes the closed pipe at exit.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
