"""How far apart two pieces of audio are: MSS, SNR and levels, in constant memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from lincae_core.evaluation.mss import mss_segments
from lincae_core.evaluation.segments import SEGMENT_SECONDS, spans
from lincae_core.sources import ResampledAudio
from lincae_core.transcode import AudioSource
from lincae_formats.errors import IncompatibleError


@dataclass(frozen=True)
class Comparison:
    """What was found, of the stretch that both have.

    Attributes:
        num_samples: samples compared, per channel.
        sample_rate: Hz; that of the reference.
        level_db: RMS of the reference over all channels, dB below full scale; minus infinity for silence.
        other_level_db: likewise of the other.
        snr_db: ``10 log10(||a||^2 / ||a - b||^2)``; infinite when they are equal, NaN when both are silent.
        mss: multi-scale spectral distance, 0 is equal; NaN when the reference is silent. See `evaluation.mss`.
        equal: whether every sample is the same.
    """

    num_samples: int
    sample_rate: int
    level_db: float
    other_level_db: float
    snr_db: float
    mss: float
    equal: bool


def compare(
    reference: AudioSource,
    other: AudioSource,
    names: tuple[str, str] = ("the first", "the second"),
    progress: Callable[[float, float], None] | None = None,
) -> Comparison:
    """Compares audio with a reference, as far as both go; the other is resampled where its rate differs.

    Args:
        reference: the audio that is right.
        other: the audio to judge; one channel stands for as many as the reference has, and the other way round.
        names: what messages call them.
        progress: called with seconds done and in all.

    Raises:
        IncompatibleError: other numbers of channels.
    """
    if reference.channels != other.channels and 1 not in (reference.channels, other.channels):
        raise IncompatibleError(
            f"{names[0]} has {reference.channels} channels, {names[1]} has {other.channels}",
            "compare files with as many, or mono",
        )
    rate = reference.sample_rate
    if other.sample_rate != rate:
        other = ResampledAudio(other, rate)
    length = min(reference.num_samples, other.num_samples)
    measured = {span.start for span in spans(length, rate)}
    sums, values, done = np.zeros(3), [], 0
    pieces = zip(_pieces(reference, length), _pieces(other, length), strict=True)
    for span, (a, b) in zip(_steps(length, rate), pieces, strict=True):
        a, b = np.broadcast_arrays(a, b)
        difference = a.astype(np.float64) - b
        sums += [np.square(x, dtype=np.float64).sum() / len(a) for x in (a, b, difference)]
        if span.start in measured:
            values.append(float(mss_segments(b, a, rate)[0]))
        done += a.shape[1]
        if progress:
            progress(done / rate, length / rate)
    heard = [v for v in values if not math.isnan(v)]
    signal, noise, error = sums
    return Comparison(
        length, rate, _decibels(signal / length), _decibels(noise / length),
        _decibels(signal / error) if error else (math.inf if signal else math.nan),
        sum(heard) / len(heard) if heard else math.nan, not error,
    )  # fmt: skip


def _steps(length: int, rate: int) -> Iterator[slice]:
    """Every stretch of 10 s, the rest too, which `spans` may leave out."""
    step = SEGMENT_SECONDS * rate
    return (slice(at, min(at + step, length)) for at in range(0, length, step))


def _pieces(source: AudioSource, length: int) -> Iterator[np.ndarray]:
    """The first `length` samples of a source in the stretches of `_steps`."""
    held: list[np.ndarray] = []
    have, blocks = 0, source.blocks()
    for span in _steps(length, source.sample_rate):
        size = span.stop - span.start
        while have < size:
            held.append(next(blocks))
            have += held[-1].shape[1]
        data = np.concatenate(held, axis=1)
        yield data[:, :size]
        held, have = [data[:, size:]], have - size


def _decibels(power: float) -> float:
    return 10 * math.log10(power) if power > 0 else -math.inf
