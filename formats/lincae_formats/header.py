"""What a `.lat` file says beside its numbers: root attributes, groups of dimensions, history, tags; its time as frames.

And times and gains as text, as they are written on the command line and in arrangements.
"""

import functools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Any, NamedTuple

from .errors import HeaderError, LatError, ShapeError

FORMAT = "lincae-lat"
FORMAT_VERSION = "1.0"
MAJOR = 1

MODEL_SAMPLE_RATE = 44100  # Hz, where the attribute is missing
MAX_CHANNELS = 64
MAX_LATENT_DIM = 4096
MAX_TEXT = 255  # bytes of UTF-8 in `model` and `writer`
MAX_GROUPS_TEXT = 4096  # bytes of JSON in `groups`
CHUNK_FRAMES = 256
MAX_OFFSET = 360_000  # s; 100 hours
MAX_HISTORY = 256 * 1024  # bytes of JSON
MAX_HISTORY_ATTRIBUTE = 4096  # bytes of a history that is an attribute; a longer one is a dataset
MAX_TAGS = 64
MAX_TAG_NAME = 64  # bytes
MAX_TAG_VALUE = 1024  # bytes

# The root attributes that make a header: type, value where the attribute is missing, smallest and largest integer.
ATTRIBUTES: dict[str, tuple[type, Any, int, int]] = {
    "sample_rate": (int, None, 100, 10_000_000),
    "num_samples": (int, None, 1, 2**48),
    "samples_per_frame": (int, None, 1, 2**20),
    "model": (str, None, 0, 0),
    "model_fingerprint": (str, None, 0, 0),
    "model_sample_rate": (int, MODEL_SAMPLE_RATE, 100, 10_000_000),
    "latent_scale": (float, 1.0, 0, 0),
}
_SHAPE_RANGES = {"channels": (1, MAX_CHANNELS), "latent_dim": (1, MAX_LATENT_DIM)}
_GROUP_RANGES = {**dict.fromkeys(("count", "size", "slots"), (1, MAX_LATENT_DIM)), "grid": (1, 64)}
_LEAST_STEP, _MOST_STEP = 1e-4, 64.0  # of the relative steps

_DEPTHS = 16, 8, 4, 2, 1, 0  # of nested histories: so many are kept where they fit
_ELIDED = {"op": "elided"}
_GAIN_TAGS = ("replaygain_", "r128_", "itunnorm")
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")

_NUMBER = r"(?:\d+\.?\d*|\.\d+)"
_UNITS = rf"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:({_NUMBER})s?)?"
_CLOCK = r"(?:(\d+):)?(\d+):(\d{1,2}(?:\.\d*)?)"
_GAIN = rf"(?i)([+-]?{_NUMBER}(?:e[+-]?\d+)?|-inf)(\s*dB)?"
_MOST_SECONDS = 10**9

Entry = dict[str, Any]  # of a history


class Position(NamedTuple):
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


@dataclass(frozen=True, slots=True)
class Group:
    """A run of equal groups of latent dimensions; the numbers of one group share a step per channel and frame.

    Attributes:
        count: Number of groups in the run.
        size: Dimensions in each.
        relative_step: Step of the integers, as a fraction of the group's RMS (or of its level, see `level`).
        grid: Step codes are multiples of this; one code is 1.5 dB.
        level: Whether each group of the run has a level: the RMS of a band of the audio, beside its numbers.
        slots: This many consecutive groups are one after the other in time, within the latent frame; their step codes
            are stored as differences from slot to slot.
    """

    count: int
    size: int
    relative_step: float
    grid: int = 1
    level: bool = False
    slots: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "relative_step", float(self.relative_step))
        object.__setattr__(self, "level", bool(self.level))


@dataclass(frozen=True, slots=True)
class Header:
    """The root attributes and the shape of one `.lat` file, and the arithmetic of its time.

    Attributes:
        sample_rate: Rate of the audio, Hz.
        num_samples: Exact length of the audio at `sample_rate`, samples.
        model: Name of the model that encoded it.
        model_fingerprint: `sha256:` and 64 hexadecimal digits.
        channels: Audio channels.
        latent_dim: Numbers per channel and frame.
        model_sample_rate: Rate the frames count in, Hz.
        samples_per_frame: Samples at `model_sample_rate` that one frame covers.
        latent_scale: Factor the model's raw latents were multiplied by.
        groups: How the latent dimensions are grouped, in order; empty where the model has no groups.
    """

    sample_rate: int
    num_samples: int
    model: str
    model_fingerprint: str
    channels: int = 1
    latent_dim: int = 64
    model_sample_rate: int = MODEL_SAMPLE_RATE
    samples_per_frame: int = 4096
    latent_scale: float = 1.0
    groups: tuple[Group, ...] = ()

    @property
    def frames(self) -> int:
        """Number of frames: ceil(num_samples * model_sample_rate / (sample_rate * samples_per_frame))."""
        return -(-self.num_samples * self.model_sample_rate // (self.sample_rate * self.samples_per_frame))

    @property
    def duration(self) -> float:
        """Length of the audio, s."""
        return self.num_samples / self.sample_rate

    @property
    def frame_seconds(self) -> Fraction:
        """Length of a frame, s, exactly."""
        return Fraction(self.samples_per_frame, self.model_sample_rate)

    @property
    def frame_samples(self) -> Fraction:
        """Samples at `sample_rate` that one frame covers, exactly."""
        return self.frame_seconds * self.sample_rate

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(channels, latent_dim, frames)`."""
        return self.channels, self.latent_dim, self.frames

    @property
    def chunk_frames(self) -> int:
        """Frames per chunk of latents: the frames split evenly over ceil(frames / 256) chunks."""
        return even_split(self.frames, CHUNK_FRAMES)

    @property
    def group_count(self) -> int:
        """G, the number of groups; 0 without groups."""
        return sum(group.count for group in self.groups)

    @property
    def level_count(self) -> int:
        """GL, the number of groups that have a level."""
        return sum(group.count for group in self.groups if group.level)

    @property
    def default_dtype(self) -> str:
        """`int8` where the latents have groups, `float16` where they have none."""
        return "int8" if self.groups else "float16"

    # --- times and frames; `name` is what error messages call the latents

    @property
    def silence_after(self) -> float:
        """Seconds between the end of the audio and the end of its last frame; 0 below a sample."""
        samples = self.frames * self.frame_samples - self.num_samples
        return float(samples / self.sample_rate) if samples >= 1 else 0.0

    def nearest(self, seconds: float, name: str = "latents") -> Position:
        """The frame boundary nearest to a time, halves upwards.

        Raises:
            LatError: the time is not a finite number.
        """
        if not isinstance(seconds, Real) or not math.isfinite(seconds):
            raise LatError(f"{name}: {seconds!r} is not a time in seconds")
        asked = Fraction(float(seconds))
        frame = math.floor(asked / self.frame_seconds + Fraction(1, 2))
        used = frame * self.frame_seconds
        return Position(frame, float(seconds), float(used), abs(asked - used) * self.sample_rate * 2 < 1)

    def offset(self, seconds: float, name: str = "latents") -> Position:
        """A shift in time as a number of frames, negative for earlier.

        Raises:
            LatError: the time is not a number, or beyond 100 hours.
        """
        position = self.nearest(seconds, name)
        if abs(seconds) > MAX_OFFSET:
            raise LatError(f"{name}: an offset of {seconds:g} s is beyond 100 hours", "move it by less")
        return position

    def span(
        self, start: float | None, end: float | None, name: str = "latents", *, beyond: bool = False
    ) -> tuple[int, int]:
        """The frames `[first, last)` nearest to `[start, end)` seconds; by default everything.

        With `beyond`, an end after the end of the audio is moved to that end.

        Raises:
            LatError: the span holds no frame, or is not within the audio.
        """
        first, last = 0.0 if start is None else start, self.duration if end is None else end
        if beyond and isinstance(last, Real):
            last = min(last, self.duration)
        begin, stop = self.nearest(first, name).frame, self.nearest(last, name).frame
        if first < 0 or last > float(self.frames * self.frame_seconds):
            raise LatError(f"{name}: {first:g} to {last:g} s is not within 0 to {self.duration:.6g} s")
        if last >= self.duration:
            stop = self.frames
        if begin < stop:
            return begin, stop
        if first >= self.duration:
            what = f"{name} holds no frame from {first:g} s on: it ends at {self.duration:.6g} s"
            raise LatError(what, "begin earlier")
        raise LatError(f"{name}: {first:g} to {last:g} s holds no frame", "ask for a longer part")

    def absolute(
        self, start: float | None, end: float | None, duration: float | None = None, name: str = "latents"
    ) -> tuple[float | None, float | None]:
        """Start and end of a part in seconds from the beginning of the audio; None where not given.

        Negative ones count from the end of the audio; a `duration`, s, stands in place of an end.

        Raises:
            LatError: the end is not after the start.
        """
        first = max(0.0, self.duration + start) if start is not None and start < 0 else start
        last = self.duration + end if end is not None and end < 0 else end
        if duration is not None:
            last = (first or 0.0) + duration
        if last is not None and last <= (first or 0.0):
            ends = f"the end, {last:.6g} s, is not after the start, {first or 0:.6g} s"
            raise LatError(f"{name}: {ends}", "use another part")
        return first, last

    def with_length(self, samples: Fraction, frames: int) -> "Header":
        """This header with the smallest whole length of at least `samples` that still makes exactly `frames` frames."""
        least = math.floor((frames - 1) * self.frame_samples) + 1
        whole = max(1, least, min(math.ceil(samples), math.floor(frames * self.frame_samples)))
        return replace(self, num_samples=whole)

    def part(self, start: int, stop: int) -> "Header":
        """The header of the frames `[start, stop)`: whole frames, less what the last lacks at the end of the audio."""
        samples = (stop - start) * self.frame_samples
        if stop == self.frames:
            samples = self.num_samples - start * self.frame_samples
        return self.with_length(samples, stop - start)

    def shifted(self, frames: int, name: str = "latents") -> "Header":
        """The header after a shift by `frames` frames; a negative shift cuts the beginning off.

        Raises:
            LatError: nothing is left.
        """
        if frames >= 0:
            samples = math.floor(frames * self.frame_samples) + self.num_samples
            return self.with_length(Fraction(samples), self.frames + frames)
        if -frames >= self.frames:
            raise LatError(f"{name}: moved to before its beginning, nothing of it is left", "move it by less")
        return self.part(-frames, self.frames)

    # --- checks

    def validate(self, name: str = "header") -> None:
        """Checks types and ranges.

        Raises:
            HeaderError: an attribute has the wrong type or is out of range.
            ShapeError: the number of channels or latent dimensions is out of range, or the groups do not add up.
        """
        for key, (kind, _, low, high) in ATTRIBUTES.items():
            if kind is int:
                check_integer(name, key, getattr(self, key), low, high)
        if self.frame_samples < 1:
            raise HeaderError(f"{name}: a frame covers less than one sample at {self.sample_rate} Hz")
        check_text(name, "model", self.model)
        if not isinstance(self.model_fingerprint, str) or not _FINGERPRINT.fullmatch(self.model_fingerprint):
            raise HeaderError(f"{name}: model_fingerprint is not 'sha256:' and 64 hexadecimal digits")
        if type(self.latent_scale) is not float or not 0 < self.latent_scale < math.inf:
            raise HeaderError(f"{name}: latent_scale must be a finite float above 0, not {self.latent_scale!r}")
        for key, (low, high) in _SHAPE_RANGES.items():
            check_integer(name, key, getattr(self, key), low, high, ShapeError)
        check_groups(self.groups, name)
        total = sum(group.count * group.size for group in self.groups)
        if self.groups and total != self.latent_dim:
            raise ShapeError(f"{name}: the groups have {total} dimensions, latent_dim is {self.latent_dim}")


def even_split(frames: int, most: int) -> int:
    """Frames per chunk when frames are split evenly over as few chunks of at most `most` frames as possible."""
    return -(-frames // -(-frames // most))


def check_text(name: str, attribute: str, value: object, most: int = MAX_TEXT) -> None:
    """Raises HeaderError unless `value` is 1 to `most` bytes of printable text."""
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value.encode()) <= most:
        raise HeaderError(f"{name}: {attribute} must be 1 to {most} bytes of printable text")


def check_integer(
    name: str, what: str, value: object, low: int, high: int, error: type[LatError] = HeaderError
) -> None:
    """Raises `error` unless `value` is an integer from `low` to `high`."""
    if type(value) is not int or not low <= value <= high:
        raise error(f"{name}: {what} is {value!r}, must be an integer from {low} to {high}")


# --- groups


@functools.lru_cache(maxsize=256)
def check_groups(groups: tuple[Group, ...], name: str) -> None:
    """Checks the types and ranges of groups.

    Raises:
        HeaderError: a number has the wrong type or is out of range, or there are too many runs.
    """
    for group in groups:
        for key, (low, high) in _GROUP_RANGES.items():
            check_integer(name, f"the {key} of a group", getattr(group, key), low, high)
        if group.count % group.slots:
            raise HeaderError(f"{name}: a run of {group.count} groups cannot have {group.slots} slots")
        if not _LEAST_STEP <= group.relative_step <= _MOST_STEP:  # false for NaN
            what = f"the relative step of a group is {group.relative_step!r}, must be {_LEAST_STEP} to {_MOST_STEP}"
            raise HeaderError(f"{name}: {what}")
    if len(groups_text(groups)) > MAX_GROUPS_TEXT:
        raise HeaderError(f"{name}: the groups take more than {MAX_GROUPS_TEXT} bytes of JSON")


def groups_text(groups: tuple[Group, ...]) -> str:
    """Groups as they are stored: compact JSON, `[[count,size,relative_step,grid,level,slots],...]`."""
    rows = []
    for g in groups:
        step = int(g.relative_step) if g.relative_step == int(g.relative_step) else g.relative_step
        rows.append([g.count, g.size, step, g.grid, int(g.level), g.slots])
    return _compact(rows)


@functools.lru_cache(maxsize=256)
def parse_groups(text: str, name: str) -> tuple[Group, ...]:
    """Groups from their JSON.

    Raises:
        HeaderError: it is not JSON, not a list of `[count, size, relative_step, grid, level, slots]`, or out of range.
    """
    try:
        rows = json.loads(text)
        if not rows or any(len(r) != 6 or r[4] not in (0, 1) or type(r[2]) not in (int, float) for r in rows):
            raise TypeError
        groups = tuple(Group(*row) for row in rows)
    except (ValueError, RecursionError, TypeError, LookupError, OverflowError) as e:
        what = "groups must be a JSON list of [count, size, relative_step, grid, level, slots]"
        raise HeaderError(f"{name}: {what}") from e
    check_groups(groups, name)
    return groups


# --- history


def dump_history(history: Iterable[Entry], name: str = "history") -> bytes:
    """The canonical JSON of a history: ASCII, sorted keys, no spaces.

    Raises:
        HeaderError: an entry is not a JSON object with a string `op`, or the whole is beyond 256 KiB.
    """
    entries = _check_entries(list(history), name)
    try:
        text = json.dumps(entries, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as e:
        raise HeaderError(f"{name}: the history is not JSON: {e}") from e
    check_integer(name, "the size of the history", len(text), 0, MAX_HISTORY)
    return text


def load_history(data: bytes, name: str) -> tuple[Entry, ...]:
    """Parses a stored history.

    Raises:
        HeaderError: it is too long, not JSON, or not a list of objects with a string `op`.
    """
    check_integer(name, "the size of the history", len(data), 0, MAX_HISTORY)
    try:
        entries = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as e:
        raise HeaderError(f"{name}: the history is not JSON ({e})") from e
    return tuple(_check_entries(entries, name))


def bounded(history: Iterable[Entry]) -> tuple[Entry, ...]:
    """The same history with its oldest parts replaced by `{"op": "elided"}` until it fits.

    Nested histories go first, the deepest before the others; then the oldest entries.
    """
    entries = kept = list(history)
    for depth in _DEPTHS:
        kept = [_prune(entry, depth) for entry in entries]
        if len(_compact(kept)) <= MAX_HISTORY:
            return tuple(kept)
    newest = kept
    while len(_compact(kept)) > MAX_HISTORY:
        newest = newest[(len(newest) + 1) // 2 :]
        kept = [dict(_ELIDED), *newest]
    return tuple(kept)


def _prune(entry: Entry, depth: int) -> Entry:
    """`entry` with the operands' histories cut below `depth` levels."""
    operands = entry.get("operands")
    if not isinstance(operands, list):
        return entry
    pruned = []
    for operand in operands:
        nested = operand.get("history") if isinstance(operand, dict) else None
        if isinstance(nested, list) and (nested or "steps" in operand):
            operand = dict(operand)
            if depth:
                operand["history"] = [_prune(inner, depth - 1) for inner in nested if isinstance(inner, dict)]
            else:
                operand.pop("steps", None)
                operand["history"] = [dict(_ELIDED)]
        pruned.append(operand)
    return {**entry, "operands": pruned}


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _check_entries(entries: Any, name: str) -> list[Entry]:
    if isinstance(entries, list) and all(isinstance(e, dict) and isinstance(e.get("op"), str) for e in entries):
        return entries
    raise HeaderError(f"{name}: the history is not a JSON list of objects with a string 'op'")


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


# --- tags


def check_tags(tags: Mapping[str, str], name: str) -> None:
    """Raises HeaderError unless the tags are few, short and text."""
    check_integer(name, "the number of tags", len(tags), 0, MAX_TAGS)
    for key, value in tags.items():
        check_text(name, f"the name of the tag {key!r}", key, MAX_TAG_NAME)
        try:
            fits = "\0" not in value and len(value.encode()) <= MAX_TAG_VALUE
        except (TypeError, AttributeError, UnicodeEncodeError):
            fits = False
        if not fits:
            raise HeaderError(f"{name}: tag {key!r} must be text of at most {MAX_TAG_VALUE} bytes without NUL")


def common_tags(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The tags that all operands of a sum have, with the same value; without those about the level."""
    first, *others = tags
    return without_gain_tags({key: value for key, value in first.items() if all(o.get(key) == value for o in others)})


def without_gain_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags without ReplayGain and R128, which are wrong once the level has changed."""
    return {key: value for key, value in tags.items() if not key.lower().startswith(_GAIN_TAGS)}


# --- times and gains as text. These raise ValueError, whose message follows the text: `x` "is not a time"


def parse_seconds(text: str) -> float:
    """Seconds from `83.5`, `90s`, `1:23.5`, `1:02:03`, `2m`, `1h2m3s`."""
    clock, units = (re.fullmatch(pattern, text, re.ASCII) for pattern in (_CLOCK, _UNITS))
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


def parse_offset(text: str) -> float:
    """Seconds that may be negative: `-2.5`, `-0:30`, `1:23.5`, `+4`."""
    return -parse_seconds(text[1:]) if text[:1] == "-" else parse_seconds(text.removeprefix("+"))


def clock(value: float) -> str:
    """Seconds as `1:23.5`, `1:02:03` or `-0:02`, which `parse_offset` parses to the same number."""
    minutes, rest = divmod(abs(Decimal(repr(float(value)))), 60)
    hours, minutes = divmod(minutes, 60)
    whole, _, part = f"{rest:f}".partition(".")
    shown = f"{int(whole):02d}" + (f".{part.rstrip('0')}" if part.strip("0") else "")
    sign = "-" if value < 0 else ""
    return f"{sign}{hours}:{int(minutes):02d}:{shown}" if hours else f"{sign}{minutes}:{shown}"


def is_gain(text: str) -> bool:
    """Whether a text has the form of a gain."""
    return re.fullmatch(_GAIN, text.strip(), re.ASCII) is not None


def parse_gain(text: str) -> float:
    """A factor from `0.5`, `-1`, `-6dB`, or `-inf` for silence."""
    number, in_decibels = _number(text, "is not a gain")
    return from_decibels(number) if in_decibels or number == -math.inf else number


def parse_decibels(text: str) -> float:
    """A factor from decibels: `-6`, `+3.5`, `-6dB`, `-inf`."""
    return from_decibels(_number(text, "is not a number of decibels")[0])


def parse_factor(text: str) -> float:
    """A factor: any finite number, which may be negative or 0."""
    number, in_decibels = _number(text, "is not a number")
    if in_decibels or number == -math.inf:
        raise ValueError("is in decibels" if in_decibels else "is not a number")
    return number


def from_decibels(number: float) -> float:
    """10^(dB/20)."""
    try:
        return 10.0 ** (number / 20.0)
    except OverflowError:
        raise ValueError("is too large") from None


def parse_points(text: str) -> list[tuple[float, float]]:
    """Times, s, and factors from `0:-inf 2:0dB 1:58:0.5`: each point TIME:GAIN, with spaces or commas between them."""
    words = [word for word in re.split(r"[\s,]+", text) if word]
    if not words:
        raise ValueError("has no points")
    found = []
    for word in words:
        time, colon, level = word.rpartition(":")
        if not colon:
            raise ValueError(f"has the point {word!r}, which is not TIME:GAIN")
        try:
            wrong = time
            seconds = parse_seconds(time)
            wrong = level
            found.append((seconds, parse_gain(level)))
        except ValueError as e:
            raise ValueError(f"has the point {word!r}, in which {wrong!r} {e}") from None
    return found


def _number(text: str, complaint: str) -> tuple[float, bool]:
    """A number, -inf among them, and whether it is in decibels."""
    match = re.fullmatch(_GAIN, text.strip(), re.ASCII)
    if match is None:
        raise ValueError(complaint)
    number = float(match[1])
    if number != -math.inf and not math.isfinite(number):
        raise ValueError("is too large")
    return number, bool(match[2])
