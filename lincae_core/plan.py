"""What encoding or decoding will write, known before any model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lincae_formats import Header
from lincae_formats.errors import UsageError


class Span(NamedTuple):
    """A part of decoded audio.

    Attributes:
        first: First sample.
        last: Sample after the last.
        rate: Hz.
    """

    first: int
    last: int
    rate: int

    @property
    def num_samples(self) -> int:
        """Its length, samples."""
        return self.last - self.first


def encode_history(source: str, model: str) -> list[dict[str, str]]:
    """The history of a file that was encoded: from which audio file, by which model."""
    return [{"op": "encode", "source": Path(source).name, "model": model}]


def decoded_span(
    header: Header, name: str, start: float | None = None, end: float | None = None, sample_rate: int | None = None
) -> Span:
    """The samples from `start` to `end`, s, rounded to the nearest sample, not to frames.

    Args:
        header: of the latents.
        name: what messages call them.
        start: beginning, s.
        end: end, s; beyond the audio it is its end.
        sample_rate: rate of the result, Hz; by default that of the audio that was encoded.

    Raises:
        UsageError: the range is not within the audio.
    """
    rate = sample_rate or header.sample_rate
    total = header.num_samples if rate == header.sample_rate else max(1, round(header.duration * rate))
    first = 0 if start is None else round(start * rate)
    last = total if end is None else min(round(end * rate), total)
    if first < 0 or first >= total or last <= first:
        shown = f"{start or 0:g} {'s and later' if end is None else f'to {end:g} s'}"
        raise UsageError(f"{name}: {shown} is not within its {header.duration:.6g} s", "check --start and --end")
    return Span(first, last, rate)
