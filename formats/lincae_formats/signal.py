"""What arithmetic works on: anything with a header that can be read frame by frame, and what is computed from it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from .header import Header
from .history import Entry, bounded
from .latents import Latents

_MOST_FRAMES = 4096
_MOST_NUMBERS = 1 << 24  # in memory at once, over all operands: 64 MB


class Signal(Protocol):
    """Latents in memory, an open file, or a result that is computed when it is read."""

    @property
    def header(self) -> Header:
        """Shape, timeline and model."""

    @property
    def dtype(self) -> str:
        """Storage type, `float16` or `float32`."""

    @property
    def name(self) -> str:
        """What messages and histories call it."""

    @property
    def tags(self) -> Mapping[str, str]:
        """Free text."""

    @property
    def history(self) -> Sequence[Entry]:
        """What was done, oldest first. To be asked for after the last read: it may need every frame."""

    @property
    def fingerprint(self) -> str:
        """By which histories name it, see `Fingerprint`; empty for what is not stored as it is."""

    def read(self, start_frame: int = 0, stop_frame: int | None = None) -> np.ndarray:
        """Frames `[start_frame, stop_frame)` as float32 `[channels, latent_dim, n]`."""


Stored = Callable[[int, int], np.ndarray]


@dataclass(frozen=True, eq=False)
class Lazy:
    """A result that is computed as it is read: hours of it take no more memory than seconds.

    Attributes:
        header: Header.
        dtype: Storage type.
        compute: The frames `[start, stop)`, float32; never asked for others than there are.
        steps: What was done since `origin`, oldest first; an entry, or what makes it once all was read.
        origin: What it is made from, where that is one file or one piece of latents.
        name: What messages and histories call it.
        tags: Free text.
        width: Numbers in memory for one frame of it.
        stored: The same frames in the storage type, where that takes no arithmetic.
        seams: Frames at which something else begins: what is read to there is read at once.
    """

    header: Header
    dtype: str
    compute: Callable[[int, int], np.ndarray]
    steps: tuple[Entry | Callable[[], Entry], ...] = ()
    origin: Signal | None = None
    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    width: int = 0
    stored: Stored | None = None
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

    def collect(self) -> Latents:
        """All of it in memory."""
        data = self.read()
        return Latents(data, self.header, self.history, self.tags, self.dtype, self.name)


def stored(signal: Signal) -> Stored | None:
    """What reads a signal's frames in its storage type, where nothing need be computed: a file, or parts of files."""
    found: Stored | None = getattr(signal, "stored", None)
    return found


def width(signal: Signal) -> int:
    """Numbers in memory for one frame of a signal."""
    return getattr(signal, "width", 0) or signal.header.channels * signal.header.latent_dim


def block_frames(signal: Signal) -> int:
    """Frames to read at a time, so that the memory does not depend on the length; whole chunks where that fits."""
    frames = max(16, min(_MOST_FRAMES, _MOST_NUMBERS // width(signal)))
    chunk = signal.header.chunk_frames
    return frames - frames % chunk if frames > chunk else frames


def blocks(signal: Signal, frames: int | None = None) -> Iterator[np.ndarray]:
    """All frames in order, each once, in constant memory unless told how many at a time."""
    for start, stop in spans([signal], frames):
        yield signal.read(start, stop)


def spans(signals: Sequence[Signal], frames: int | None = None) -> Iterator[tuple[int, int]]:
    """The blocks in which to read signals in step, in order, to the end of the longest."""
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
