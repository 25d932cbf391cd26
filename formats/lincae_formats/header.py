"""What a `.lat` file says beside its numbers: root attributes, groups of dimensions, history and tags; and its time."""

import functools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
RATE_RANGE = 100, 10_000_000  # Hz
MAX_SAMPLES = 2**48
MAX_SAMPLES_PER_FRAME = 2**20
MAX_TEXT = 255  # bytes of UTF-8 in `model` and `writer`
MAX_GROUPS_TEXT = 4096  # bytes of JSON in `groups`
MAX_GRID = 64
STEP_RANGE = 1e-4, 64.0  # of a relative step
CHUNK_FRAMES = 256
MAX_OFFSET = 360_000  # s; 100 hours

MAX_HISTORY = 256 * 1024  # bytes of JSON
MAX_HISTORY_ATTRIBUTE = 4096  # bytes of a history that is an attribute; a longer one is a dataset
MAX_DEPTH = 16  # nested histories kept
MAX_TAGS = 64
MAX_TAG_NAME = 64  # bytes
MAX_TAG_VALUE = 1024  # bytes
ELIDED: dict[str, Any] = {"op": "elided"}
_GAIN_TAGS = ("replaygain_", "r128_", "itunnorm")
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")

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
        """Normalises the number types, so that equal groups compare and print alike."""
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
    model_sample_rate: int = 44100
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

    # --- times and frames

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
            raise LatError(
                f"{name}: an offset of {seconds:g} s is beyond {MAX_OFFSET // 3600} hours", "move it by less"
            )
        return position

    def span(
        self, start: float | None, end: float | None, name: str = "latents", *, beyond: bool = False
    ) -> tuple[int, int]:
        """The frames `[first, last)` nearest to `[start, end)` seconds; by default everything.

        Args:
            start: Beginning, s.
            end: End, s.
            name: What error messages call the latents.
            beyond: Whether an end after the end of the audio is moved to that end.

        Raises:
            LatError: the span holds no frame, or is not within the audio.
        """
        first = 0.0 if start is None else start
        last = self.duration if end is None else end
        if beyond and isinstance(last, Real):
            last = min(last, self.duration)
        begin, stop = self.nearest(first, name).frame, self.nearest(last, name).frame
        if first < 0 or last > float(self.frames * self.frame_seconds):
            raise LatError(f"{name}: {first:g} to {last:g} s is not within 0 to {self.duration:.6g} s")
        if last >= self.duration:
            stop = self.frames
        if begin >= stop and first >= self.duration:
            end_text = f"it ends at {self.duration:.6g} s"
            raise LatError(f"{name} holds no frame from {first:g} s on: {end_text}", "begin earlier")
        if begin >= stop:
            raise LatError(f"{name}: {first:g} to {last:g} s holds no frame", "ask for a longer part")
        return begin, stop

    def absolute(
        self, start: float | None, end: float | None, duration: float | None = None, name: str = "latents"
    ) -> tuple[float | None, float | None]:
        """Start and end of a part in seconds from the beginning of the audio; None where not given.

        Args:
            start: Start, s; negative counts from the end of the audio, at most back to its beginning.
            end: End, s; negative counts from the end of the audio.
            duration: Length of the part, s, in place of an end.
            name: What error messages call the latents.

        Raises:
            LatError: the end is not after the start.
        """
        length = self.duration
        first = max(0.0, length + start) if start is not None and start < 0 else start
        last = length + end if end is not None and end < 0 else end
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

        Args:
            name: What error messages call it: the file.

        Raises:
            HeaderError: an attribute has the wrong type or is out of range.
            ShapeError: the number of channels or latent dimensions is out of range, or the groups do not add up.
        """
        _check_int(name, "sample_rate", self.sample_rate, *RATE_RANGE)
        _check_int(name, "num_samples", self.num_samples, 1, MAX_SAMPLES)
        _check_int(name, "model_sample_rate", self.model_sample_rate, *RATE_RANGE)
        _check_int(name, "samples_per_frame", self.samples_per_frame, 1, MAX_SAMPLES_PER_FRAME)
        if self.frame_samples < 1:
            raise HeaderError(f"{name}: a frame covers less than one sample at {self.sample_rate} Hz")
        check_text(name, "model", self.model)
        if not isinstance(self.model_fingerprint, str) or not _FINGERPRINT.fullmatch(self.model_fingerprint):
            raise HeaderError(f"{name}: model_fingerprint is not 'sha256:' and 64 hexadecimal digits")
        scale = self.latent_scale
        if type(scale) is not float or not 0 < scale < math.inf:
            raise HeaderError(f"{name}: latent_scale must be a finite float above 0, not {scale!r}")
        for label, value, most in (
            ("channels", self.channels, MAX_CHANNELS),
            ("latent_dim", self.latent_dim, MAX_LATENT_DIM),
        ):
            if type(value) is not int or not 1 <= value <= most:
                raise ShapeError(f"{name}: {label} is {value!r}, must be 1 to {most}")
        check_groups(self.groups, name)
        total = sum(group.count * group.size for group in self.groups)
        if self.groups and total != self.latent_dim:
            raise ShapeError(f"{name}: the groups have {total} dimensions, latent_dim is {self.latent_dim}")


def joined(headers: Sequence[Header]) -> Header:
    """The header of parts one after the other: every part but the last takes whole frames."""
    return replace(
        headers[-1].shifted(sum(header.frames for header in headers[:-1])),
        channels=max(header.channels for header in headers),
        model=min(header.model for header in headers),
    )


def even_split(frames: int, most: int) -> int:
    """Frames per chunk when frames are split evenly over as few chunks of at most `most` frames as possible."""
    return -(-frames // -(-frames // most))


def check_text(name: str, attribute: str, value: object) -> None:
    """Raises HeaderError unless `value` is 1 to 255 bytes of printable text."""
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value.encode()) <= MAX_TEXT:
        raise HeaderError(f"{name}: {attribute} must be 1 to {MAX_TEXT} bytes of printable text")


def _check_int(name: str, attribute: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise HeaderError(f"{name}: {attribute} is {value!r}, must be an integer from {low} to {high}")


# --- groups


@functools.lru_cache(maxsize=256)
def check_groups(groups: tuple[Group, ...], name: str) -> None:
    """Checks the types and ranges of groups.

    Raises:
        HeaderError: a number has the wrong type or is out of range, or there are too many runs.
    """
    low, high = STEP_RANGE
    for group in groups:
        _check_int(name, "the count of a group", group.count, 1, MAX_LATENT_DIM)
        _check_int(name, "the size of a group", group.size, 1, MAX_LATENT_DIM)
        _check_int(name, "the grid of a group", group.grid, 1, MAX_GRID)
        _check_int(name, "the number of slots", group.slots, 1, MAX_LATENT_DIM)
        if group.count % group.slots:
            raise HeaderError(f"{name}: a run of {group.count} groups cannot have {group.slots} slots")
        if not low <= group.relative_step <= high:  # false for NaN
            raise HeaderError(f"{name}: the relative step of a group is {group.relative_step!r}, not {low} to {high}")
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
    except (ValueError, RecursionError) as e:
        raise HeaderError(f"{name}: the attribute groups is not JSON ({e})") from e
    complaint = f"{name}: groups must be a list of [count, size, relative_step, grid, level, slots]"
    if not isinstance(rows, list) or not rows:
        raise HeaderError(complaint)
    for row in rows:
        if not isinstance(row, list) or len(row) != 6 or row[4] not in (0, 1) or type(row[2]) not in (int, float):
            raise HeaderError(complaint)
    try:
        found = tuple(Group(*row) for row in rows)
    except OverflowError as e:
        raise HeaderError(complaint) from e
    check_groups(found, name)
    return found


# --- history


def dump_history(history: Iterable[Entry], name: str = "history") -> bytes:
    """The canonical JSON of a history: ASCII, sorted keys, no spaces.

    Raises:
        HeaderError: an entry is not a JSON object with a string `op`, or the whole is beyond 256 KiB.
    """
    entries = list(history)
    _check_entries(entries, name)
    try:
        text = json.dumps(entries, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as e:
        raise HeaderError(f"{name}: the history is not JSON: {e}") from e
    check_history_size(len(text), name)
    return text


def load_history(data: bytes, name: str) -> tuple[Entry, ...]:
    """Parses a stored history.

    Raises:
        HeaderError: it is too long, not JSON, or not a list of objects with a string `op`.
    """
    check_history_size(len(data), name)
    try:
        entries = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as e:
        raise HeaderError(f"{name}: the history is not JSON ({e})") from e
    _check_entries(entries, name)
    return tuple(entries)


def check_history_size(size: int, name: str) -> None:
    """Raises HeaderError where a history, or what it is packed in, has more than 256 KiB."""
    if size > MAX_HISTORY:
        raise HeaderError(f"{name}: the history is {size} bytes, at most {MAX_HISTORY} are allowed")


def bounded(history: Iterable[Entry]) -> tuple[Entry, ...]:
    """The same history with its oldest parts replaced by `{"op": "elided"}` until it fits.

    Nested histories go first, the deepest before the others; then the oldest entries.
    """
    entries = list(history)
    depth = MAX_DEPTH
    pruned = [_prune(entry, depth) for entry in entries]
    while len(_compact(pruned)) > MAX_HISTORY and depth:
        depth //= 2
        pruned = [_prune(entry, depth) for entry in entries]
    newest = pruned
    while len(_compact(pruned)) > MAX_HISTORY:
        newest = newest[(len(newest) + 1) // 2 :]
        pruned = [dict(ELIDED), *newest]
    return tuple(pruned)


def _prune(entry: Entry, depth: int) -> Entry:
    """`entry` with the operands' histories cut below `depth` levels."""
    operands = entry.get("operands")
    if not isinstance(operands, list):
        return entry
    return {**entry, "operands": [_prune_operand(operand, depth) for operand in operands]}


def _prune_operand(operand: Any, depth: int) -> Any:
    nested = operand.get("history") if isinstance(operand, dict) else None
    if not isinstance(nested, list) or not (nested or "steps" in operand):
        return operand
    if depth == 0:
        return {**{key: value for key, value in operand.items() if key != "steps"}, "history": [dict(ELIDED)]}
    return {**operand, "history": [_prune(entry, depth - 1) for entry in nested if isinstance(entry, dict)]}


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _check_entries(entries: object, name: str) -> None:
    if not isinstance(entries, list):
        raise HeaderError(f"{name}: the history is not a JSON list")
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("op"), str):
            raise HeaderError(f"{name}: a history entry is not a JSON object with a string 'op'")


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


# --- tags


def check_tags(tags: dict[str, str], name: str) -> None:
    """Raises HeaderError unless the tags are few, short and text."""
    check_tag_count(len(tags), name)
    for key, value in tags.items():
        try:
            sizes = len(key.encode()), len(value.encode())
        except (AttributeError, UnicodeEncodeError) as e:
            raise HeaderError(f"{name}: tag {key!r} is not text") from e
        if not 1 <= sizes[0] <= MAX_TAG_NAME or not key.isprintable():
            raise HeaderError(f"{name}: tag {key!r} must have a name of 1 to {MAX_TAG_NAME} printable bytes")
        if sizes[1] > MAX_TAG_VALUE or "\0" in value:
            raise HeaderError(f"{name}: tag {key!r} must be at most {MAX_TAG_VALUE} bytes without NUL")


def check_tag_count(count: int, name: str) -> None:
    """Raises HeaderError where there are more than 64 tags."""
    if count > MAX_TAGS:
        raise HeaderError(f"{name}: {count} tags, at most {MAX_TAGS} are allowed")


def common_tags(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The tags that all operands of a sum have, with the same value; without those about the level."""
    first, *others = tags
    return without_gain_tags({key: value for key, value in first.items() if all(o.get(key) == value for o in others)})


def without_gain_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags without ReplayGain and R128, which are wrong once the level has changed."""
    return {key: value for key, value in tags.items() if not key.lower().startswith(_GAIN_TAGS)}
