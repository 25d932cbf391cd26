"""The small grammars of the command line: times, gains, rates, numbers, choices. Pure functions of text.

Every `parse_` function takes the text and the name of the option it came from, for the message, and raises
UsageError with the next thing to type.
"""

import os
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from difflib import get_close_matches
from typing import TypeVar

from .errors import usage_error

_NUMBER = r"(?:\d+\.?\d*|\.\d+)"
_RATE = re.compile(rf"({_NUMBER})\s*(k?)(?:Hz)?", re.ASCII | re.IGNORECASE)
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?", re.ASCII)

_MOST_HERTZ = 10_000_000

Value = TypeVar("Value")


def parse_time(text: str, option: str) -> float:
    """Seconds from `83.5`, `90s`, `1:23.5`, `1:02:03`, `2m`, `1h2m3s`."""
    from lincae_formats import text as notation

    return _read(notation.seconds, text, option, f"for example: {option} 1:23.5, or 83.5, or 90s")


def parse_offset(text: str, option: str) -> float:
    """Seconds as for parse_time, or negative: `-2.5`, `-0:30`."""
    from lincae_formats import text as notation

    return _read(notation.offset, text, option, f"for example: {option} 1:23.5, or {option} -2.5")


def format_time(seconds: float) -> str:
    """`1:23.5`, `1:02:03`: what parse_time reads back as the same number."""
    from lincae_formats import text as notation

    return notation.clock(seconds)


def parse_budget(text: str, option: str) -> float:
    """Seconds, above 0, from `25m`, `1h30m`, `90s`."""
    seconds = parse_time(text, option)
    if seconds <= 0:
        raise usage_error(f"{option} {text!r} is no time at all", f"for example: {option} 25m")
    return seconds


def parse_gain(text: str, option: str) -> float:
    """A factor from `0.5`, `-1`, `-6dB`, or `-inf` for silence."""
    from lincae_formats import text as notation

    return _read(notation.gain, text, option, "write a factor such as 0.5, or decibels such as -6dB")


def format_gain(factor: float) -> str:
    """What parse_gain reads back as the same factor."""
    return repr(float(factor))


def parse_decibels(text: str, option: str) -> float:
    """A factor from decibels: `-6`, `+3.5`, `-6dB`, or `-inf` for silence."""
    from lincae_formats import text as notation

    return _read(notation.decibels, text, option, f"for example: {option} -6")


def parse_factor(text: str, option: str) -> float:
    """A factor: any finite number, negative and 0 too."""
    from lincae_formats import text as notation

    decibels = re.fullmatch(r"(.*?)\s*dB", text.strip(), re.IGNORECASE)
    hint = f"for example: --db {decibels[1]}" if decibels else f"for example: {option} 0.5"
    return _read(notation.factor, text, option, hint)


def parse_points(text: str, option: str) -> list[tuple[float, float]]:
    """The breakpoints of a curve: times, s, and factors, from `0:-inf 2:0dB 1:58:0.5`."""
    from lincae_formats import text as notation

    return _read(notation.points, text, option, f'for example: {option} "0:-inf 2:0dB 58:0dB 60:-inf"')


def split_operand(text: str) -> tuple[str, float]:
    """Path and factor of `LAT[:GAIN]`.

    Only the part after the last colon can be a gain, so `C:\\a.lat` and `a:b.lat` are paths. A file whose
    whole name is `text` wins over any reading of it as a gain.
    """
    from lincae_formats import text as notation

    path, colon, tail = text.rpartition(":")
    if not colon or os.path.lexists(text):
        return text, 1.0
    if path and notation.is_gain(tail):
        return path, parse_gain(tail, f"the gain of {path}:")
    if path == "-" or path.endswith(".lat") or os.path.isfile(path):
        raise usage_error(f"{tail!r} is not a gain of {path}", f"for example: {path}:0.5, or {path}:-6dB")
    return text, 1.0


def split_placed(text: str) -> tuple[str, float, float]:
    """Path, factor and offset, s, of `LAT[:GAIN][@TIME]`: `a.lat:-6dB@1:23.5`, `a.lat@-2`.

    An @ may be in the name of a file: a reading that names a file which is there wins.
    """
    from lincae_formats import text as notation

    head, at, tail = text.rpartition("@")
    path, colon, level = text.rpartition(":")
    gained = bool(colon) and notation.is_gain(level) and os.path.lexists(path)
    if not head or not at or gained or os.path.lexists(text):
        return (*split_operand(text), 0.0)
    try:
        return (*split_operand(head), notation.offset(tail))
    except ValueError:
        if head == "-" or head.endswith(".lat") or os.path.isfile(head):
            hint = f"for example: {head}@1:23.5, or {head}:-6dB@1:23.5"
            raise usage_error(f"{tail!r} is not where {head} begins", hint) from None
    return (*split_operand(text), 0.0)


def parse_rate(text: str, option: str) -> int:
    """Hz from `44100`, `48000Hz`, `44.1k`, `48 kHz`."""
    match = _RATE.fullmatch(text.strip())
    hertz = Decimal(match[1]) * (1000 if match[2] else 1) if match else Decimal(0)
    if hertz != int(hertz) or not 1 <= hertz <= _MOST_HERTZ:
        raise usage_error(f"{option} {text!r} is not a sample rate", f"for example: {option} 48000, or 44.1k")
    return int(hertz)


def parse_int(text: str, option: str, least: int, most: int) -> int:
    """A whole number from `least` to `most`."""
    number = int(text) if re.fullmatch(r"[+-]?\d{1,20}", text, re.ASCII) else None
    if number is None or not least <= number <= most:
        allowed = f"{least} or more" if most >= 2**31 - 1 else f"from {least} to {most}"
        raise usage_error(
            f"{option} {text!r} is not a whole number {allowed}", f"for example: {option} {max(least, 1)}"
        )
    return number


def parse_choice(text: str, option: str, choices: Sequence[str]) -> str:
    """One of `choices`, in any case."""
    folded = {choice.lower(): choice for choice in choices}
    if text.lower() in folded:
        return folded[text.lower()]
    near = get_close_matches(text.lower(), folded, n=1)
    hint = f"did you mean {option} {folded[near[0]]}" if near else f"use one of {', '.join(choices)}"
    raise usage_error(f"{option} {text!r} is unknown", hint)


def parse_log(text: str | None, option: str) -> bool:
    """Whether `json` was asked for."""
    return text is not None and parse_choice(text, option, ("json",)) == "json"


def parse_device(text: str, option: str) -> str:
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    if not _DEVICE.fullmatch(text):
        raise usage_error(f"{option} {text!r} is unknown", f"use {option} auto, cpu or cuda")
    return text


def parse_settings(texts: Sequence[str], option: str) -> dict[str, str]:
    """`key=value` pairs; the last of a key wins."""
    settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise usage_error(f"{option} {text!r} is not key=value", f"for example: {option} optimizer.lr=0.0005")
        settings[key.strip()] = value.strip()
    return settings


def _read(notation: Callable[[str], Value], text: str, option: str, hint: str) -> Value:
    try:
        return notation(text)
    except ValueError as e:
        wrong = str(e)
    if wrong == "is too large":
        hint = "use a smaller number"
    raise usage_error(f"{option} {text!r} {wrong}", hint)
