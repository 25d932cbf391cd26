"""What an arrangement consists of, in words: the graph that a dry run prints."""

from __future__ import annotations

from dataclasses import dataclass, field

from lincae_formats.levels import decibels
from lincae_formats.notation import clock
from lincae_formats.timeline import Position

from .schema import Bus, Fades, Part, Track


@dataclass
class Outline:
    """One line and what it is made of."""

    label: str
    children: list[Outline] = field(default_factory=list)


def gain_words(factor: float) -> str:
    """`-6.0 dB`, `silent`, `inverted`; nothing where the gain is 1."""
    words = ["silent" if factor == 0 else f"{decibels(abs(factor)):+.1f} dB"] if abs(factor) != 1 else []
    return ", ".join(words + (["inverted"] if factor < 0 else []))


def volume_words(part: Fades, factor: float) -> list[str]:
    """What a volume does."""
    words = [gain_words(factor)]
    words += [f"curve of {len(part.curve)} points"] if part.curve else []
    words += [f"fade in {clock(part.fade_in)}"] if part.fade_in else []
    words += [f"fade out {clock(part.fade_out)}"] if part.fade_out else []
    return words


def track_outline(name: str, track: Track, factor: float, begin: Position, muted: bool, duration: float) -> Outline:
    """A track: its file, where it is heard, and what becomes of it."""
    words = [f"from {clock(round(track.start or 0, 3))}"] if track.start else []
    words += [f"to {clock(round(track.end, 3))}"] if track.end is not None else []
    words += [f"at {clock(round(begin.seconds, 3))}"] if begin.frame else []
    label = _label(
        f"{name}: {track.file}", [*words, clock(round(duration, 3)) + " long"], volume_words(track, factor), muted
    )
    return Outline(label, [_part(part) for part in track.subtract])


def bus_outline(name: str, bus: Bus, factor: float, muted: bool, children: list[Outline]) -> Outline:
    """A bus and what feeds it."""
    return Outline(_label(f"bus {name}", [], volume_words(bus, factor), muted), children)


def _part(part: Part) -> Outline:
    at = [f"at {clock(part.offset)}"] if part.offset else []
    return Outline(_label(f"less {part.file}", at, [gain_words(part.gain)], False))


def _label(name: str, words: list[str], volume: list[str], muted: bool) -> str:
    every = [word for word in (*words, *volume, "muted" if muted else "") if word]
    return f"{name}  ({', '.join(every)})" if every else name
