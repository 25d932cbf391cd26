"""Signals: latents that are read frame by frame, and results that are computed as they are read."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from .header import Header
from .history import Entry, bounded
from .stored import Stored, signed, unknown, unsigned

_MOST_FRAMES = 4096
_MOST_NUMBERS = 1 << 21  # in memory at once, over all operands: 8 MB


class Signal(Protocol):
    """Latents in memory, an open file, or a result that is computed when it is read."""

    @property
    def header(self) -> Header:
        """Shape, length, model and groups."""

    @property
    def dtype(self) -> str:
        """Storage type: `int8`, `float16` or `float32`."""

    @property
    def name(self) -> str:
        """What error messages and histories call it."""

    @property
    def tags(self) -> Mapping[str, str]:
        """Tags: title, artist and so on."""

    @property
    def history(self) -> Sequence[Entry]:
        """What was done, oldest first. Ask after the last read: it may need every frame."""

    @property
    def fingerprint(self) -> str:
        """The hash by which histories name it, see `Fingerprint`; empty for a result that is not stored."""

    def read(self, start_frame: int = 0, stop_frame: int | None = None) -> np.ndarray:
        """Frames `[start_frame, stop_frame)` as float32 `[channels, latent_dim, n]`."""

    def levels(self, start_frame: int = 0, stop_frame: int | None = None) -> np.ndarray:
        """Levels of the same frames, float32 `[channels, GL, n]`: negative where uncertain, NaN where unknown."""


Read = Callable[[int, int], np.ndarray]
ReadStored = Callable[[int, int], Stored]


@dataclass(frozen=True, eq=False)
class Lazy:
    """A result that is computed as it is read: hours of it take no more memory than seconds.

    Attributes:
        header: Header.
        dtype: Storage type.
        compute: The frames `[start, stop)`, float32; never asked for frames outside the signal.
        compute_levels: Their levels, see `stored.signed`; None where they are unknown throughout.
        steps: What was done since `origin`, oldest first: entries, or functions that give one after the last read.
        origin: What it is made from, where that is a single file or piece of latents.
        name: What error messages and histories call it.
        tags: Tags.
        width: Numbers in memory for one frame of it.
        stored: The same frames in the storage type, where nothing has to be rounded.
        copies: An open file whose chunks and steps hold the same integers; only the scale differs.
        scale: With `copies`: the scale of the frames `[start, stop)`, float32 `[C, n]`.
        seams: Boundaries of operands: frames that one read should not cross.
    """

    header: Header
    dtype: str
    compute: Read
    compute_levels: Read | None = None
    steps: tuple[Entry | Callable[[], Entry], ...] = ()
    origin: Signal | None = None
    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    width: int = 0
    stored: ReadStored | None = None
    copies: Signal | None = None
    scale: Read | None = None
    seams: tuple[int, ...] = ()
    fingerprint = ""

    @property
    def history(self) -> tuple[Entry, ...]:
        """The origin's history and the steps, within the format's limit."""
        earlier = () if self.origin is None else self.origin.history
        return bounded([*earlier, *self.entries])

    @property
    def entries(self) -> list[Entry]:
        """The steps."""
        return [step() if callable(step) else step for step in self.steps]

    def read(self, start_frame: int = 0, stop_frame: int | None = None) -> np.ndarray:
        """Computes frames `[start_frame, stop_frame)`, float32 `[channels, latent_dim, n]`."""
        stop = self.header.frames if stop_frame is None else stop_frame
        return self.compute(start_frame, stop)

    def levels(self, start_frame: int = 0, stop_frame: int | None = None) -> np.ndarray:
        """Levels of frames `[start_frame, stop_frame)`, float32 `[channels, GL, n]`; see `Signal.levels`."""
        return unsigned(self.signed_levels(start_frame, self.header.frames if stop_frame is None else stop_frame))

    def signed_levels(self, start: int, stop: int) -> np.ndarray:
        """Levels for arithmetic, complex64, see `stored.signed`."""
        if self.compute_levels is None or not self.header.level_count:
            return signed(unknown((self.header.channels, self.header.level_count, stop - start)))
        return self.compute_levels(start, stop)


def signed_levels(signal: Signal, start: int, stop: int) -> np.ndarray:
    """Levels of a signal for arithmetic, complex64 `[C, GL, n]`, see `stored.signed`."""
    found: Read | None = getattr(signal, "signed_levels", None)
    return signed(signal.levels(start, stop)) if found is None else found(start, stop)


def stored(signal: Signal) -> ReadStored | None:
    """What reads a signal's frames in its storage type, where nothing is computed: a file, or parts of files."""
    found: ReadStored | None = getattr(signal, "stored", None)
    return found


def width(signal: Signal) -> int:
    """Numbers in memory for one frame of a signal."""
    return getattr(signal, "width", 0) or signal.header.channels * signal.header.latent_dim


def block_frames(signal: Signal) -> int:
    """Frames to read at a time, so that memory does not depend on the length; whole chunks where they fit."""
    frames = max(16, min(_MOST_FRAMES, _MOST_NUMBERS // width(signal)))
    chunk = signal.header.chunk_frames
    return frames - frames % chunk if frames > chunk else frames


def blocks(signal: Signal, frames: int | None = None) -> Iterator[np.ndarray]:
    """All frames in order, each once, in constant memory; `frames` at a time where given."""
    for start, stop in spans([signal], frames):
        yield signal.read(start, stop)


def spans(signals: Sequence[Signal], frames: int | None = None) -> Iterator[tuple[int, int]]:
    """The blocks `(start, stop)` in which to read signals side by side, to the end of the longest."""
    size = frames or min(block_frames(signal) for signal in signals)
    ends = sorted({end for s in signals for end in (*getattr(s, "seams", ()), s.header.frames)})
    start = 0
    for end in ends:
        for begin in range(start, end, size):
            yield begin, min(begin + size, end)
        start = max(start, end)


def source_record(signal: Signal) -> Entry:
    """What a history says of an operand: `name`, `fingerprint` and `history` of the file, and the `steps` since."""
    if not isinstance(signal, Lazy):
        return {"name": signal.name, "fingerprint": signal.fingerprint, "history": list(signal.history)}
    if signal.origin is None:
        return {"name": signal.name, "history": signal.entries}
    record = source_record(signal.origin)
    return {**record, "steps": signal.entries} if signal.steps else record


class Meter:
    """A signal that passes another one on and measures its root mean square. Read every frame once.

    A gain of x dB moves the level by x dB. 0 dB is unit variance, about that of music at the level that models are
    trained at. Between different pieces of music it follows loudness only roughly.

    Args:
        source: The signal.
    """

    def __init__(self, source: Signal) -> None:
        self._source = source
        self.header, self.dtype, self.name, self.tags = source.header, source.dtype, source.name, source.tags
        self._sum = 0.0
        self._count = 0
        self._most, self._loudest = -1.0, 0

    def read(self, start_frame: int = 0, stop_frame: int | None = None) -> np.ndarray:
        """Frames `[start_frame, stop_frame)` of the source."""
        block = self._source.read(start_frame, stop_frame)
        if block.shape[2]:
            power = np.square(block, dtype=np.float64).sum(axis=(0, 1))  # of each frame
            self._sum += float(power.sum())
            self._count += block.size
            loudest = int(power.argmax())
            if power[loudest] > self._most:
                self._most, self._loudest = float(power[loudest]), start_frame + loudest
        return block

    def levels(self, start_frame: int = 0, stop_frame: int | None = None) -> np.ndarray:
        """The source's levels."""
        return self._source.levels(start_frame, stop_frame)

    def signed_levels(self, start: int, stop: int) -> np.ndarray:
        """The source's levels for arithmetic."""
        return signed_levels(self._source, start, stop)

    def read_all(self) -> "Meter":
        """Reads and measures everything, in constant memory."""
        for block in blocks(self):
            del block
        return self

    @property
    def rms(self) -> float:
        """Root mean square of what was read."""
        return math.sqrt(self._sum / self._count) if self._count else 0.0

    @property
    def decibels(self) -> float:
        """The root mean square in dB; minus infinity for silence."""
        return decibels(self.rms)

    @property
    def loudest(self) -> float:
        """Where the loudest frame begins, s."""
        header = self.header
        return self._loudest * header.samples_per_frame / header.model_sample_rate

    @property
    def history(self) -> Sequence[Entry]:
        """The source's history."""
        return self._source.history

    @property
    def fingerprint(self) -> str:
        """The source's fingerprint."""
        return self._source.fingerprint


def decibels(ratio: float) -> float:
    """20 log10 of a ratio of 0 or more."""
    return 20.0 * math.log10(ratio) if ratio > 0 else -math.inf
