"""How loud latents are: their root mean square."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from .header import Header
from .history import Entry
from .signal import Signal, blocks


class Meter:
    """A signal that passes on what is read and measures it. To be right, every frame is read once.

    Volume is multiplication, so a gain of x dB moves the level by x dB. 0 dB is unit variance, about that of music at
    the level that models are trained at. Between different music it follows loudness only roughly.

    Args:
        source: What is read.
    """

    def __init__(self, source: Signal) -> None:
        """Nothing was measured yet."""
        self._source = source
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
        header = self._source.header
        return self._loudest * header.samples_per_frame / header.model_sample_rate

    @property
    def header(self) -> Header:
        """The source's."""
        return self._source.header

    @property
    def dtype(self) -> str:
        """The source's."""
        return self._source.dtype

    @property
    def name(self) -> str:
        """The source's."""
        return self._source.name

    @property
    def tags(self) -> Mapping[str, str]:
        """The source's."""
        return self._source.tags

    @property
    def history(self) -> Sequence[Entry]:
        """The source's."""
        return self._source.history

    @property
    def fingerprint(self) -> str:
        """The source's."""
        return self._source.fingerprint


def decibels(ratio: float) -> float:
    """20 log10 of a ratio of 0 or more."""
    return 20.0 * math.log10(ratio) if ratio > 0 else -math.inf
