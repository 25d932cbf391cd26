"""How commands are declared: the class of all commands, and one declaration of each option that several have."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from .messages import usage_error
from .types import DEVICE, MARK, MODEL, PATH, QUALITY, RATE, OneOf, Whole

Function = Callable[..., Any]

SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True}


class Command(click.Command):
    """A command whose help lists its arguments, and whose operands may begin with `-:` or `-@`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the arguments; `-:0.5` and `-@2` are stdin with a gain or a beginning, not options."""
        return super().parse_args(ctx, [MARK + a if a.startswith(("-:", "-@")) else a for a in args])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the arguments, then the options."""
        described = [p for p in self.params if isinstance(p, Argument) and p.description]
        if described:
            with formatter.section("Arguments"):
                formatter.write_dl([(p.make_metavar(ctx), p.description) for p in described])
        super().format_options(ctx, formatter)


class Group(click.Group):
    """A group of commands that names the nearest one to a mistyped word."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Finds the subcommand.

        Raises:
            UsageError: there is none of that name.
        """
        typed = args[0]
        if self.get_command(ctx, typed) is None and not typed.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            nearest = get_close_matches(typed, self.list_commands(ctx), n=1, cutoff=0.5)
            what = "command" if ctx.parent is None else f"{ctx.info_name} command"
            hint = f"did you mean: {ctx.command_path} {nearest[0]}" if nearest else None
            raise usage_error(f"unknown {what} {typed!r}", hint or f"see: {ctx.command_path} --help")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The subcommands in the order of their declaration."""
        return list(self.commands)


class Argument(click.Argument):
    """An argument with a line in the help.

    Args:
        help: The line.
        *args, **kwargs: As for click's.
    """

    def __init__(self, *args: Any, help: str = "", **kwargs: Any) -> None:
        """Keeps the line."""
        self.description = help
        super().__init__(*args, **kwargs)

    def make_metavar(self, ctx: click.Context) -> str:
        """The metavar alone, without brackets."""
        return str(self.metavar or super().make_metavar(ctx))


def command(name: str, *examples: str) -> Callable[[Function], click.Command]:
    """Makes a function a command; the examples end its help."""
    return click.command(name, cls=Command, epilog=example(*examples), context_settings=SETTINGS)


def argument(name: str, metavar: str, help: str, **kwargs: Any) -> Callable[[Function], Function]:
    """Declares an argument; file names by default, and several of them where the metavar ends in `...`."""
    if metavar.endswith("..."):
        kwargs.setdefault("nargs", -1)
    return click.argument(name, cls=Argument, metavar=metavar, help=help, type=kwargs.pop("type", PATH), **kwargs)


def example(*lines: str) -> str:
    """The end of a command's help: lines to type."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def first_example(command: Any) -> str | None:
    """The first line of a command's example, if it has one."""
    lines = (getattr(command, "epilog", None) or "").splitlines()
    return lines[2].strip() if len(lines) > 2 else None


def output(help: str, metavar: str = "OUT") -> Callable[[Function], Function]:
    """`-o`, `--output`; the parameter `output: str | None`."""
    return click.option("--output", "-o", type=PATH, metavar=metavar, help=help)


def model(help: str) -> Callable[[Function], Function]:
    """`--model`; the parameter `model: str | None`."""
    return click.option("--model", type=MODEL, metavar="NAME|PATH", help=help)


lats = argument("lats", "LAT...", "Files, folders, quoted globs, or - for stdin.")
lat_output = output("The .lat file to write, or - for stdout; a folder for several.")
device = click.option("--device", type=DEVICE, metavar="auto|cpu|cuda", default="auto", help="Where to compute.")
force = click.option("--force", "-f", is_flag=True, help="Overwrite files that exist.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
quality = click.option(
    "--quality", type=QUALITY, help="Size against precision; exact stores float32. [default: that of the inputs]"
)
sample_rate = click.option(
    "--sample-rate", type=RATE, metavar="HZ", help="Sample rate of the result, where the operands' differ."
)
files_from = click.option(
    "--files-from", type=PATH, metavar="LIST", help="Also take names from a file, one a line; - is stdin."
)
null = click.option("--null", "-0", is_flag=True, help="NUL ends each name in the list, as find -print0 writes it.")


@dataclass(frozen=True)
class BatchOptions:
    """What the options of a batch were set to.

    Attributes:
        files_from: A file with more names.
        null: Whether NUL ends each of them.
        jobs: Files at once; None for as many as there are cores.
        log_json: Whether stderr gets a JSON line for each file, and nothing else.
        force: Whether existing files may be replaced.
        update: Whether results that are out of date are made again.
    """

    files_from: str | None = None
    null: bool = False
    jobs: int | None = None
    log_json: bool = False
    force: bool = False
    update: bool = False


BATCH_PARAMETERS = ("files_from", "null", "jobs", "log", "force", "update")


def batch_options(function: Function | None = None, *, lists: bool = True, jobs: str = "auto") -> Any:
    """`--jobs --files-from --null --log --force --update`, as one parameter `batch: BatchOptions`.

    Args:
        function: The command's function.
        lists: Whether the command takes names from a list.
        jobs: Files at once by default; auto is as many as there are cores.
    """
    if function is None:
        return functools.partial(batch_options, lists=lists, jobs=jobs)
    inner = function

    @functools.wraps(inner)
    def bundled(**given: Any) -> Any:
        own = {name: given.pop(name) for name in BATCH_PARAMETERS if name in given}
        own["log_json"] = own.pop("log") is not None
        return inner(batch=BatchOptions(**own), **given)

    declarations = [
        click.option(
            "--jobs",
            "-j",
            type=Whole(1, 1024, word="auto"),
            default=jobs,
            help="Files at once; auto is one for each core.",
        ),
        *([files_from, null] if lists else []),
        click.option("--log", type=OneOf("json"), help="Write a JSON line for each file to stderr, and no progress."),
        click.option(
            "--force", "-f", is_flag=True, help="Overwrite files that exist; without it a batch skips finished ones."
        ),
        click.option("--update", "-u", is_flag=True, help="Make again what is out of date, and only that."),
    ]
    result: Function = bundled
    for declare in reversed(declarations):
        result = declare(result)
    return result
