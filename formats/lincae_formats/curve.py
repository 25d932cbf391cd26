"""Gains that change over time: curves and fades."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from .errors import LatError, NonFiniteError
from .header import Header

MAX_POINTS = 1000
SHAPES = ("linear", "sine", "log", "exp", "s-curve")


class Gain(Protocol):
    """A factor as a function of time."""

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """The factors at those times, float64."""

    def entry(self) -> dict[str, Any]:
        """Its entry in a history."""


@dataclass(frozen=True)
class Curve:
    """A gain curve: straight lines between points, constant before the first and after the last.

    Two points at the same time make a step. The curve is evaluated in the middle of each frame.

    Attributes:
        points: Times, s, never decreasing, and factors.
        decibels: Whether the lines are straight in decibels instead of in the factor; every factor is then above 0.

    Raises:
        LatError: no points, too many, decreasing times, or decibels of a factor that is not above 0.
        NonFiniteError: a time or factor is NaN or infinite, or beyond float32.
    """

    points: Sequence[tuple[float, float]]
    decibels: bool = False
    _times: np.ndarray = field(init=False, repr=False, compare=False)
    _values: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Checks the points."""
        points = tuple((float(t), float(f)) for t, f in self.points)
        if not 1 <= len(points) <= MAX_POINTS:
            raise LatError(f"a curve has {len(points)} points, must have 1 to {MAX_POINTS}")
        for t, f in points:
            if not math.isfinite(t) or not math.isfinite(f) or abs(f) > 3.4e38:
                raise NonFiniteError(f"a curve's point is {t:g}:{f:g}", "use finite numbers")
            if self.decibels and f <= 0:
                raise LatError(f"a curve straight in decibels cannot reach the factor {f:g}", "end it at -80dB")
        for (a, _), (b, _) in pairwise(points):
            if b < a:
                raise LatError(f"a curve goes back from {a:g} s to {b:g} s", "put its points in the order of time")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "_times", np.array([t for t, _ in points]))
        values = np.array([f for _, f in points])
        object.__setattr__(self, "_values", np.log(values) if self.decibels else values)

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """The factors at those times, float64."""
        values = np.interp(seconds, self._times, self._values)
        return np.exp(values) if self.decibels else values

    def entry(self) -> dict[str, Any]:
        """`{"op": "gain", "curve": [[s, factor], ...]}`, with `"straight_in": "dB"` where it is."""
        points = [list(point) for point in self.points]
        return {"op": "gain", "curve": points, **({"straight_in": "dB"} if self.decibels else {})}


@dataclass(frozen=True)
class Fade:
    """From silence at the beginning, and to silence at the end.

    Attributes:
        duration: Length of what is faded, s.
        fade_in: How long it rises, s; 0 for not at all.
        fade_out: How long it falls, s.
        shape: One of `SHAPES`; see `shaped`.

    Raises:
        LatError: a negative or endless time, or an unknown shape.
    """

    duration: float
    fade_in: float = 0.0
    fade_out: float = 0.0
    shape: str = "linear"

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name, value in (("in", self.fade_in), ("out", self.fade_out)):
            if not (math.isfinite(value) and value >= 0):
                raise LatError(f"a fade {name} of {value!r} s", "use seconds, 0 or more")
        if self.shape not in SHAPES:
            raise LatError(f"a fade's shape is {self.shape!r}", f"use one of {', '.join(SHAPES)}")

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """The factors at those times, float64."""
        factors = np.ones_like(seconds)
        for length, since in ((self.fade_in, seconds), (self.fade_out, self.duration - seconds)):
            if length > 0:
                with np.errstate(over="ignore"):
                    part = np.clip(since / length, 0.0, 1.0)
                factors *= shaped(part, self.shape)
        return factors

    def entry(self) -> dict[str, Any]:
        """`{"op": "fade", "in": s, "out": s, "shape"}`."""
        return {"op": "fade", "in": self.fade_in, "out": self.fade_out, "shape": self.shape}


def factors(gain: Gain, header: Header, start: int, stop: int) -> np.ndarray:
    """The float32 factors of the frames `[start, stop)`: those in the middle of each."""
    per_frame = Fraction(header.samples_per_frame, header.model_sample_rate)
    return gain.at((np.arange(start, stop) + 0.5) * float(per_frame)).astype(np.float32)


def shaped(part: np.ndarray, shape: str) -> np.ndarray:
    """The factor of a fade at a part of its length, both from 0 to 1.

    `linear`; `sine`: a quarter of a sine, equal power in a crossfade; `s-curve`: half a cosine; `exp`: even in decibels
    from -60 dB; `log`: the same upside down, fast at first.
    """
    if shape == "sine":
        return np.sin(part * (np.pi / 2))
    if shape == "s-curve":
        return 0.5 - 0.5 * np.cos(part * np.pi)
    if shape == "exp":
        return np.where(part > 0, 10.0 ** (3 * (part - 1)), 0.0)
    if shape == "log":
        return 1 - np.where(part < 1, 10.0 ** (-3 * part), 0.0)
    return part
