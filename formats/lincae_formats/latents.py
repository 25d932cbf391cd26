"""Latents in memory: a value with arithmetic, and the same operations as functions, with times in seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from . import algebra
from .algebra import Fade, Gain
from .errors import LatError, ShapeError
from .header import Entry, Header
from .reader import LatReader, Source
from .signal import Block, Fingerprint, Signal, as_stored, signed, unknown_levels, unsigned
from .writer import check_dtype


class _Coded(NamedTuple):
    """What the arrays of latents were read or computed as: integers, and the signs of levels."""

    data: np.ndarray
    band_levels: np.ndarray | None
    header: Header
    block: Block


@dataclass(frozen=True, eq=False, repr=False)
class Latents(Signal):
    """The contents of a `.lat` file.

    `a + b`, `a - b`, `0.5 * a`, `a / 2`, `-a`, `sum([a, b])` and `a[12.5:20.0]` (seconds) make new ones. Arithmetic is
    in float32; latents are rounded to their storage type when they are written. Integers of a file that were only
    scaled or cut are written as they were.

    Attributes:
        data: float32 `[channels, latent_dim, frames]`, read-only.
        header: Header.
        history: What was done, oldest first.
        tags: Tags.
        dtype: Storage type: `int8`, `float16` or `float32`; by default `int8` where the header has groups.
        name: What error messages call it.
        band_levels: Levels of the groups that have one, float32 `[channels, GL, frames]`: 0 or more; negative where
            uncertain, NaN where unknown. None: unknown.

    Raises:
        ShapeError: `data` or `band_levels` do not have the header's shape.
        DTypeError: `dtype` is not a storage type, or needs groups that the header lacks.
    """

    data: np.ndarray
    header: Header
    history: tuple[Entry, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    dtype: str = ""
    name: str = ""
    band_levels: np.ndarray | None = None
    coded: _Coded | None = field(default=None)

    __array_ufunc__ = None  # numpy scalars leave `scalar * latents` to this class

    def __post_init__(self) -> None:
        dtype = self.dtype or self.header.default_dtype
        check_dtype(dtype, self.header, self.label)
        self.header.validate(self.label)
        channels, _, frames = self.header.shape
        data = _frozen(self.data, self.header.shape, self.label, "data")
        bands, coded = self.band_levels, self.coded
        if bands is not None:
            bands = _frozen(bands, (channels, self.header.level_count, frames), self.label, "band_levels")
        if coded is not None:  # it goes where what it stands for was replaced
            same = self.data is coded.data and self.band_levels is coded.band_levels
            same = same and self.header.groups == coded.header.groups and (coded.block.steps is None or dtype == "int8")
            coded = _Coded(data, bands, self.header, coded.block) if same else None
        facts = {"dtype": dtype, "data": data, "band_levels": bands, "coded": coded, "history": tuple(self.history)}
        for name, value in facts.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_array(
        cls, array: Any, like: "Header | Latents | Signal", *, levels: Any = None, num_samples: int | None = None
    ) -> "Latents":
        """Latents from an array: what a generative model makes, for instance.

        Args:
            array: Numbers `[channels, latent_dim, frames]` or `[latent_dim, frames]`; anything numpy can convert.
            like: A header, or latents of the same model: model, rates and groups are taken from it.
            levels: Levels `[channels, GL, frames]`, where they are known.
            num_samples: Length of the audio; by default whole frames.

        Raises:
            ShapeError: another number of dimensions, or a length that does not make as many frames.
        """
        data = np.asarray(array, dtype=np.float32)
        data = data[None] if data.ndim == 2 else data
        base = like if isinstance(like, Header) else like.header
        if data.ndim != 3 or data.shape[1] != base.latent_dim or not data.shape[2]:
            raise ShapeError(
                f"an array of shape {data.shape} is not [channels, {base.latent_dim}, frames]", "transpose it"
            )
        header = replace(base, channels=data.shape[0], num_samples=num_samples or 1)
        if num_samples is None:
            header = header.with_length(data.shape[2] * base.frame_samples, data.shape[2])
        dtype = "" if isinstance(like, Header) else like.dtype
        return cls(data, header, dtype=dtype, band_levels=levels)

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        channels = "1 channel" if self.channels == 1 else f"{self.channels} channels"
        size = f"{self.latent_dim} x {self.frames}"
        return f"<Latents{name}: {self.duration:.4g} s, {channels}, {size}, {self.dtype}, model {self.model}>"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.data, dtype=dtype) if copy else np.asarray(self.data, dtype=dtype)

    channels = property(attrgetter("header.channels"), doc="Audio channels.")
    latent_dim = property(attrgetter("header.latent_dim"), doc="Numbers per channel and frame.")
    frames = property(attrgetter("header.frames"), doc="Number of frames.")
    sample_rate = property(attrgetter("header.sample_rate"), doc="Rate of the audio, Hz.")
    num_samples = property(attrgetter("header.num_samples"), doc="Exact length of the audio, samples at `sample_rate`.")
    duration = property(attrgetter("header.duration"), doc="Length of the audio, s.")
    model = property(attrgetter("header.model"), doc="Name of the model.")

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        """The hash by which histories name the latents as stored, rounded to `dtype`; see `Fingerprint`."""
        found, chunk = Fingerprint(), self.header.chunk_frames
        for start in range(0, self.frames, chunk):  # rounded as the writer rounds them
            stop = min(start + chunk, self.frames)
            found.feed(start, as_stored(self.block(start, stop), self.dtype, self.header.groups, self.label))
        return str(found)

    @property
    def rounded(self) -> bool:  # type: ignore[override]
        """Whether the latents are the integers of a file."""
        return self.coded is not None and self.coded.block.steps is not None

    def block(self, start_frame: int, stop_frame: int) -> Block:
        """Frames `[start_frame, stop_frame)`, see `Signal.block`."""
        if self.coded is not None:
            return self.coded.block.cut(start_frame, stop_frame)
        levels = self.band_levels
        if levels is None:
            levels = unknown_levels(self.channels, self.header.level_count, self.frames)
        return Block(self.data[..., start_frame:stop_frame], levels=signed(levels[..., start_frame:stop_frame]))

    def read(self, start_frame: int = 0, stop_frame: int | None = None) -> np.ndarray:
        """Frames `[start_frame, stop_frame)`, float32 `[channels, latent_dim, n]`, read-only."""
        return self.data[:, :, start_frame:stop_frame]

    def __add__(self, other: "Latents") -> "Latents":
        return mix([self, other]) if isinstance(other, Latents) else NotImplemented

    def __radd__(self, other: object) -> "Latents":
        return self if isinstance(other, Real) and other == 0 else NotImplemented

    def __sub__(self, other: "Latents") -> "Latents":
        return mix([self, other], [1.0, -1.0]) if isinstance(other, Latents) else NotImplemented

    def __mul__(self, factor: float) -> "Latents":
        return gain(self, float(factor)) if isinstance(factor, Real) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "Latents":
        if not isinstance(divisor, Real):
            return NotImplemented
        if divisor == 0:
            raise ZeroDivisionError(f"{self.label}: division by zero")
        return gain(self, 1.0 / float(divisor))

    def __neg__(self) -> "Latents":
        return gain(self, -1.0)

    def __getitem__(self, span: slice) -> "Latents":
        """The part from `span.start` to `span.stop` seconds.

        Both ends are rounded to the nearest frame (93 ms at the default timeline). A stop at or beyond the end of the
        audio, but within its last frame, keeps the exact length.

        Raises:
            LatError: the span is empty or not within the audio.
        """
        if not isinstance(span, slice) or span.step is not None:
            raise LatError(f"{self.label}: slice by seconds, for example [12.5:20.0]; give several operands as a list")
        return collect(algebra.cut(self, *self.header.span(span.start, span.stop, self.label)))


def _frozen(array: np.ndarray, shape: tuple[int, ...], label: str, what: str) -> np.ndarray:
    data = np.asarray(array, dtype=np.float32)
    if data.shape != shape:
        raise ShapeError(f"{label}: {what} has shape {data.shape}, the header says {shape}")
    if data is array or data.base is not None:
        data = data.view()
    data.flags.writeable = False
    return data


def collect(signal: Signal) -> Latents:
    """All of a signal in memory."""
    header = signal.header
    block = signal.block(0, header.frames)
    data, signs = block.values(header.groups), block.signed_levels(header.groups)
    levels = unsigned(signs)
    bands = None if not levels.size or np.isnan(levels).all() else levels
    coded = _Coded(data, bands, header, block if block.steps is not None else Block(data, levels=signs))
    return Latents(data, header, tuple(signal.history), signal.tags, signal.dtype, signal.name, bands, coded)


def read_lat(source: Source) -> Latents:
    """Reads a whole file into memory.

    Raises:
        LatError: see LatReader.
    """
    with LatReader(source) as reader:
        return collect(reader)


def _frames(signal: Signal, seconds: float) -> int:
    return signal.header.offset(seconds, signal.label).frame


def mix(
    operands: Sequence[Signal],
    gains: Sequence[float] | None = None,
    *,
    offsets: Sequence[float] | None = None,
    length: str = "longest",
    sample_rate: int | None = None,
) -> Latents:
    """The sum of `gain * operand`, each from its offset on: seconds, rounded to frames; see `algebra.mix`."""
    frames = None
    if offsets is not None:
        frames = [_frames(z, s) for z, s in zip(operands, offsets, strict=False)]
        frames += [0] * (len(offsets) - len(frames))  # another number is refused by `algebra.mix`
    return collect(algebra.mix(operands, gains, offsets=frames, length=length, sample_rate=sample_rate))


def subtract(whole: Signal, parts: Sequence[Signal], *, sample_rate: int | None = None) -> Latents:
    """`whole` minus every part, as long as `whole`; see `algebra.subtract`."""
    return collect(algebra.subtract(whole, parts, sample_rate=sample_rate))


def gain(latents: Signal, by: float | Gain) -> Latents:
    """Latents times a factor, which may be 0 or negative, or times a `Curve`; see `algebra.gain`."""
    return collect(algebra.gain(latents, by))


def fade(latents: Signal, *, fade_in: float = 0.0, fade_out: float = 0.0, shape: str = "linear") -> Latents:
    """Latents that rise from silence and fall to silence, s; see `Fade`."""
    return collect(algebra.gain(latents, Fade(latents.header.duration, fade_in, fade_out, shape)))


def shift(latents: Signal, seconds: float) -> Latents:
    """Latents after some silence, or without their beginning where negative; rounded to frames."""
    return collect(algebra.shift(latents, _frames(latents, seconds)))


def concat(parts: Sequence[Signal], *, sample_rate: int | None = None) -> Latents:
    """Latents one after the other; every part but the last takes whole frames, so up to 93 ms of silence follow."""
    return collect(algebra.concat(parts, sample_rate=sample_rate))


def remix(latents: Signal, matrix: Sequence[Sequence[float]] | str) -> Latents:
    """Latents with other channels: a matrix, or sox's remix notation such as `1,2` or `2 1`; see `channels.remix`.

    Raises:
        LatError: the matrix or the notation is wrong, or not for the latents' channels.
    """
    from . import channels

    if isinstance(matrix, str):
        try:
            matrix = channels.matrix_builder("remix", matrix)(latents.header.channels)
        except ValueError as e:
            raise LatError(f"{latents.label}: {matrix!r} {e}", "for example: 1,2 or 2 1") from None
    return collect(channels.remix(latents, matrix))


def pad(latents: Signal, before: float = 0.0, after: float = 0.0) -> Latents:
    """Latents with silence around them, s; that before them is rounded to frames."""
    return collect(algebra.pad(latents, _frames(latents, before), after))


def repeat(latents: Signal, times: int) -> Latents:
    """Latents several times in a row; every time but the last takes whole frames."""
    return collect(algebra.repeat(latents, times))


def crossfade(
    parts: Sequence[Signal], seconds: float, shape: str = "sine", *, sample_rate: int | None = None
) -> Latents:
    """Latents one after another, each fading in while the one before it fades out; see `algebra.crossfade`."""
    return collect(algebra.crossfade(parts, seconds, shape, sample_rate=sample_rate)[0])
