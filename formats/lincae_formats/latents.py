"""Latents in memory: a value with arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np

from .errors import DTypeError, LatError, ShapeError
from .fingerprint import Fingerprint
from .header import Header
from .silence import unmarked


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
        """By which histories name the latents as stored, rounded to `dtype`; see `Fingerprint`."""
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(self.data, dtype="<f2" if self.dtype == "float16" else "<f4")
        found = Fingerprint(self.header)
        found.feed(0, unmarked(stored, self.header.chunk_frames))
        return str(found)

    def read(self, start_frame: int = 0, stop_frame: int | None = None) -> np.ndarray:
        """Frames `[start_frame, stop_frame)`, float32 `[channels, latent_dim, n]`, read-only."""
        return self.data[:, :, start_frame:stop_frame]

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
        start, stop = timeline.span(self.header, span.start, span.stop, self.label)
        return lazy.cut(self, start, stop).collect()


from . import algebra, lazy, timeline  # noqa: E402  the operators need them, and they need the class
