"""The schema of an arrangement: a mix of `.lat` files described in YAML. Unknown keys are errors."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from lincae_core.yaml_schema import ConflictError, made_of
from lincae_formats import Curve, LatError
from lincae_formats.header import MAX_OFFSET, parse_gain, parse_offset, parse_points

MASTER = "master"
MAX_TRACKS = 1024
MAX_BUSES = 256
MAX_NESTED = 32  # longest chain of buses
MAX_GAIN = 1e6  # 120 dB; a larger gain is a typing error


def _number_or_text(value: Any, what: str) -> str | float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} is not {what}")
    if isinstance(value, int) and abs(value) > 2**63:
        raise ValueError("too large")
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"NaN is not {what}")
    return value


def _gain(value: Any) -> float:
    """A factor from `-6dB`, `-inf`, or a number of 0 or more."""
    given = _number_or_text(value, "a gain such as -6dB")
    if isinstance(given, str):
        try:
            factor = parse_gain(given)
        except ValueError as e:
            raise ValueError(f"{given!r} {e}; write decibels such as -6dB, or a factor such as 0.5") from None
    else:
        factor = 0.0 if given == -math.inf else float(given)
    if factor < 0:
        raise ValueError(f"{given} is a factor below 0; write {given}dB for decibels, or invert: true to flip the sign")
    if factor > MAX_GAIN:
        raise ValueError(f"{given} is too large, at most 120dB")
    return factor


def _offset(value: Any) -> float:
    """Seconds, positive or negative, from `1:23.5`, `90s` or a number."""
    given = _number_or_text(value, "a time such as 1:23.5")
    try:
        seconds = parse_offset(given) if isinstance(given, str) else float(given)
    except ValueError as e:
        raise ValueError(f"{given!r} {e}; write seconds, or 1:23.5") from None
    if not abs(seconds) <= MAX_OFFSET:
        raise ValueError(f"{given} is beyond {MAX_OFFSET // 3600} hours")
    return seconds


def _points(value: Any) -> list[tuple[float, float]]:
    """Breakpoints from `"0:-inf 2:0dB"`, a list of such points, or a list of pairs of a time and a gain."""
    try:
        if isinstance(value, str):
            return parse_points(value)
        if isinstance(value, list) and all(isinstance(point, str) for point in value):
            return parse_points(" ".join(value))
    except ValueError as e:
        raise ValueError(f"the curve {value!r} {e}") from None
    if isinstance(value, list) and all(isinstance(point, list) and len(point) == 2 for point in value):
        return [(_offset(time), _gain(level)) for time, level in value]
    raise ValueError('write a curve as text: "0:-inf 2:0dB 58:0dB 60:-inf"')


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


def _as_part(value: Any) -> Any:
    return {"file": value} if isinstance(value, str) else value


Gain = Annotated[float, BeforeValidator(_gain)]
Offset = Annotated[float, BeforeValidator(_offset)]
Time = Annotated[Offset, Field(ge=0)]
Points = Annotated[list[tuple[Annotated[float, Field(ge=0)], float]], BeforeValidator(_points)]
Names = Annotated[list[str], BeforeValidator(_as_list)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
FileName = Annotated[
    str, Field(max_length=64), made_of(r"[A-Za-z0-9][A-Za-z0-9 ._-]*", "letters, digits, spaces and . _ -")
]


class Section(BaseModel):
    """Base of all parts of an arrangement."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Volume(Section):
    """The volume of a track, a bus or the master. Times count from the beginning of the song."""

    gain: Gain = 1.0
    invert: bool = False
    curve: Points | None = None
    lines: Literal["factor", "db"] = Field("factor", description="unit in which the curve is interpolated")
    fade_in: Time = 0.0
    fade_out: Time = 0.0
    fade_shape: Literal["linear", "sine", "log", "exp", "s-curve"] = "linear"

    @property
    def factor(self) -> float:
        """The constant gain as a factor; negative with `invert`."""
        return -self.gain if self.invert else self.gain

    @property
    def automation(self) -> Curve | None:
        """The curve, or None."""
        return None if self.curve is None else Curve(self.curve, decibels=self.lines == "db")

    @model_validator(mode="after")
    def _check_curve(self) -> Volume:
        try:
            _ = self.automation
        except LatError as e:
            raise ConflictError("curve", str(e)) from None
        return self


class Part(Section):
    """A file to subtract from a track's file. Its offset counts from the beginning of the track's file."""

    file: str = Field(min_length=1)
    gain: Gain = 1.0
    offset: Offset = 0.0


class Track(Volume):
    """A file, or a part of it, and its position in the song."""

    file: str = Field(min_length=1)
    offset: Offset = Field(0.0, description="position of its beginning in the song")
    start: Time | None = Field(None, description="first second of the file to use")
    end: Time | None = None
    pan: float | None = Field(None, ge=-1, le=1, description="-1 is left, 0 centre, 1 right")
    subtract: Annotated[list[Annotated[Part, BeforeValidator(_as_part)]], BeforeValidator(_as_list)] = []
    mute: bool = False
    bus: str | None = None

    @model_validator(mode="after")
    def _check_order(self) -> Track:
        if self.end is not None and self.end <= (self.start or 0.0):
            what = f"{self.end:g} s is not after the start, {self.start or 0:g} s"
            raise ConflictError("end", f"{what}; give a later one")
        return self


class Bus(Volume):
    """A sum of tracks and other buses."""

    mute: bool = False
    bus: str | None = None


class Variant(Section):
    """The same song with other mutes and gains. Names are those of tracks and buses."""

    mute: Names = []
    unmute: Names = []
    solo: Names = Field([], description="mute all tracks except these and those of these buses")
    gain: dict[str, Gain] = Field({}, description="multiplies the gain of a track, a bus or `master`")


class Arrangement(Section):
    """A song."""

    version: Literal[1] = 1
    name: FileName | None = None
    sample_rate: int | None = Field(None, ge=100, le=10_000_000, description="Hz; needed if the files' rates differ")
    length: Time | None = Field(None, gt=0, description="default: the end of the last track")
    master: Volume = Volume()
    buses: dict[Name, Bus] = Field({}, max_length=MAX_BUSES)
    tracks: dict[Name, Track] = Field(min_length=1, max_length=MAX_TRACKS)
    variants: dict[FileName, Variant] = Field({}, max_length=MAX_TRACKS)
