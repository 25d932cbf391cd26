"""Parsing of times, gains and curves, as they are written on the command line and in arrangements.

Each function raises ValueError; its message follows the text in an error message: `x` "is not a time".
"""

import math
import re
from decimal import Decimal

_NUMBER = r"(?:\d+\.?\d*|\.\d+)"
_SIGNED = rf"[+-]?{_NUMBER}(?:[eE][+-]?\d+)?"
_UNITS = re.compile(rf"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:({_NUMBER})s?)?", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d{1,2}(?:\.\d*)?)", re.ASCII)
_GAIN = re.compile(rf"({_SIGNED}|-inf)(\s*dB)?", re.ASCII | re.IGNORECASE)

_MOST_SECONDS = 10**9


def seconds(text: str) -> float:
    """Seconds from `83.5`, `90s`, `1:23.5`, `1:02:03`, `2m`, `1h2m3s`."""
    clock, units = _CLOCK.fullmatch(text), _UNITS.fullmatch(text)
    if clock and Decimal(clock[3]) < 60 and (clock[1] is None or int(clock[2]) < 60):
        parts = clock.groups()
    elif units and text:
        parts = units.groups()
    else:
        raise ValueError("is not a time")
    hours, minutes, rest = (Decimal(part or 0) for part in parts)
    total = hours * 3600 + minutes * 60 + rest
    if total > _MOST_SECONDS:
        raise ValueError("is too long")
    return float(total)


def offset(text: str) -> float:
    """Seconds that may be negative: `-2.5`, `-0:30`, `1:23.5`, `+4`."""
    if text[:1] in ("-", "+"):
        return -seconds(text[1:]) if text[0] == "-" else seconds(text[1:])
    return seconds(text)


def clock(value: float) -> str:
    """Seconds as `1:23.5`, `1:02:03` or `-0:02`, which `offset` parses to the same number."""
    minutes, rest = divmod(abs(Decimal(repr(float(value)))), 60)
    hours, minutes = divmod(minutes, 60)
    whole, _, part = f"{rest:f}".partition(".")
    shown = f"{int(whole):02d}" + (f".{part.rstrip('0')}" if part.strip("0") else "")
    sign = "-" if value < 0 else ""
    return f"{sign}{hours}:{int(minutes):02d}:{shown}" if hours else f"{sign}{minutes}:{shown}"


def is_gain(text: str) -> bool:
    """Whether a text has the form of a gain."""
    return _GAIN.fullmatch(text.strip()) is not None


def gain(text: str) -> float:
    """A factor from `0.5`, `-1`, `-6dB`, or `-inf` for silence."""
    number, in_decibels = _parts(text, "is not a gain")
    return from_decibels(number) if in_decibels or number == -math.inf else _finite(number)


def decibels(text: str) -> float:
    """A factor from decibels: `-6`, `+3.5`, `-6dB`, `-inf`."""
    return from_decibels(_parts(text, "is not a number of decibels")[0])


def factor(text: str) -> float:
    """A factor: any finite number, which may be negative or 0."""
    number, in_decibels = _parts(text, "is not a number")
    if in_decibels:
        raise ValueError("is in decibels")
    if number == -math.inf:
        raise ValueError("is not a number")
    return _finite(number)


def from_decibels(number: float) -> float:
    """10^(dB/20)."""
    try:
        return _finite(10.0 ** (number / 20.0))
    except OverflowError:
        raise ValueError("is too large") from None


def points(text: str) -> list[tuple[float, float]]:
    """Times, s, and factors from `0:-inf 2:0dB 1:58:0.5`: each point TIME:GAIN, with spaces or commas between them."""
    words = [word for word in re.split(r"[\s,]+", text.strip()) if word]
    if not words:
        raise ValueError("has no points")
    found = []
    for word in words:
        time, colon, level = word.rpartition(":")
        if not colon:
            raise ValueError(f"has the point {word!r}, which is not TIME:GAIN")
        try:
            found.append((seconds(time), gain(level)))
        except ValueError as e:
            wrong = time if str(e) in ("is not a time", "is too long") else level
            raise ValueError(f"has the point {word!r}, in which {wrong!r} {e}") from None
    return found


def _parts(text: str, complaint: str) -> tuple[float, bool]:
    match = _GAIN.fullmatch(text.strip())
    if match is None:
        raise ValueError(complaint)
    return float(match[1]), bool(match[2])


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError("is too large")
    return number
