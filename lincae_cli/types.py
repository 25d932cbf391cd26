"""Click parameter types: times, gains, rates, numbers, choices, operands.

A type turns the text of an option into its value, or raises UsageError with an example of what to type.
"""

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .messages import say, usage_error

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

STDIO = "-"
MARK = "\0"  # put before operands such as `-:0.5`, which click would take for options
_NUMBER = r"(?:\d+\.?\d*|\.\d+)"
_RATE = re.compile(rf"({_NUMBER})\s*(k?)(?:Hz)?", re.ASCII | re.IGNORECASE)
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?", re.ASCII)
_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_MAX_HERTZ = 10_000_000


class Text(click.ParamType):
    """Base of all types: reads text by `read`, whose ValueError says what the text is not.

    Args:
        name: What help shows for the value, in capitals.
        read: From text to the value.
        example: A value to show when the text is wrong.
        hint: What to type instead of a text; by default the option with the example.
        words: Values that shells complete.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[str], Any],
        example: str = "",
        hint: Callable[[str], str] | None = None,
        words: Sequence[str] = (),
    ) -> None:
        """Keeps the arguments."""
        self.name, self._read, self._example, self._hint, self._words = name, read, example, hint, words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value of a text; anything else is a value already."""
        if not isinstance(value, str):
            return value
        text, option = value.removeprefix(MARK), spelling(param)
        try:
            return self._read(text)
        except ValueError as e:
            hint = (self._hint(text) if self._hint else "") or f"for example: {option} {self._example}"
            raise usage_error(
                f"{option} {text!r} {e}", "use a smaller number" if str(e) == "is too large" else hint
            ) from e

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """The words that begin so."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(word) for word in self._words if word.startswith(incomplete)]


class Path(click.ParamType):
    """A file or folder name, or `-`; `/dev/stdout` is `-`, so that a redirection decides how the file is opened."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name as it was typed."""
        text = value.removeprefix(MARK) if isinstance(value, str) else value
        return STDIO if text in _STDOUT else text

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """File names."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


class Model(Path):
    """The name of a model, or the path of its file."""

    name = "name|path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name as it was typed."""
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """The installed models, or file names where none begins so."""
        from click.shell_completion import CompletionItem

        found = [name for name in installed_models() if name.startswith(incomplete)]
        return [CompletionItem(name) for name in found] or super().shell_complete(ctx, param, incomplete)


class OneOf(click.ParamType):
    """One of a few words, in any case.

    Args:
        choices: The words.
        hidden: More words that are accepted.
    """

    def __init__(self, *choices: str, hidden: Sequence[str] = ()) -> None:
        """Keeps the words."""
        self.choices = choices
        self.name = "|".join(choices)
        self._folded = {choice.lower(): choice for choice in (*choices, *hidden)}

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """`a|b|c`."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word as it is spelled in `choices`."""
        text = str(value)
        if text.lower() in self._folded:
            return self._folded[text.lower()]
        from difflib import get_close_matches

        option = spelling(param)
        near = get_close_matches(text.lower(), self._folded, n=1)
        hint = f"did you mean {option} {self._folded[near[0]]}" if near else f"use one of {', '.join(self.choices)}"
        raise usage_error(f"{option} {text!r} is unknown", hint)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """The words that begin so."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(choice) for choice in self.choices if choice.lower().startswith(incomplete.lower())]


class Whole(click.ParamType):
    """A whole number from `least` to `most`; `word` stands for None."""

    name = "n"

    def __init__(self, least: int, most: int = 2**31 - 1, word: str | None = None) -> None:
        """Keeps the bounds."""
        self._least, self._most, self._word = least, most, word

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """The number."""
        text = str(value)
        if self._word is not None and text == self._word:
            return None
        number = int(text) if re.fullmatch(r"[+-]?\d{1,20}", text, re.ASCII) else None
        if number is None or not self._least <= number <= self._most:
            least, most, option = self._least, self._most, spelling(param)
            allowed = f"{least} or more" if most >= 2**31 - 1 else f"from {least} to {most}"
            raise usage_error(
                f"{option} {text!r} is not a whole number {allowed}", f"for example: {option} {max(least, 1)}"
            )
        return number


class Operand(NamedTuple):
    """`LAT[:GAIN][@TIME]`: a path, a factor, and where it begins, s."""

    path: str
    gain: float = 1.0
    offset: float = 0.0


class _Operand(click.ParamType):
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

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """File names."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


@dataclass(frozen=True)
class Setting:
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
        return Operand(*_split_gain(head), grammar.offset(tail))
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
            return path, grammar.gain(tail)
        except ValueError as e:
            hint = "use a smaller number" if str(e) == "is too large" else hint
            raise usage_error(f"the gain of {path}: {tail!r} {e}", hint) from None
    if path == STDIO or path.endswith(".lat") or os.path.isfile(path):
        raise usage_error(f"{tail!r} is not a gain of {path}", hint)
    return text, 1.0


def format_time(seconds: float) -> str:
    """`1:23.5`, `1:02:03`: what TIME reads back as the same number."""
    return _grammar().clock(seconds)


def spelling(param: click.Parameter | None) -> str:
    """How messages call a parameter: `--start`, `LAT`."""
    if param is None:
        return "the value"
    if isinstance(param, click.Option):
        return max(param.opts, key=len)
    return str(param.metavar or param.name).removesuffix("...")


def installed_models() -> Collection[str]:
    """Names of the models that can be used now."""
    from lincae_core.models.store import available
    from lincae_formats.errors import LincaeError

    try:
        return [info.name for info in available()]
    except LincaeError:
        return []


def _grammar() -> Any:
    from lincae_formats import text

    return text


def _positive_time(text: str) -> float:
    seconds = _grammar().seconds(text)
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
TIME = Text("time", lambda text: _grammar().seconds(text), "1:23.5, or 83.5, or 90s")
OFFSET = Text("time", lambda text: _grammar().offset(text), "1:23.5, or -2.5")  # s, may be negative
DURATION = Text("time", _positive_time, "25m, or 90s")  # s, above 0
GAIN = Text(
    "gain", lambda text: _grammar().gain(text), hint=lambda _: "write a factor such as 0.5, or decibels such as -6dB"
)
DECIBELS = Text("x", lambda text: _grammar().decibels(text), "-6")  # a factor, from decibels
FACTOR = Text("a", lambda text: _grammar().factor(text), "0.5", hint=_in_decibels)
POINTS = Text("points", lambda text: _grammar().points(text), '"0:-inf 2:0dB 58:0dB 60:-inf"')  # [(s, factor), ...]
RATE = Text("hz", _rate, "48000, or 44.1k")  # Hz
POSITIVE = Text("x", _positive, "33")
SETTING = Text("key=value", _setting, "data.batch=8")
OPERAND = _Operand()
DEVICE = Text("auto|cpu|cuda", _device, "auto, cpu, cuda or cuda:0", words=("auto", "cpu", "cuda"))
QUALITIES = ("low", "medium", "high", "exact")
QUALITY = OneOf(*QUALITIES)
DTYPE = OneOf("float16", "float32")
SUBTYPE = OneOf("PCM_16", "PCM_24", "FLOAT", hidden=("PCM_S8", "PCM_U8", "PCM_32", "DOUBLE", "VORBIS", "OPUS"))
