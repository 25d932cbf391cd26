"""How commands are declared: click parameter types (times, gains, operands), and options that several commands have.

A type turns the text of an option into its value, or raises UsageError with an example of what to type.
"""

import functools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .messages import say, usage_error

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Function = Callable[..., Any]

SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True}
STDIO = "-"
MARK = "\0"  # put before operands such as `-:0.5`, which click would take for options
_NUMBER = r"(?:\d+\.?\d*|\.\d+)"
_RATE = re.compile(rf"({_NUMBER})\s*(k?)(?:Hz)?", re.ASCII | re.IGNORECASE)
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?", re.ASCII)
_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_MAX_HERTZ = 10_000_000


class Type(click.ParamType):
    """Base of all types: completes `words`, or names of files where there are none."""

    name = "text"
    words: Sequence[str] = ()
    files = True

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """The words that begin so, in any case, or file names."""
        from click.shell_completion import CompletionItem

        found = [word for word in self.words if word.lower().startswith(incomplete.lower())]
        names = [CompletionItem(incomplete, type="file")] if self.files and not found else []
        return [CompletionItem(word) for word in found] or names


class Text(Type):
    """Reads text by `read`, whose ValueError says what the text is not.

    Args:
        name: What help shows for the value, in capitals.
        read: From text to the value.
        example: A value to show when the text is wrong.
        hint: What to type instead of a text; by default the option with the example.
        words: Values that shells complete.
    """

    files = False

    def __init__(
        self, name: str, read: Callable[[str], Any], example: str = "", hint: Callable[[str], str] | None = None,
        words: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Keeps the arguments."""
        self.name, self._read, self._example, self._hint, self.words = name, read, example, hint, words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value of a text; anything else is a value already."""
        if not isinstance(value, str):
            return value
        text, option = value.removeprefix(MARK), spelling(param)
        try:
            return self._read(text)
        except ValueError as e:
            hint = (self._hint(text) if self._hint else "") or f"for example: {option} {self._example}"
            hint = "use a smaller number" if str(e) == "is too large" else hint
            raise usage_error(f"{option} {text!r} {e}", hint) from e


class Path(Type):
    """A file or folder name, or `-`; `/dev/stdout` is `-`, so that a redirection decides how the file is opened."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name as it was typed."""
        text = value.removeprefix(MARK) if isinstance(value, str) else value
        return STDIO if text in _STDOUT else text


class Model(Type):
    """The name of a model, or the path of its file."""

    name = "name|path"

    @property
    def words(self) -> Sequence[str]:  # type: ignore[override]
        """The installed models."""
        from lincae_core.models.store import available
        from lincae_formats.errors import LincaeError

        try:
            return [info.name for info in available()]
        except LincaeError:
            return []


class OneOf(Type):
    """One of a few words, in any case; `hidden` ones are accepted too."""

    files = False

    def __init__(self, *choices: str, hidden: Sequence[str] = ()) -> None:
        """Keeps the words."""
        self.words, self.name = choices, "|".join(choices)
        self._folded = {choice.lower(): choice for choice in (*choices, *hidden)}

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """`a|b|c`."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word as it is spelled in `words`."""
        text = str(value)
        if text.lower() in self._folded:
            return self._folded[text.lower()]
        from difflib import get_close_matches

        option = spelling(param)
        near = get_close_matches(text.lower(), self._folded, n=1)
        hint = f"did you mean {option} {self._folded[near[0]]}" if near else f"use one of {', '.join(self.words)}"
        raise usage_error(f"{option} {text!r} is unknown", hint)


class Whole(Type):
    """A whole number from `least` to `most`; `word` stands for None."""

    name, files = "n", False

    def __init__(self, least: int, most: int = 2**31 - 1, word: str | None = None) -> None:
        """Keeps the bounds."""
        self._least, self._most, self._word = least, most, word

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """The number."""
        text, least, most = str(value), self._least, self._most
        if self._word is not None and text == self._word:
            return None
        number = int(text) if re.fullmatch(r"[+-]?\d{1,20}", text, re.ASCII) else None
        if number is None or not least <= number <= most:
            allowed, option = f"{least} or more" if most >= 2**31 - 1 else f"from {least} to {most}", spelling(param)
            message = f"{option} {text!r} is not a whole number {allowed}"
            raise usage_error(message, f"for example: {option} {max(least, 1)}")
        return number


class Operand(NamedTuple):
    """`LAT[:GAIN][@TIME]`: a path, a factor, and where it begins, s."""

    path: str
    gain: float = 1.0
    offset: float = 0.0


class _Operand(Type):
    """`LAT[:GAIN][@TIME]`, as in `a.lat:-6dB@1:23.5`."""

    name = "operand"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Operand:
        """The parts; a note where a factor looks like decibels."""
        if isinstance(value, Operand):
            return value
        text = value.removeprefix(MARK)
        operand = split_operand(text)
        if operand.gain < -1 and operand.gain == int(operand.gain) and "dB" not in text:
            path, number = operand.path, f"{operand.gain:g}"
            say("note", f"{text} inverts and amplifies: {number} is a factor; write {path}:{number}dB for decibels")
        return operand


class Setting(NamedTuple):
    """`KEY=VALUE`."""

    key: str
    value: str


def split_operand(text: str) -> Operand:
    """Path, factor and beginning of `LAT[:GAIN][@TIME]`: `a.lat:-6dB@1:23.5`, `a.lat@-2`.

    Names may hold `:` and `@`: a reading that names a file which exists wins.

    Raises:
        UsageError: what follows the path is neither a gain nor a time.
    """
    grammar = _grammar()
    head, at, tail = text.rpartition("@")
    path, colon, level = text.rpartition(":")
    gained = bool(colon) and grammar.is_gain(level) and os.path.lexists(path)
    if not head or not at or gained or os.path.lexists(text):
        return Operand(*_split_gain(text))
    try:
        return Operand(*_split_gain(head), grammar.parse_offset(tail))
    except ValueError:
        if head == STDIO or head.endswith(".lat") or os.path.isfile(head):
            hint = f"for example: {head}@1:23.5, or {head}:-6dB@1:23.5"
            raise usage_error(f"{tail!r} is not a time at which {head} begins", hint) from None
    return Operand(*_split_gain(text))


def _split_gain(text: str) -> tuple[str, float]:
    """Path and factor. Only what follows the last colon can be a gain, so `C:\\a.lat` and `a:b.lat` are paths."""
    grammar = _grammar()
    path, colon, tail = text.rpartition(":")
    if not colon or os.path.lexists(text):
        return text, 1.0
    hint = f"for example: {path}:0.5, or {path}:-6dB"
    if path and grammar.is_gain(tail):
        try:
            return path, grammar.parse_gain(tail)
        except ValueError as e:
            hint = "use a smaller number" if str(e) == "is too large" else hint
            raise usage_error(f"the gain of {path}: {tail!r} {e}", hint) from None
    if path == STDIO or path.endswith(".lat") or os.path.isfile(path):
        raise usage_error(f"{tail!r} is not a gain of {path}", hint)
    return text, 1.0


def is_url(name: str) -> bool:
    """Whether a name is a URL, such as s3://bucket/song.wav."""
    return "://" in name and name.partition("://")[0].replace("+", "").isalnum()


def spelling(param: click.Parameter | None) -> str:
    """How messages call a parameter: `--start`, `LAT`."""
    if param is None:
        return "the value"
    if isinstance(param, click.Option):
        return max(param.opts, key=len)
    return str(param.metavar or param.name).removesuffix("...")


def _grammar() -> Any:
    from lincae_formats import header

    return header


def _positive_time(text: str) -> float:
    seconds = _grammar().parse_seconds(text)
    if seconds <= 0:
        raise ValueError("is not a duration above 0")
    return seconds


def _in_decibels(text: str) -> str:
    """The hint for a factor that is written in decibels."""
    match = re.fullmatch(r"(.*?)\s*dB", text.strip(), re.IGNORECASE)
    return f"for example: --db {match[1]}" if match else ""


def _device(text: str) -> str:
    if not _DEVICE.fullmatch(text):
        raise ValueError("is unknown")
    return text


def _rate(text: str) -> int:
    match = _RATE.fullmatch(text.strip())
    hertz = Decimal(match[1]) * (1000 if match[2] else 1) if match else Decimal(0)
    if hertz != int(hertz) or not 1 <= hertz <= _MAX_HERTZ:
        raise ValueError("is not a sample rate")
    return int(hertz)


def _setting(text: str) -> Setting:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ValueError("is not KEY=VALUE")
    return Setting(key.strip(), value.strip())


class Shard(NamedTuple):
    """The part `number`, counted from 1, of `parts` of a batch.

    A file's part depends on its name below the folder that was named, and on nothing else: not on the other files, the
    machine or the order. So any number of processes agree on who does what.
    """

    number: int
    parts: int

    def holds(self, name: str) -> bool:
        """Whether a name belongs to this part."""
        import hashlib

        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.parts == self.number - 1


_SHARD = re.compile(r"(\d{1,9})/(\d{1,9})", re.ASCII)
_PLACES = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"), ("SLURM_PROCID", "SLURM_NTASKS"))


def _shard(text: str) -> Shard:
    if text == "auto":
        return _own_shard()
    match = _SHARD.fullmatch(text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError("is not K/N with K from 1 to N")
    return Shard(int(match[1]), int(match[2]))


def _own_shard() -> Shard:
    """The part of this process, from what Slurm and torchrun put into the environment.

    Raises:
        ValueError: they put nothing there, or what cannot be.
    """

    def number(name: str, otherwise: int | None = None) -> int:
        text = os.environ.get(name, "" if otherwise is None else str(otherwise))
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
            raise ValueError(f"finds {name}={text!r}, which is not a whole number")
        return int(text)

    index, count, found = 0, 1, False
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        found, first, step = True, number("SLURM_ARRAY_TASK_MIN", 0), number("SLURM_ARRAY_TASK_STEP", 1)
        index = (number("SLURM_ARRAY_TASK_ID") - first) // max(step, 1)
        count = number("SLURM_ARRAY_TASK_COUNT")
    for own, all_ in _PLACES:
        if own in os.environ and all_ in os.environ:
            index, count, found = index * number(all_) + number(own), count * number(all_), True
            break
    if not found:
        raise ValueError("finds neither SLURM_ARRAY_TASK_ID, SLURM_PROCID and SLURM_NTASKS, nor RANK and WORLD_SIZE")
    if not 0 <= index < count:
        raise ValueError(f"finds part {index + 1} of {count}: the array's numbers have gaps")
    return Shard(index + 1, count)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError("is not a number above 0")
    return number


PATH = Path()
MODEL = Model()
TIME = Text("time", lambda text: _grammar().parse_seconds(text), "1:23.5, or 83.5, or 90s")
OFFSET = Text("time", lambda text: _grammar().parse_offset(text), "1:23.5, or -2.5")  # s, may be negative
DURATION = Text("time", _positive_time, "25m, or 90s")  # s, above 0
GAIN = Text(
    "gain",
    lambda text: _grammar().parse_gain(text),
    hint=lambda _: "write a factor such as 0.5, or decibels such as -6dB",
)
DECIBELS = Text("x", lambda text: _grammar().parse_decibels(text), "-6")  # a factor, from decibels
FACTOR = Text("a", lambda text: _grammar().parse_factor(text), "0.5", hint=_in_decibels)
POINTS = Text(
    "points", lambda text: _grammar().parse_points(text), '"0:-inf 2:0dB 58:0dB 60:-inf"'
)  # [(s, factor), ...]
RATE = Text("hz", _rate, "48000, or 44.1k")  # Hz
POSITIVE = Text("x", _positive, "33")
SHARD = Text("k/n|auto", _shard, "3/16")
SETTING = Text("key=value", _setting, "data.batch=8")
OPERAND = _Operand()
DEVICE = Text("auto|cpu|cuda", _device, "auto, cpu, cuda or cuda:0", words=("auto", "cpu", "cuda"))
QUALITIES = ("low", "medium", "high", "exact")
QUALITY = OneOf(*QUALITIES)
DTYPE = OneOf("float16", "float32")
SUBTYPE = OneOf("PCM_16", "PCM_24", "FLOAT", hidden=("PCM_S8", "PCM_U8", "PCM_32", "DOUBLE", "VORBIS", "OPUS"))


# --- commands and the options that several have


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
shard = click.option(
    "--shard",
    type=SHARD,
    metavar="K/N|auto",
    help="Do part K of N of a batch, split by file name; auto asks Slurm or torchrun.",
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
        shard: The part of the batch that is done; None for all of it.
        engine: Who does the work: local or ray.
        address: Of the Ray cluster.
        gpu_jobs: Files at once on each GPU of a cluster; 0 where the command has no use for GPUs.
    """

    files_from: str | None = None
    null: bool = False
    jobs: int | None = None
    log_json: bool = False
    force: bool = False
    update: bool = False
    shard: Shard | None = None
    engine: str = "local"
    address: str | None = None
    gpu_jobs: int = 0


BATCH_PARAMETERS = ("files_from", "null", "jobs", "log", "force", "update", "shard", "engine", "address")


def batch_options(function: Function | None = None, *, lists: bool = True, jobs: str = "auto") -> Any:
    """`--jobs --files-from --null --log --force --update --shard --engine --address`, as one parameter of BatchOptions.

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
        if own["engine"] == "ray":
            source = click.get_current_context().get_parameter_source("jobs")
            own["jobs"] = None if source is click.core.ParameterSource.DEFAULT else own["jobs"]
        elif own["address"] is not None:
            raise usage_error("--address is that of a Ray cluster", f"add --engine ray --address {own['address']}")
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
        shard,
        click.option(
            "--engine",
            type=OneOf("local", "ray"),
            default="local",
            help="Who does the work: this process, or the workers of a Ray cluster, of which --jobs is then the most.",
        ),
        click.option(
            "--address",
            metavar="HOST:PORT",
            help="The Ray cluster. [default: RAY_ADDRESS, or one that is started here]",
        ),
    ]
    result: Function = bundled
    for declare in reversed(declarations):
        result = declare(result)
    return result
