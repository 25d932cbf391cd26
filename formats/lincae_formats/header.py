"""The header of a `.lat` file: the root attributes, the groups of latent dimensions, and the length in frames."""

import functools
import json
import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction

from .errors import HeaderError, ShapeError

FORMAT = "lincae-lat"
FORMAT_VERSION = "1.0"
MAJOR = 1

MODEL_SAMPLE_RATE = 44100  # Hz, where the attribute is missing
MAX_CHANNELS = 64
MAX_LATENT_DIM = 4096
RATE_RANGE = (100, 10_000_000)  # Hz
MAX_SAMPLES = 2**48
MAX_SAMPLES_PER_FRAME = 2**20
MAX_TEXT = 255  # bytes of UTF-8 in `model` and `writer`
MAX_GROUPS_TEXT = 4096  # bytes of JSON in `groups`
MAX_GRID = 64
STEP_RANGE = (1e-4, 64.0)  # of a relative step
CHUNK_FRAMES = 256

_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")


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
    """The root attributes and the shape of one `.lat` file.

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
    def frame_samples(self) -> Fraction:
        """Samples at `sample_rate` that one frame covers, exactly."""
        return Fraction(self.samples_per_frame * self.sample_rate, self.model_sample_rate)

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

    def with_length(self, samples: Fraction, frames: int) -> "Header":
        """This header with the smallest whole length of at least `samples` that still makes exactly `frames` frames."""
        least = math.floor((frames - 1) * self.frame_samples) + 1
        whole = max(least, min(math.ceil(samples), math.floor(frames * self.frame_samples)))
        return replace(self, num_samples=whole)

    def validate(self, name: str = "header") -> None:
        """Checks types and ranges.

        Args:
            name: What error messages call it: the file.

        Raises:
            HeaderError: an attribute has the wrong type or is out of range.
            ShapeError: the number of channels or latent dimensions is out of range, or the groups do not add up.
        """
        low, high = RATE_RANGE
        _check_int(name, "sample_rate", self.sample_rate, low, high)
        _check_int(name, "num_samples", self.num_samples, 1, MAX_SAMPLES)
        _check_int(name, "model_sample_rate", self.model_sample_rate, low, high)
        _check_int(name, "samples_per_frame", self.samples_per_frame, 1, MAX_SAMPLES_PER_FRAME)
        if self.frame_samples < 1:
            raise HeaderError(f"{name}: a frame covers less than one sample at {self.sample_rate} Hz")
        check_text(name, "model", self.model)
        if not isinstance(self.model_fingerprint, str) or not _FINGERPRINT.fullmatch(self.model_fingerprint):
            raise HeaderError(f"{name}: model_fingerprint is not 'sha256:' and 64 hexadecimal digits")
        scale = self.latent_scale
        if type(scale) is not float or not (math.isfinite(scale) and scale > 0):
            raise HeaderError(f"{name}: latent_scale must be a finite float above 0, not {scale!r}")
        for label, value, most in (
            ("channels", self.channels, MAX_CHANNELS),
            ("latent_dim", self.latent_dim, MAX_LATENT_DIM),
        ):
            if type(value) is not int or not 1 <= value <= most:
                raise ShapeError(f"{name}: {label} is {value!r}, must be 1 to {most}")
        self._validate_groups(name)

    def _validate_groups(self, name: str) -> None:
        if not self.groups:
            return
        check_groups(self.groups, name)
        total = sum(group.count * group.size for group in self.groups)
        if total != self.latent_dim:
            raise ShapeError(f"{name}: the groups have {total} dimensions, latent_dim is {self.latent_dim}")


@functools.lru_cache(maxsize=256)
def check_groups(groups: tuple[Group, ...], name: str) -> None:
    """Checks the types and ranges of groups.

    Raises:
        HeaderError: a number has the wrong type or is out of range, or there are too many runs.
    """
    for group in groups:
        _check_int(name, "the count of a group", group.count, 1, MAX_LATENT_DIM)
        _check_int(name, "the size of a group", group.size, 1, MAX_LATENT_DIM)
        _check_int(name, "the grid of a group", group.grid, 1, MAX_GRID)
        _check_int(name, "the number of slots", group.slots, 1, MAX_LATENT_DIM)
        if group.count % group.slots:
            raise HeaderError(f"{name}: a run of {group.count} groups cannot have {group.slots} slots")
        low, high = STEP_RANGE
        if not low <= group.relative_step <= high:  # false for NaN
            raise HeaderError(f"{name}: the relative step of a group is {group.relative_step!r}, not {low} to {high}")
    if len(groups_text(groups)) > MAX_GROUPS_TEXT:
        raise HeaderError(f"{name}: the groups take more than {MAX_GROUPS_TEXT} bytes of JSON")


def groups_text(groups: tuple[Group, ...]) -> str:
    """Groups as they are stored: compact JSON, `[[count,size,relative_step,grid,level,slots],...]`."""
    rows = [[g.count, g.size, _short(g.relative_step), g.grid, int(g.level), g.slots] for g in groups]
    return json.dumps(rows, separators=(",", ":"))


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
    groups = []
    for row in rows:
        if not isinstance(row, list) or len(row) != 6 or row[4] not in (0, 1) or type(row[2]) not in (int, float):
            raise HeaderError(complaint)
        try:
            groups.append(Group(*row))
        except OverflowError as e:
            raise HeaderError(complaint) from e
    found = tuple(groups)
    check_groups(found, name)
    return found


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


def _short(number: float) -> float | int:
    return int(number) if number == int(number) else number
