"""What all subcommands share: how Typer's commands are made, and what a mistyped one is answered."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from .errors import usage_error


class _AsTyped:
    """Hands a parameter's text on as it was typed.

    Typer would validate it with pydantic, whose import costs more than a whole `lincae info`; parsing.py
    parses the text instead.
    """

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Returns `value`; an empty tuple for a list that was not given."""
        del ctx
        if isinstance(value, str):
            return value.removeprefix(_NOT_OPTION)
        if isinstance(value, (list, tuple)):
            return tuple(item.removeprefix(_NOT_OPTION) for item in value)
        return () if value is None and (param.multiple or param.nargs == -1) else value


_NOT_OPTION = "\0"  # begins no argument of a process, so it can mark those that only look like options
_AS_TYPED = _AsTyped()


class Command(TyperCommand):
    """A subcommand. All its parameters must be `str`, `list[str]` or `bool` flags."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Makes the command as Typer does, less its validation."""
        super().__init__(*args, **kwargs)
        for param in self.params:
            adjust(param)

    def get_help_option(self, ctx: Any) -> Any:
        """The option `--help`."""
        return _adjusted(super().get_help_option(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the arguments; `-:0.5` and `-@2` are stdin with a gain and a beginning, and no options."""
        return super().parse_args(ctx, [_NOT_OPTION + a if a.startswith(("-:", "-@")) else a for a in args])


def _adjusted(param: Any) -> Any:
    if param is not None:
        adjust(param)
    return param


def adjust(param: Any) -> None:
    """Makes Typer's parameter one of ours: its text is handed on as typed, and shells complete it by its metavar."""
    param.get_runtime_param = lambda: _AS_TYPED
    if param.param_type_name == "argument":
        # `LAT...` instead of `{LAT...}...` and `LAT... <list[str]>`: the metavar says it all.
        param.get_usage_pieces = lambda _ctx: [param.metavar]
        param.display_type_rich = lambda **_: None


class Group(TyperGroup):
    """A command with subcommands that names the nearest one to a mistyped word."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Makes the group as Typer does, less its validation."""
        super().__init__(*args, **kwargs)
        for param in self.params:
            adjust(param)

    def get_help_option(self, ctx: Any) -> Any:
        """The option `--help`."""
        return _adjusted(super().get_help_option(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Finds the subcommand.

        Raises:
            UsageError: there is none of that name.
        """
        typed = args[0]
        if typed not in self.commands and not typed.startswith("-") and not ctx.resilient_parsing:
            nearest = get_close_matches(typed, self.commands, n=1, cutoff=0.5)
            what = "command" if ctx.parent is None else f"{ctx.info_name} command"
            hint = f"did you mean: {ctx.command_path} {nearest[0]}" if nearest else None
            raise usage_error(f"unknown {what} {typed!r}", hint or f"see: {ctx.command_path} --help")
        return super().resolve_command(ctx, args)


def example(*lines: str) -> str:
    """The end of a command's help: one or more lines to type."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def first_example(command: Any) -> str | None:
    """The first line of a command's example, if it has one."""
    lines = (getattr(command, "epilog", None) or "").splitlines()
    return lines[2].strip() if len(lines) > 2 else None


def add(app: typer.Typer, function: Callable[..., None], *examples: str, name: str | None = None) -> None:
    """Adds `function` as a subcommand, with examples at the end of its help."""
    app.command(name, cls=Command, epilog=example(*examples))(function)
