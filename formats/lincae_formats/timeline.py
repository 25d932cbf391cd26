"""Seconds and frames: the frame nearest to a time, and the length of what is cut, shifted or joined."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from numbers import Real

from .errors import LatError
from .header import Header

MAX_OFFSET = 360_000  # s; 100 hours


@dataclass(frozen=True)
class Position:
    """A time and the frame boundary nearest to it.

    Attributes:
        frame: Number of the frame that begins there; negative before the beginning.
        asked: The time asked for, s.
        seconds: The time that frame begins at, s.
        exact: Whether the two are less than half a sample apart.
    """

    frame: int
    asked: float
    seconds: float
    exact: bool


def nearest(header: Header, seconds: float, name: str = "latents") -> Position:
    """The frame boundary nearest to a time, halves upwards.

    Raises:
        LatError: the time is not a finite number.
    """
    if not isinstance(seconds, Real) or not math.isfinite(seconds):
        raise LatError(f"{name}: {seconds!r} is not a time in seconds")
    per_frame = Fraction(header.samples_per_frame, header.model_sample_rate)
    asked = Fraction(float(seconds))
    frame = math.floor(asked / per_frame + Fraction(1, 2))
    used = frame * per_frame
    return Position(frame, float(seconds), float(used), abs(asked - used) * header.sample_rate * 2 < 1)


def offset(header: Header, seconds: float, name: str = "latents") -> Position:
    """A shift in time as a number of frames, negative for earlier.

    Raises:
        LatError: the time is not a number, or beyond 100 hours.
    """
    position = nearest(header, seconds, name)
    if abs(seconds) > MAX_OFFSET:
        raise LatError(f"{name}: an offset of {seconds:g} s is beyond {MAX_OFFSET // 3600} hours", "move it by less")
    return position


def span(
    header: Header, start: float | None, end: float | None, name: str = "latents", *, beyond: bool = False
) -> tuple[int, int]:
    """The frames `[first, last)` nearest to `[start, end)` seconds; by default everything.

    Args:
        header: Header of the latents.
        start: Beginning, s.
        end: End, s.
        name: What error messages call it.
        beyond: Whether an end after the end of the audio is moved to that end.

    Raises:
        LatError: the span holds no frame, or is not within the audio.
    """
    first = 0.0 if start is None else start
    last = header.duration if end is None else end
    if beyond and isinstance(last, Real):
        last = min(last, header.duration)
    begin, stop = nearest(header, first, name).frame, nearest(header, last, name).frame
    whole = Fraction(header.frames * header.samples_per_frame, header.model_sample_rate)
    if first < 0 or last > float(whole):
        raise LatError(f"{name}: {first:g} to {last:g} s is not within 0 to {header.duration:.6g} s")
    if last >= header.duration:
        stop = header.frames
    if not begin < stop and first >= header.duration:
        raise LatError(
            f"{name} holds no frame from {first:g} s on: it ends at {header.duration:.6g} s", "begin earlier"
        )
    if not begin < stop:
        raise LatError(f"{name}: {first:g} to {last:g} s holds no frame", "ask for a longer part")
    return begin, stop


def cut(header: Header, start: int, stop: int) -> Header:
    """The header of the frames `[start, stop)`: whole frames, less what the last one lacks at the end of the audio."""
    samples = (stop - start) * header.frame_samples
    if stop == header.frames:
        samples = Fraction(header.num_samples) - start * header.frame_samples
    return header.with_length(samples, stop - start)


def shifted(header: Header, frames: int, name: str = "latents") -> Header:
    """The header after a shift by `frames` frames; a negative shift cuts the beginning off.

    Raises:
        LatError: nothing is left.
    """
    if frames < 0:
        if -frames >= header.frames:
            raise LatError(f"{name}: moved to before its beginning, nothing of it is left", "move it by less")
        return cut(header, -frames, header.frames)
    samples = math.floor(frames * header.frame_samples) + header.num_samples
    return header.with_length(Fraction(samples), header.frames + frames)


def joined(headers: Sequence[Header]) -> Header:
    """The header of parts one after the other: every part but the last takes whole frames."""
    return replace(
        shifted(headers[-1], sum(header.frames for header in headers[:-1])),
        channels=max(header.channels for header in headers),
        model=min(header.model for header in headers),
    )


def silence_after(header: Header) -> float:
    """Seconds between the end of the audio and the end of its last frame; 0 below a sample."""
    samples = header.frames * header.frame_samples - header.num_samples
    return float(samples / header.sample_rate) if samples >= 1 else 0.0


def absolute(
    header: Header, start: float | None, end: float | None, duration: float | None = None, name: str = "latents"
) -> tuple[float | None, float | None]:
    """Start and end of a part in seconds from the beginning of the audio; None where not given.

    Args:
        header: Of the whole.
        start: Start, s; negative counts from the end of the audio, at most back to its beginning.
        end: End, s; negative counts from the end of the audio.
        duration: Length of the part, s, in place of an end.
        name: What error messages call the whole.

    Raises:
        LatError: the end is not after the start.
    """
    length = header.duration
    first = max(0.0, length + start) if start is not None and start < 0 else start
    last = length + end if end is not None and end < 0 else end
    if duration is not None:
        last = (first or 0.0) + duration
    if last is not None and last <= (first or 0.0):
        raise LatError(f"{name}: the end, {last:.6g} s, is not after the start, {first or 0:.6g} s", "use another part")
    return first, last
