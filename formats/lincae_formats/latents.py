"""Latents in memory: a value with arithmetic."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np

from .errors import DTypeError, LatError, ShapeError
from .header import Header


@dataclass(frozen=True, eq=False)
class Latents:
    """The contents of a `.lat` file. `a + b`, `a - b`, `0.5 * a`, `-a` and `a[12.5:20.0]` make new ones.

    Attributes:
        data: float32 `[channels, latent_dim, frames]`, read-only.
        header: Header.
        history: What was done, oldest first.
        tags: Free text.
        dtype: Storage type, `float16` or `float32`; arithmetic is in float32 either way.
        name: What messages call it.

    Raises:
        ShapeError: `data` does not have the header's shape.
        DTypeError: `dtype` is not a storage type.
    """

    data: np.ndarray
    header: Header
    history: tuple[dict[str, Any], ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    dtype: str = "float16"
    name: str = ""

    __array_ufunc__ = None  # numpy scalars leave `scalar * latents` to this class

    def __post_init__(self) -> None:
        """Checks the parts against each other and makes the data read-only."""
        if self.dtype not in ("float16", "float32"):
            raise DTypeError(f"{self.label}: dtype is {self.dtype!r}", "use float16 or float32")
        self.header.validate(self.label)
        data = np.asarray(self.data, dtype=np.float32)
        if data.shape != self.header.shape:
            raise ShapeError(f"{self.label}: data has shape {data.shape}, the header says {self.header.shape}")
        if data is self.data or data.base is not None:
            data = data.view()
        data.flags.writeable = False
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "history", tuple(self.history))

    @property
    def label(self) -> str:
        """The name, or a word for latents without one."""
        return self.name or "latents"

    @property
    def channels(self) -> int:
        """Audio channels."""
        return self.header.channels

    @property
    def latent_dim(self) -> int:
        """Numbers per channel and frame."""
        return self.header.latent_dim

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.header.frames

    @property
    def sample_rate(self) -> int:
        """Rate of the audio, Hz."""
        return self.header.sample_rate

    @property
    def num_samples(self) -> int:
        """Exact length of the audio, samples at `sample_rate`."""
        return self.header.num_samples

    @property
    def duration(self) -> float:
        """Length of the audio, s."""
        return self.header.duration

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.header.model

    @cached_property
    def fingerprint(self) -> str:
        """`sha256:` of the latents as stored: rounded to `dtype`, little-endian, C order."""
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(self.data, dtype="<f2" if self.dtype == "float16" else "<f4")
        return "sha256:" + hashlib.sha256(stored.data).hexdigest()

    def __add__(self, other: "Latents") -> "Latents":
        """The mixture of both."""
        return algebra.mix([self, other]) if isinstance(other, Latents) else NotImplemented

    def __sub__(self, other: "Latents") -> "Latents":
        """`self` without `other`, as long as the longer."""
        return algebra.mix([self, other], [1.0, -1.0]) if isinstance(other, Latents) else NotImplemented

    def __mul__(self, factor: float) -> "Latents":
        """The same at another volume."""
        return algebra.gain(self, float(factor)) if isinstance(factor, Real) else NotImplemented

    __rmul__ = __mul__

    def __neg__(self) -> "Latents":
        """The same with its sign changed."""
        return algebra.gain(self, -1.0)

    def __getitem__(self, span: slice) -> "Latents":
        """The part from `span.start` to `span.stop` seconds.

        Both ends are rounded to the nearest frame (93 ms at the default timeline). A stop at or beyond the
        end of the audio, but within its last frame, keeps the exact length.

        Raises:
            LatError: the span is empty or not within the audio.
        """
        if not isinstance(span, slice) or span.step is not None:
            raise LatError(f"{self.label}: slice by seconds, for example [12.5:20.0]")
        start, stop = self._frames_of(span)
        per_frame = self.header.frame_samples
        samples = (stop - start) * per_frame
        if stop == self.frames:
            samples = Fraction(self.num_samples) - start * per_frame
        entry = {"op": "slice", "start_frame": start, "stop_frame": stop}
        return Latents(
            data=self.data[:, :, start:stop].copy(),
            header=self.header.with_length(samples, stop - start),
            history=histories.bounded([*self.history, entry]),
            tags=self.tags,
            dtype=self.dtype,
            name=self.name,
        )

    def _frames_of(self, span: slice) -> tuple[int, int]:
        header = self.header
        seconds_per_frame = Fraction(header.samples_per_frame, header.model_sample_rate)
        first = 0.0 if span.start is None else span.start
        last = self.duration if span.stop is None else span.stop
        for end in (first, last):
            if not isinstance(end, Real) or not math.isfinite(end):
                raise LatError(f"{self.label}: {end!r} is no time in seconds")
        if first < 0 or last > float(self.frames * seconds_per_frame):
            raise LatError(f"{self.label}: {first:g} to {last:g} s is not within 0 to {self.duration:.6g} s")
        start = math.floor(Fraction(float(first)) / seconds_per_frame + Fraction(1, 2))
        stop = math.floor(Fraction(float(last)) / seconds_per_frame + Fraction(1, 2))
        if last >= self.duration:
            stop = self.frames
        if not start < stop:
            raise LatError(f"{self.label}: {first:g} to {last:g} s holds no frame", "ask for a longer part")
        return start, stop


from . import algebra  # noqa: E402  the operators need it, and it needs the class
from . import history as histories  # noqa: E402
